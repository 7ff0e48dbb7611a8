"""JSON Web Key Sets (RFC 7517): the public keys that tokens are verified with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from meshpy.jose.encoding import strict_object
from meshpy.jose.errors import JwksError

if TYPE_CHECKING:
    from meshpy.jose.public_keys import PublicKey

__all__ = ["MAX_KEYS", "KeySet", "VerificationKey", "parse_jwks"]

MAX_KEYS = 100


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """One public key.

    Args:
        kid: empty when the key has none.
        alg: the one algorithm it is for; empty when any of its type.
        family: `RSA`, `Ed25519`, or the name of a curve.
    """

    kid: str
    alg: str
    family: str
    key: PublicKey


@dataclass(frozen=True, slots=True)
class KeySet:
    """Args:
    skipped: why keys of the text are not used, one sentence each.
    """

    keys: tuple[VerificationKey, ...] = ()
    skipped: tuple[str, ...] = ()


def parse_jwks(text: str) -> KeySet:
    """Read a key set; keys that cannot verify a token are skipped (RFC 7517 §5).

    Raises:
        JwksError: it is no key set, or no key of it can be used.
    """
    try:
        members = strict_object(text).get("keys")
    except ValueError as error:
        raise JwksError(f"the key set {error}") from None
    if not isinstance(members, list) or not members:
        raise JwksError("the key set has no `keys`")
    if len(members) > MAX_KEYS:
        raise JwksError(f"the key set has {len(members)} keys; at most {MAX_KEYS} are read")
    keys: list[VerificationKey] = []
    skipped: list[str] = []
    for index, member in enumerate(members):
        try:
            keys.append(_key(member))
        except (ValueError, TypeError) as error:
            skipped.append(f"keys[{index}] {error}")
    if not keys:
        raise JwksError(f"no key of the set can verify a token: {'; '.join(skipped)}")
    return KeySet(tuple(keys), tuple(skipped))


def _key(member: Any) -> VerificationKey:
    if not isinstance(member, dict):
        raise TypeError("is no object")
    if member.get("use", "sig") != "sig":
        raise ValueError("is not for signatures")
    operations = member.get("key_ops", ["verify"])
    if not isinstance(operations, list) or "verify" not in operations:
        raise ValueError("is not for verifying")
    kid, alg = member.get("kid", ""), member.get("alg", "")
    if not isinstance(kid, str) or not isinstance(alg, str):
        raise TypeError("has a kid or alg that is no string")
    from meshpy.jose.public_keys import public_key  # noqa: PLC0415 - 10 MiB, for those who verify tokens

    family, key = public_key(member)
    return VerificationKey(kid, alg, family, key)
