"""Compact JWS (RFC 7515 §3.1): read within bounds, verified with the keys of a set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from meshpy.jose.algorithms import ALGORITHMS
from meshpy.jose.encoding import decode_base64url, strict_object
from meshpy.jose.errors import TokenError
from meshpy.jose.keys import KeySet

__all__ = ["ALGORITHMS", "MAX_TOKEN_CHARS", "Token", "read_token", "verify"]

MAX_TOKEN_CHARS = 16 * 1024
_MAX_TRIES = 8
"""Keys tried for a token without `kid`: each costs a signature check that a stranger can ask for."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token as read; nothing of it is true before `verify`.

    Args:
        alg: one of ALGORITHMS.
        payload: the claims.
        payload_text: the payload's segment.
    """

    alg: str
    kid: str
    payload: Mapping[str, Any]
    payload_text: str
    signed: bytes
    signature: bytes


def read_token(text: str) -> Token:
    """Read a compact JWS whose payload is a JSON object.

    Raises:
        TokenError: it is none, too long, or of an algorithm that is not accepted.
    """
    if len(text) > MAX_TOKEN_CHARS:
        raise TokenError(f"the token has more than {MAX_TOKEN_CHARS} characters")
    parts = text.split(".")
    if len(parts) != 3:
        raise TokenError("the token is no JWT: it has not three parts")
    try:
        header = strict_object(decode_base64url(parts[0]))
        payload = strict_object(decode_base64url(parts[1]))
        signature = decode_base64url(parts[2])
    except ValueError as error:
        raise TokenError(f"a part of the token {error}") from None
    alg, kid = header.get("alg"), header.get("kid", "")
    if not isinstance(alg, str) or alg not in ALGORITHMS:
        raise TokenError(f"the token's algorithm is not accepted; these are: {', '.join(ALGORITHMS)}")
    if not isinstance(kid, str):
        raise TokenError("the token's kid is no string")
    if "crit" in header or "b64" in header:
        raise TokenError("the token asks for an extension that is not supported (crit)")
    return Token(alg, kid, payload, parts[1], f"{parts[0]}.{parts[1]}".encode("ascii"), signature)


def verify(token: Token, keys: KeySet) -> None:
    """Check the signature.

    Raises:
        TokenError: no key of the set made it.
    """
    algorithm = ALGORITHMS[token.alg]
    fitting = [
        key
        for key in keys.keys
        if key.family == algorithm.family
        and key.alg in ("", token.alg)
        and (not token.kid or not key.kid or key.kid == token.kid)
    ]
    if not fitting:
        raise TokenError("no key of the issuer has the token's kid and algorithm")
    from meshpy.jose.public_keys import is_signed_by  # noqa: PLC0415 - is here since the keys were read

    tried = fitting[:_MAX_TRIES]
    if not any(is_signed_by(key.key, token.signed, token.signature, algorithm) for key in tried):
        raise TokenError("the token's signature is wrong")
