"""Compact JWS (RFC 7515 §3.1): read within bounds, verified with the keys of a set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from meshpy.jose.encoding import decode_base64url, strict_object
from meshpy.jose.errors import TokenError
from meshpy.jose.keys import KeySet, VerificationKey

__all__ = ["ALGORITHMS", "MAX_TOKEN_CHARS", "Token", "read_token", "verify"]

MAX_TOKEN_CHARS = 16 * 1024
_MAX_TRIES = 8
"""Keys tried for a token without `kid`: each costs a signature check that a stranger can ask for."""


class _Algorithm(NamedTuple):
    family: str
    digest: hashes.HashAlgorithm
    is_pss: bool = False
    coordinate_bytes: int = 0


ALGORITHMS: Mapping[str, _Algorithm] = {
    "RS256": _Algorithm("RSA", hashes.SHA256()),
    "RS384": _Algorithm("RSA", hashes.SHA384()),
    "RS512": _Algorithm("RSA", hashes.SHA512()),
    "PS256": _Algorithm("RSA", hashes.SHA256(), is_pss=True),
    "PS384": _Algorithm("RSA", hashes.SHA384(), is_pss=True),
    "PS512": _Algorithm("RSA", hashes.SHA512(), is_pss=True),
    "ES256": _Algorithm("P-256", hashes.SHA256(), coordinate_bytes=32),
    "ES384": _Algorithm("P-384", hashes.SHA384(), coordinate_bytes=48),
    "ES512": _Algorithm("P-521", hashes.SHA512(), coordinate_bytes=66),
    "EdDSA": _Algorithm("Ed25519", hashes.SHA512()),
    "Ed25519": _Algorithm("Ed25519", hashes.SHA512()),
}
"""RFC 7518 §3.1 and RFC 9864, asymmetric ones alone: `HS256` and `none` are not algorithms here."""


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
    if not any(_is_signed_by(token, key, algorithm) for key in fitting[:_MAX_TRIES]):
        raise TokenError("the token's signature is wrong")


def _is_signed_by(token: Token, key: VerificationKey, algorithm: _Algorithm) -> bool:
    public, signature, digest = key.key, token.signature, algorithm.digest
    try:
        if isinstance(public, rsa.RSAPublicKey):
            pss = padding.PSS(padding.MGF1(digest), digest.digest_size)
            public.verify(signature, token.signed, pss if algorithm.is_pss else padding.PKCS1v15(), digest)
        elif isinstance(public, ec.EllipticCurvePublicKey):
            half = algorithm.coordinate_bytes
            if len(signature) != 2 * half:
                return False
            r, s = int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big")
            public.verify(encode_dss_signature(r, s), token.signed, ec.ECDSA(digest))
        elif isinstance(public, Ed25519PublicKey):
            public.verify(signature, token.signed)
    except InvalidSignature:
        return False
    return True
