"""The interface of a CA, and our own intermediate behind it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from certs.bundle import TrustBundle
from certs.ca import CertificateAuthority, IssuedCertificate
from certs.spiffe import SpiffeId
from meshpy.model.names import CONTROL_PLANE

__all__ = ["OWN_HOSTS", "LocalSigner", "Signer"]

OWN_HOSTS = (CONTROL_PLANE.name,)
"""The control plane's alias on the mesh network: Prometheus and curl look for a name, not for an identity."""


class Signer(Protocol):
    """Signs leaves of one trust domain."""

    @property
    def bundle(self) -> TrustBundle:
        """The roots that its leaves lead to."""

    async def sign(self, csr: bytes, attested: SpiffeId, ttl_s: int) -> IssuedCertificate:
        """Sign a leaf for the attested identity with the key of the request.

        Raises:
            CsrRefused: the request is bad.
            CertError: our own CA cannot sign now.
            SignerError: a CA elsewhere cannot be reached, refuses, or gave something else than was asked for.
        """

    async def follow(self) -> bool:
        """Look whether the roots changed.

        Returns:
            Whether they did.

        Raises:
            SignerError: they cannot be read; those known stay.
        """

    def describe(self) -> str:
        """What it is, for people."""


@dataclass(frozen=True, slots=True)
class LocalSigner:
    """Our own intermediate."""

    authority: CertificateAuthority

    @property
    def bundle(self) -> TrustBundle:
        return self.authority.bundle

    async def sign(self, csr: bytes, attested: SpiffeId, ttl_s: int) -> IssuedCertificate:
        hosts = OWN_HOSTS if attested.path == CONTROL_PLANE.spiffe_path else ()
        return self.authority.issue(csr, attested, datetime.now(UTC), ttl_s, hosts)

    async def follow(self) -> bool:
        return False

    def describe(self) -> str:
        return "own intermediate"
