"""A throw-away PKI for tests: a real authority, real identities."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from certs.bundle import TrustBundle
from certs.ca import CertificateAuthority
from certs.csr import make_csr
from certs.identity import Identity, save_bundle
from certs.keys import generate_key, key_to_pem
from certs.spiffe import SpiffeId

__all__ = ["MeshPki", "mesh_pki"]


@dataclass(frozen=True)
class MeshPki:
    """An authority and its trust domain."""

    trust_domain: str
    ca: CertificateAuthority
    root_key: ec.EllipticCurvePrivateKey

    @property
    def bundle(self) -> TrustBundle:
        return self.ca.bundle

    def id(self, namespace: str, service: str) -> SpiffeId:
        return SpiffeId.for_service(self.trust_domain, namespace, service)

    def identity(
        self, namespace: str, service: str, ttl_s: int = 3600, now: datetime | None = None
    ) -> Identity:
        """A fresh key with a leaf of `ttl_s` seconds, issued `now`."""
        return self.identity_of(self.id(namespace, service), ttl_s, now)

    def identity_of(self, spiffe_id: SpiffeId, ttl_s: int = 3600, now: datetime | None = None) -> Identity:
        key = generate_key()
        issued = self.ca.issue(make_csr(key, spiffe_id), spiffe_id, now or datetime.now(UTC), ttl_s)
        return Identity.from_pem(issued.chain_pem, key_to_pem(key))

    def save_identity(self, directory: Path, namespace: str, service: str, ttl_s: int = 3600) -> Identity:
        """Write `tls.crt`, `tls.key` and `ca.crt` into `directory` (made if absent), for `--identity`."""
        directory.mkdir(parents=True, exist_ok=True)
        identity = self.identity(namespace, service, ttl_s)
        identity.save(directory)
        save_bundle(directory, self.bundle)
        return identity


def mesh_pki(trust_domain: str = "mesh.test", now: datetime | None = None) -> MeshPki:
    """A new authority for `trust_domain`."""
    authority, root_key = CertificateAuthority.create(trust_domain, now or datetime.now(UTC))
    return MeshPki(trust_domain, authority, root_key)
