"""The CA at work: the control plane's own identity, its TLS contexts, and leaves for attested callers."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from pathlib import Path

from certs.ca import CertificateAuthority, IssuedCertificate
from certs.csr import make_csr
from certs.errors import CertError
from certs.errors import StoreError as CaStoreError
from certs.identity import Identity, renew_at
from certs.keys import generate_key
from certs.spiffe import SpiffeId
from certs.store import CaStore
from certs.tls import judged, peer_id, server_context
from control_plane.errors import StartRefused
from meshpy.model.names import CONTROL_PLANE, ServiceName

__all__ = ["Signing", "load_authority"]

ALPN = ["http/1.1"]


def load_authority(ca_dir: Path | None, data_dir: Path, trust_domain: str) -> CertificateAuthority:
    """The CA from files that were given, or the one of our own data directory, made at the first start.

    Raises:
        StartRefused: files were named and any of them is missing or damaged, or ours are damaged.
    """
    try:
        if ca_dir is not None:
            return CaStore(ca_dir).load(trust_domain)
        return CaStore(data_dir / "ca").load_or_create(trust_domain, datetime.now(UTC))
    except (CaStoreError, CertError) as error:
        raise StartRefused(f"the CA cannot be loaded: {error}") from error


class Signing:
    """One authority, and the identity that the control plane issues itself.

    Args:
        ttl_s: the lifetime of every leaf.
    """

    def __init__(self, authority: CertificateAuthority, *, ttl_s: int) -> None:
        self.authority = authority
        self.ttl_s = ttl_s
        self._own = self._issue_own()
        self._newest = self._context()

    @property
    def trust_domain(self) -> str:
        return self.authority.trust_domain

    @property
    def bundle_pem(self) -> str:
        return self.authority.bundle.to_pem().decode("ascii")

    def spiffe_id(self, service: ServiceName) -> SpiffeId:
        return SpiffeId.for_service(self.trust_domain, service.namespace, service.name)

    def issue(self, csr: bytes, service: ServiceName) -> IssuedCertificate:
        """Sign a leaf for a service that was attested.

        Raises:
            CsrRefused: the request is bad.
            CertError: the intermediate has expired.
        """
        return self.authority.issue(csr, self.spiffe_id(service), datetime.now(UTC), self.ttl_s)

    def renew_after_s(self, jitter: float) -> float:
        """Seconds until our own certificate should be replaced; never less than one."""
        return max(1.0, (renew_at(self._own, jitter) - datetime.now(UTC)).total_seconds())

    def renew(self) -> None:
        """Issue ourselves a new certificate; every context made here presents it from the next handshake on.

        Raises:
            CertError: the intermediate has expired.
        """
        self._own = self._issue_own()
        self._newest = self._context()

    def sidecar_context(self) -> ssl.SSLContext:
        """For sidecars: a client certificate is optional, and one that is no SVID ends the handshake."""
        context = self._front()
        context.verify_mode = ssl.CERT_OPTIONAL
        return judged(context, lambda tls: _judge(tls, self.trust_domain))

    def operator_context(self) -> ssl.SSLContext:
        """For operators: no client certificate; they prove themselves by a token."""
        context = self._front()
        context.verify_mode = ssl.CERT_NONE
        return context

    def _front(self) -> ssl.SSLContext:
        """A context whose handshakes take certificate and roots from the newest one.

        OpenSSL calls the server-name callback in every handshake, with a name or without, and lets it change
        the context (SSL_set_SSL_CTX): a listener keeps its context while certificates come and go.
        """
        context = self._context()

        def take_newest(connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
            connection.context = self._newest

        context.sni_callback = take_newest
        return context

    def _context(self) -> ssl.SSLContext:
        return server_context(self._own, self.authority.bundle, alpn=ALPN)

    def _issue_own(self) -> Identity:
        key, own = generate_key(), self.spiffe_id(CONTROL_PLANE)
        issued = self.authority.issue(make_csr(key, own), own, datetime.now(UTC), self.ttl_s)
        return Identity.from_pem(issued.chain_pem, key)


def _judge(tls: ssl.SSLObject, trust_domain: str) -> None:
    """Nothing without a certificate; one that is no valid SVID is refused."""
    if tls.getpeercert(binary_form=True) is not None:
        peer_id(tls, trust_domain, datetime.now(UTC))
