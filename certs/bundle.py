"""The trust bundle: the roots that one trust domain believes in, several while a root is being rotated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization

from certs.errors import CertError
from certs.spiffe import checked_trust_domain

__all__ = ["TrustBundle", "certificates_from_pem"]


@dataclass(frozen=True, slots=True)
class TrustBundle:
    """Roots in order, never empty, each once.

    Raises:
        CertError: on construction, if there is no root, or one that may not sign certificates.
    """

    trust_domain: str
    roots: tuple[x509.Certificate, ...]

    def __post_init__(self) -> None:
        checked_trust_domain(self.trust_domain)
        if not self.roots:
            raise CertError("a trust bundle has at least one root certificate")
        for root in self.roots:
            _check_root(root)
        object.__setattr__(self, "roots", tuple(dict.fromkeys(self.roots)))

    @classmethod
    def from_pem(cls, trust_domain: str, pem: bytes) -> Self:
        """Read one or more PEM certificates.

        Raises:
            CertError: none, or one that is damaged or no CA.
        """
        return cls(trust_domain, certificates_from_pem(pem))

    def to_pem(self) -> bytes:
        """The roots, one PEM block after the other."""
        return b"".join(root.public_bytes(serialization.Encoding.PEM) for root in self.roots)

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """SHA-256 of each root, hex: what an operator compares by eye."""
        return tuple(root.fingerprint(hashes.SHA256()).hex() for root in self.roots)


def certificates_from_pem(pem: bytes) -> tuple[x509.Certificate, ...]:
    """Every certificate of a PEM text, in order.

    Raises:
        CertError: none, or one that is damaged.
    """
    try:
        return tuple(x509.load_pem_x509_certificates(pem))
    except (ValueError, TypeError, x509.InvalidVersion, UnsupportedAlgorithm) as error:
        raise CertError("no readable PEM certificate") from error


def _check_root(root: x509.Certificate) -> None:
    try:
        is_ca = root.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension) as error:
        raise CertError("a root certificate without readable basic constraints") from error
    if not is_ca:
        raise CertError("a trust bundle holds root certificates; this one is no CA (CA:FALSE)")
