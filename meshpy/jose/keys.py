"""JSON Web Key Sets (RFC 7517): the public keys that tokens are verified with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from meshpy.jose.encoding import decode_base64url, strict_object
from meshpy.jose.errors import JwksError

__all__ = ["MAX_KEYS", "KeySet", "PublicKey", "VerificationKey", "parse_jwks"]

PublicKey: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | Ed25519PublicKey

MAX_KEYS = 100
_RSA_BITS = (2048, 8192)
"""RFC 7518 §3.3 wants 2048 or more; a very long modulus is a way to burn our time."""
_CURVES: Mapping[str, ec.EllipticCurve] = {
    "P-256": ec.SECP256R1(),
    "P-384": ec.SECP384R1(),
    "P-521": ec.SECP521R1(),
}


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
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
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
    family, key = _public(member)
    return VerificationKey(kid, alg, family, key)


def _public(member: Mapping[str, Any]) -> tuple[str, PublicKey]:
    match member.get("kty"):
        case "RSA":
            numbers = rsa.RSAPublicNumbers(_integer(member, "e"), _integer(member, "n"))
            low, high = _RSA_BITS
            if not low <= numbers.n.bit_length() <= high:
                raise ValueError(f"has {numbers.n.bit_length()} bits; {low} to {high} are accepted")
            return "RSA", numbers.public_key()
        case "EC":
            name = member.get("crv")
            curve = _CURVES.get(name) if isinstance(name, str) else None
            if curve is None or not isinstance(name, str):
                raise ValueError("is of a curve that is not P-256, P-384 or P-521")
            point = ec.EllipticCurvePublicNumbers(_integer(member, "x"), _integer(member, "y"), curve)
            return name, point.public_key()
        case "OKP" if member.get("crv") == "Ed25519":
            return "Ed25519", Ed25519PublicKey.from_public_bytes(_bytes(member, "x"))
        case "oct":
            raise ValueError("is a shared secret; only public keys are accepted")
        case _:
            raise ValueError("is of a type that is not RSA, EC or OKP with Ed25519")


def _bytes(member: Mapping[str, Any], name: str) -> bytes:
    value = member.get(name)
    if not isinstance(value, str):
        raise TypeError(f"has no `{name}`")
    try:
        return decode_base64url(value)
    except ValueError:
        raise ValueError(f"has a `{name}` that is no base64url") from None


def _integer(member: Mapping[str, Any], name: str) -> int:
    return int.from_bytes(_bytes(member, name), "big")
