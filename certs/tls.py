"""TLS contexts between sidecars, and the door that every handshake must pass: `peer_id`.

Resumption is off on both sides: a resumed session skips certificate verification, so an expired or revoked
peer would be let in again (the class of CVE-2022-21654; shown for TLS 1.2 and 1.3 with Python's `ssl`).
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from datetime import datetime

from certs.bundle import TrustBundle
from certs.errors import CertError, PeerRefused
from certs.identity import Identity
from certs.openssl import load_pair
from certs.peer import validate_leaf
from certs.spiffe import SpiffeId

__all__ = [
    "CIPHERS",
    "anonymous_context",
    "client_context",
    "judged",
    "peer_id",
    "server_context",
    "verify_peer",
]

# For TLS 1.2 only, where it is allowed; the level also bars RSA below 2048 bits and SHA-1 in both versions.
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:@SECLEVEL=2"


def server_context(
    identity: Identity, bundle: TrustBundle, *, alpn: Sequence[str], allow_tls12: bool = False
) -> ssl.SSLContext:
    """A server side that demands a client certificate; call `peer_id` after each handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.num_tickets = 0
    return _configured(context, identity, bundle, alpn, allow_tls12=allow_tls12)


def client_context(
    identity: Identity, bundle: TrustBundle, *, alpn: Sequence[str], allow_tls12: bool = False
) -> ssl.SSLContext:
    """A client side with our certificate; call `verify_peer` after each handshake.

    Host names are not checked: who may answer is a SPIFFE ID, and a name can be hijacked.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return _configured(context, identity, bundle, alpn, allow_tls12=allow_tls12)


def anonymous_context(bundle: TrustBundle, *, alpn: Sequence[str]) -> ssl.SSLContext:
    """A client side without a certificate, for who has none yet; call `verify_peer` after each handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return _believing(context, bundle, alpn, allow_tls12=False)


def judged(context: ssl.SSLContext, judge: Callable[[ssl.SSLObject], object]) -> ssl.SSLContext:
    """Have `judge` end every handshake of `context`: a peer that it refuses fails the handshake itself.

    For libraries that send as soon as the handshake is done (HTTP clients and servers of asyncio).

    Args:
        judge: raises PeerRefused.
    """

    class JudgedObject(ssl.SSLObject):
        def do_handshake(self) -> None:
            super().do_handshake()
            try:
                judge(self)
            except PeerRefused as refusal:
                raise ssl.SSLCertVerificationError(f"the peer is refused: {refusal}") from refusal

    context.sslobject_class = JudgedObject
    return context


def peer_id(
    ssl_object: ssl.SSLObject | ssl.SSLSocket,
    trust_domain: str,
    now: datetime,
    denied: frozenset[str] = frozenset(),
) -> SpiffeId:
    """The identity at the other end of a finished handshake.

    Raises:
        PeerRefused: no certificate, a resumed session, or a leaf that is no SVID of the trust domain.
    """
    if ssl_object.session_reused:
        raise PeerRefused("resumed-session", "the peer's certificate was not verified in this handshake")
    try:
        der = ssl_object.getpeercert(binary_form=True)
    except ValueError as error:
        raise PeerRefused("no-handshake", "the handshake is not finished") from error
    if not der:
        raise PeerRefused("no-certificate", "the peer sent no certificate")
    return validate_leaf(der, trust_domain, now, denied=denied)


def verify_peer(
    ssl_object: ssl.SSLObject | ssl.SSLSocket,
    trust_domain: str,
    now: datetime,
    denied: frozenset[str] = frozenset(),
    *,
    expected: frozenset[SpiffeId],
) -> SpiffeId:
    """As `peer_id`, for the side that dialled: the peer must be one of those it meant.

    Raises:
        PeerRefused: as above, or a valid SVID of somebody else (`unexpected-peer`).
    """
    found = peer_id(ssl_object, trust_domain, now, denied)
    if found not in expected:
        wanted = ", ".join(sorted(map(str, expected))[:3]) or "nobody"
        raise PeerRefused("unexpected-peer", f"{found} answered where {wanted} was expected")
    return found


def _configured(
    context: ssl.SSLContext,
    identity: Identity,
    bundle: TrustBundle,
    alpn: Sequence[str],
    *,
    allow_tls12: bool,
) -> ssl.SSLContext:
    _believing(context, bundle, alpn, allow_tls12=allow_tls12)
    try:
        load_pair(context, identity.chain_pem, identity.key_pem)
    except ssl.SSLError as error:
        raise CertError(f"OpenSSL refuses our own identity: {error.reason}") from error
    return context


def _believing(
    context: ssl.SSLContext, bundle: TrustBundle, alpn: Sequence[str], *, allow_tls12: bool
) -> ssl.SSLContext:
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.minimum_version = ssl.TLSVersion.TLSv1_2 if allow_tls12 else ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    context.verify_flags &= ~ssl.VERIFY_X509_PARTIAL_CHAIN
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_ciphers(CIPHERS)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    try:
        context.load_verify_locations(cadata=bundle.to_pem().decode("ascii"))
    except ssl.SSLError as error:
        raise CertError(f"OpenSSL refuses the trust bundle: {error.reason}") from error
    return context
