"""Public keys and signatures, by the `cryptography` library.

Imported where the first key set is read: a sidecar without request authentication does without its 10 MiB.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from meshpy.jose.algorithms import Algorithm
from meshpy.jose.encoding import decode_base64url

__all__ = ["PublicKey", "is_signed_by", "public_key"]

PublicKey: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | Ed25519PublicKey

_RSA_BITS = (2048, 8192)
"""RFC 7518 §3.3 wants 2048 or more; a very long modulus is a way to burn our time."""
_CURVES: Mapping[str, ec.EllipticCurve] = {
    "P-256": ec.SECP256R1(),
    "P-384": ec.SECP384R1(),
    "P-521": ec.SECP521R1(),
}
_DIGESTS: Mapping[str, hashes.HashAlgorithm] = {
    "SHA256": hashes.SHA256(),
    "SHA384": hashes.SHA384(),
    "SHA512": hashes.SHA512(),
}


def public_key(member: Mapping[str, Any]) -> tuple[str, PublicKey]:
    """Family and key of a member of a key set.

    Raises:
        ValueError, TypeError: it is none that tokens are verified with; the text goes on from its place.
    """
    try:
        return _public(member)
    except UnsupportedAlgorithm as error:
        raise ValueError(str(error)) from None


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


def is_signed_by(public: PublicKey, signed: bytes, signature: bytes, algorithm: Algorithm) -> bool:
    """Whether the holder of this key made the signature."""
    digest = _DIGESTS[algorithm.digest]
    try:
        if isinstance(public, rsa.RSAPublicKey):
            pss = padding.PSS(padding.MGF1(digest), digest.digest_size)
            public.verify(signature, signed, pss if algorithm.is_pss else padding.PKCS1v15(), digest)
        elif isinstance(public, ec.EllipticCurvePublicKey):
            half = algorithm.coordinate_bytes
            if len(signature) != 2 * half:
                return False
            r, s = int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big")
            public.verify(encode_dss_signature(r, s), signed, ec.ECDSA(digest))
        elif isinstance(public, Ed25519PublicKey):
            public.verify(signature, signed)
    except InvalidSignature:
        return False
    return True


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
