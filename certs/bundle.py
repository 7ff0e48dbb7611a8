"""The trust bundle: the roots that one trust domain believes in, several while a root is being rotated."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from certs.errors import CertError
from certs.pem import from_pem, to_pem
from certs.plain import read_plain
from certs.spiffe import checked_trust_domain

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

__all__ = ["TrustBundle"]

_CERTIFICATE = "CERTIFICATE"


@dataclass(frozen=True, slots=True)
class TrustBundle:
    """Roots in order, never empty, each once.

    Args:
        roots: in DER.

    Raises:
        CertError: on construction, if there is no root, or one that may not sign certificates.
    """

    trust_domain: str
    roots: tuple[bytes, ...]

    def __post_init__(self) -> None:
        checked_trust_domain(self.trust_domain)
        if not self.roots:
            raise CertError("a trust bundle has at least one root certificate")
        for root in self.roots:
            _check_root(root)
        object.__setattr__(self, "roots", tuple(dict.fromkeys(self.roots)))

    @classmethod
    def of(cls, trust_domain: str, roots: Iterable[Certificate]) -> Self:
        """Of certificates that were read before.

        Raises:
            CertError: none, or one that is no CA.
        """
        from certs.certificates import der_of  # noqa: PLC0415 - not in a sidecar

        return cls(trust_domain, tuple(map(der_of, roots)))

    @classmethod
    def from_pem(cls, trust_domain: str, pem: bytes) -> Self:
        """Read one or more PEM certificates.

        Raises:
            CertError: none, or one that is damaged or no CA.
        """
        roots = from_pem(pem, _CERTIFICATE)
        if roots is not None:
            return cls(trust_domain, roots)
        from certs.certificates import certificates_from_pem  # noqa: PLC0415 - where the text is not plain

        return cls.of(trust_domain, certificates_from_pem(pem))

    def to_pem(self) -> bytes:
        """The roots, one PEM block after the other."""
        return b"".join(to_pem(root, _CERTIFICATE) for root in self.roots)

    @property
    def certificates(self) -> tuple[Certificate, ...]:
        """The roots as the library has them."""
        from certs.certificates import certificate_of  # noqa: PLC0415 - not in a sidecar

        return tuple(map(certificate_of, self.roots))

    @property
    def fingerprints(self) -> tuple[str, ...]:
        """SHA-256 of each root, hex: what an operator compares by eye."""
        return tuple(hashlib.sha256(root).hexdigest() for root in self.roots)

    @property
    def id(self) -> str:
        """A short name of these roots; their order does not count."""
        return hashlib.sha256("".join(sorted(self.fingerprints)).encode()).hexdigest()[:16]

    @property
    def label(self) -> str:
        """The server name (RFC 6066 §3) by which a client says which root it believes in first."""
        return f"{self.fingerprints[0][:32]}.root.meshpy"

    def root_above(self, chain_pem: bytes) -> str | None:
        """The fingerprint of the root that the last certificate names as its issuer; None without one."""
        chain = from_pem(chain_pem, _CERTIFICATE)
        last = read_plain(chain[-1]) if chain is not None else None
        roots = [read_plain(root) for root in self.roots]
        if last is None or None in roots:
            from certs.certificates import is_issuer  # noqa: PLC0415 - where one is not plain

            is_above = [is_issuer(root, chain_pem) for root in self.roots]
        else:
            is_above = [root is not None and root.subject == last.issuer for root in roots]
        return next((found for found, is_it in zip(self.fingerprints, is_above, strict=True) if is_it), None)


def _check_root(root: bytes) -> None:
    plain = read_plain(root)
    if plain is None or not plain.is_ca:
        from certs.certificates import certificate_of, check_root  # noqa: PLC0415 - where it is not plain

        check_root(certificate_of(root))
