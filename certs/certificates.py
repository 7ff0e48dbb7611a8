"""Certificates of any form, as the X.509 library has them.

A sidecar imports this where it meets one that is not of the plainest form (`certs.plain`), and not before.
"""

from __future__ import annotations

from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from certs.errors import CertError, PeerRefused
from certs.keys import key_from_pem, key_to_pem, same_public_key
from certs.peer import validate_leaf
from certs.spiffe import SpiffeId
from certs.svid import read_leaf

__all__ = ["certificate_of", "certificates_from_pem", "check_root", "der_of", "is_issuer", "read_pair"]


def certificates_from_pem(pem: bytes) -> tuple[x509.Certificate, ...]:
    """Every certificate of a PEM text, in order.

    Raises:
        CertError: none, or one that is damaged.
    """
    try:
        return tuple(x509.load_pem_x509_certificates(pem))
    except (ValueError, TypeError, x509.InvalidVersion, UnsupportedAlgorithm) as error:
        raise CertError("no readable PEM certificate") from error


def certificate_of(der: bytes) -> x509.Certificate:
    """Raises:
    CertError: it is damaged.
    """
    try:
        return x509.load_der_x509_certificate(der)
    except (ValueError, TypeError, x509.InvalidVersion, UnsupportedAlgorithm) as error:
        raise CertError("no readable certificate") from error


def der_of(certificate: x509.Certificate) -> bytes:
    """The bytes that were signed over, with their signature."""
    return certificate.public_bytes(Encoding.DER)


def check_root(root: x509.Certificate) -> None:
    """Raises:
    CertError: it may not sign certificates.
    """
    try:
        is_ca = root.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension) as error:
        raise CertError("a root certificate without readable basic constraints") from error
    if not is_ca:
        raise CertError("a trust bundle holds root certificates; this one is no CA (CA:FALSE)")


def is_issuer(root: bytes, chain_pem: bytes) -> bool:
    """Whether the last certificate of a chain names this root as its issuer."""
    return certificate_of(root).subject == certificates_from_pem(chain_pem)[-1].issuer


def read_pair(chain_pem: bytes, key_pem: bytes) -> tuple[datetime, datetime, SpiffeId, bytes]:
    """From when, until when and whose the first certificate is; its key as `key_to_pem` writes it.

    Raises:
        KeyRefused: the key cannot be read.
        CertError: the certificate is no X509-SVID, or of another key.
    """
    leaf, key = certificates_from_pem(chain_pem)[0], key_from_pem(key_pem)
    if not same_public_key(leaf.public_key(), key.public_key()):
        raise CertError("the certificate is not of this key")
    der = der_of(leaf)
    try:
        not_before, not_after, spiffe_id = read_leaf(der)
        validate_leaf(der, spiffe_id.trust_domain, not_before)
    except PeerRefused as error:
        raise CertError(f"the certificate is no X509-SVID: {error}") from error
    return not_before, not_after, spiffe_id, key_to_pem(key)
