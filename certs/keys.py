"""Private keys: made here, P-256 only, and written as PKCS #8."""

from __future__ import annotations

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from certs.errors import KeyRefused

__all__ = ["generate_key", "key_from_pem", "key_to_pem", "same_public_key"]


def generate_key() -> ec.EllipticCurvePrivateKey:
    """A new P-256 key from the operating system's randomness."""
    return ec.generate_private_key(ec.SECP256R1())


def key_to_pem(key: ec.EllipticCurvePrivateKey, passphrase: bytes | None = None) -> bytes:
    """PKCS #8 PEM, encrypted when a passphrase is given."""
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        encryption = serialization.BestAvailableEncryption(passphrase)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def key_from_pem(pem: bytes, passphrase: bytes | None = None) -> ec.EllipticCurvePrivateKey:
    """Read an elliptic-curve private key.

    Raises:
        KeyRefused: no key, another kind of key, or a missing, wrong or needless passphrase.
    """
    try:
        key = serialization.load_pem_private_key(pem, passphrase)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        # The library's text may quote key material: only its type is told.
        raise KeyRefused(
            f"no readable private key ({type(error).__name__}; is the passphrase right?)"
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise KeyRefused("the private key is not an elliptic-curve key")
    return key


def same_public_key(left: object, right: object) -> bool:
    """Whether two public keys are the same key; keys of other kinds than EC never are."""
    if not isinstance(left, ec.EllipticCurvePublicKey) or not isinstance(right, ec.EllipticCurvePublicKey):
        return False
    return left.curve.name == right.curve.name and left.public_numbers() == right.public_numbers()
