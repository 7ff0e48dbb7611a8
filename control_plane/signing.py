"""The CA at work: the control plane's own identity, its TLS contexts, and leaves for attested callers."""

from __future__ import annotations

import logging
import ssl
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from certs.bundle import TrustBundle
from certs.ca import CertificateAuthority, IssuedCertificate
from certs.certificates import certificates_from_pem
from certs.csr import make_csr
from certs.errors import CertError
from certs.errors import StoreError as CaStoreError
from certs.identity import Identity
from certs.keys import generate_key, key_to_pem
from certs.lifetime import renew_after_s
from certs.rotation import CaState, Issuer, Phase
from certs.spiffe import SpiffeId
from certs.store import CaStore
from certs.tls import judged, peer_id, server_context
from control_plane.distribution import Trust
from control_plane.errors import StartRefused
from control_plane.signers.signer import OWN_HOSTS, LocalSigner, Signer
from meshpy.model.names import CONTROL_PLANE, ServiceName

__all__ = ["Signing", "load_authority"]

ALPN = ["http/1.1"]

log = logging.getLogger(__name__)


def load_authority(
    ca_dir: Path | None, data_dir: Path, trust_domain: str, passphrase: bytes | None = None
) -> CertificateAuthority:
    """The CA from files that were given, or the one of our own data directory, made at the first start.

    Args:
        passphrase: of the keys in these files.

    Raises:
        StartRefused: files were named and any of them is missing or damaged, or ours are damaged.
    """
    try:
        if ca_dir is not None:
            return CaStore(ca_dir, passphrase).load(trust_domain)
        return CaStore(data_dir / "ca", passphrase).load_or_create(trust_domain, datetime.now(UTC))
    except (CaStoreError, CertError) as error:
        raise StartRefused(f"the CA cannot be loaded: {error}") from error


class Signing:
    """Who signs, and the identity that the control plane issues itself; make it by `begin`.

    Args:
        ttl_s: the lifetime of every leaf.
    """

    def __init__(self, signer: Signer, trust_domain: str, *, ttl_s: int) -> None:
        self.signer, self.trust_domain, self.ttl_s = signer, trust_domain, ttl_s
        self.state: CaState | None = None
        self._own: Identity
        self._newest: ssl.SSLContext
        self._older: dict[str, ssl.SSLContext] = {}

    @classmethod
    async def begin(cls, source: CaState | Signer, trust_domain: str, *, ttl_s: int) -> Signing:
        """Start with our own CA, or with one elsewhere.

        Raises:
            CertError, SignerError: no certificate can be had for ourselves.
        """
        signer = LocalSigner(source.authority) if isinstance(source, CaState) else source
        signing = cls(signer, trust_domain, ttl_s=ttl_s)
        signing.state = source if isinstance(source, CaState) else None
        await signing.renew()
        return signing

    async def adopt(self, state: CaState) -> None:
        """Sign by another state of our own CA from now on.

        Raises:
            CertError: its intermediate is not valid now; nothing changed.
        """
        before = self.signer, self.state
        self.signer, self.state = LocalSigner(state.authority), state
        try:
            await self.renew()
        except CertError:
            self.signer, self.state = before
            raise

    @property
    def authority(self) -> CertificateAuthority:
        """Our own CA.

        Raises:
            CertError: the CA is elsewhere.
        """
        if self.state is None:
            raise CertError(f"the CA is elsewhere: {self.signer.describe()}")
        return self.state.authority

    @property
    def issuing(self) -> x509.Certificate:
        """Who signed our own certificate; where a root signs leaves, the root."""
        chain = certificates_from_pem(self._own.chain_pem)
        return chain[1] if len(chain) > 1 else self.bundle.certificates[0]

    @property
    def bundle(self) -> TrustBundle:
        return self.signer.bundle

    @property
    def bundle_pem(self) -> str:
        return self.bundle.to_pem().decode("ascii")

    @property
    def bundle_id(self) -> str:
        return self.bundle.id

    def trust(self) -> Trust:
        """What sidecars believe in, and by whom their certificates have to be during a rotation."""
        state = self.state
        issuer = state.issuer.key_id if state is not None and state.phase is Phase.ISSUING else ""
        return Trust(self.bundle_id, self.bundle_pem, issuer)

    def spiffe_id(self, service: ServiceName) -> SpiffeId:
        return SpiffeId.for_service(self.trust_domain, service.namespace, service.name)

    async def issue(self, csr: bytes, service: ServiceName) -> IssuedCertificate:
        """Sign a leaf for a service that was attested.

        Raises:
            CsrRefused: the request is bad.
            CertError: the intermediate has expired.
            SignerError: a CA elsewhere did not sign.
        """
        return await self.signer.sign(csr, self.spiffe_id(service), self.ttl_s)

    def renew_after_s(self, jitter: float) -> float:
        """Seconds until our own certificate should be replaced; never less than one."""
        return renew_after_s(self._own, datetime.now(UTC), jitter)

    async def renew(self) -> None:
        """Issue ourselves a new certificate; every context made here presents it from the next handshake on.

        Raises:
            CertError, SignerError: it cannot be had.
        """
        key, own = generate_key(), self.spiffe_id(CONTROL_PLANE)
        issued = await self.signer.sign(make_csr(key, own), own, self.ttl_s)
        identity = Identity.from_pem(issued.chain_pem, key_to_pem(key))
        newest = server_context(identity, self.bundle, alpn=ALPN)
        self._own, self._newest = identity, newest
        self._older = self._contexts_of_older_roots()

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
        the context (SSL_set_SSL_CTX): a listener keeps its context while certificates come and go. Who knows
        an older root only says so by that name, and is shown a certificate under it.
        """
        context = server_context(self._own, self.bundle, alpn=ALPN)

        def take_newest(connection: ssl.SSLObject, name: str | None, _context: ssl.SSLContext) -> None:
            connection.context = self._older.get(name or "", self._newest)

        context.sni_callback = take_newest
        return context

    def _contexts_of_older_roots(self) -> dict[str, ssl.SSLContext]:
        state, found = self.state, {}
        if state is None:
            return {}
        believed = state.authority.root
        older = (*((state.other,) if state.other is not None else ()), *state.retired)
        for issuer in older:
            try:
                identity = self._own_under(issuer)
            except CertError as error:
                log.info("no certificate of ours under an older root any more: %s", error)
                continue
            label = TrustBundle.of(self.trust_domain, (issuer.root,)).label
            if issuer.root != believed:
                found[label] = server_context(identity, self.bundle, alpn=ALPN)
        return found

    def _own_under(self, issuer: Issuer) -> Identity:
        key, own = generate_key(), self.spiffe_id(CONTROL_PLANE)
        authority = issuer.authority(self.trust_domain, ())
        issued = authority.issue(make_csr(key, own), own, datetime.now(UTC), self.ttl_s, OWN_HOSTS)
        return Identity.from_pem(issued.chain_pem, key_to_pem(key))


def _judge(tls: ssl.SSLObject, trust_domain: str) -> None:
    """Nothing without a certificate; one that is no valid SVID is refused."""
    if tls.getpeercert(binary_form=True) is not None:
        peer_id(tls, trust_domain, datetime.now(UTC))
