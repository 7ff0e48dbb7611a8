"""Credentials as the listeners and dialers use them: contexts made once per certificate, the server name
kept.

`certs.tls` makes the contexts and judges the peers; here they are held, replaced whole when the certificate
or the bundle changes, and numbered, so that connections of an older generation can be told apart and retired.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

from certs.bundle import TrustBundle
from certs.identity import Identity
from certs.spiffe import SpiffeId
from certs.tls import client_context, peer_id, server_context, verify_peer

__all__ = [
    "ALPN_H2",
    "ALPN_HTTP",
    "ALPN_TCP",
    "ALPN_TUNNEL",
    "Credentials",
    "PeerCertificate",
    "accepted_peer",
    "dialled_peer",
    "server_name",
]

ALPN_H2 = "h2"
ALPN_HTTP = "http/1.1"
ALPN_TCP = "tcp"
ALPN_TUNNEL = "tcp-half-close"
"""Opaque as `tcp`, and a goodbye ends one direction. Who dials for a tunnel offers both: older sidecars and
others know the one alone."""

_OFFERS = {alpn: (alpn,) for alpn in (ALPN_H2, ALPN_HTTP, ALPN_TCP)} | {ALPN_TUNNEL: (ALPN_TUNNEL, ALPN_TCP)}

_SNI = "meshpy_server_name"


@dataclass(frozen=True, slots=True)
class Credentials:
    """One certificate with its bundle, as TLS contexts.

    Args:
        generation: grows with every replacement.
        clients: to dial with, by the ALPN that they offer first.
    """

    generation: int
    identity: Identity
    bundle: TrustBundle
    server: ssl.SSLContext
    clients: Mapping[str, ssl.SSLContext]

    @classmethod
    def of(cls, identity: Identity, bundle: TrustBundle, generation: int) -> Credentials:
        """Make the contexts.

        Raises:
            CertError: OpenSSL refuses the certificate, its key or the bundle.
        """
        server = server_context(identity, bundle, alpn=(ALPN_H2, ALPN_HTTP, ALPN_TUNNEL, ALPN_TCP))
        server.sni_callback = _keep_server_name
        return cls(
            generation,
            identity,
            bundle,
            server,
            {alpn: client_context(identity, bundle, alpn=offers) for alpn, offers in _OFFERS.items()},
        )


@dataclass(frozen=True, slots=True)
class PeerCertificate:
    """Who is at the other end, proved by a finished handshake.

    Args:
        not_after: seconds of the wall clock.
        digest: SHA-256 of the certificate in hex, for `x-forwarded-client-cert`.
    """

    spiffe_id: SpiffeId
    not_after: float
    digest: str


def _keep_server_name(tls: ssl.SSLObject | ssl.SSLSocket, name: str | None, _context: ssl.SSLContext) -> None:
    setattr(tls, _SNI, name or "")


def server_name(tls: ssl.SSLObject) -> str:
    """The server name that the client sent; empty when it sent none."""
    return cast("str", getattr(tls, _SNI, ""))


def accepted_peer(tls: ssl.SSLObject, trust_domain: str, denied: frozenset[str]) -> PeerCertificate:
    """The caller of an accepted connection.

    Raises:
        PeerRefused: it may not speak.
    """
    return _certificate(tls, peer_id(tls, trust_domain, datetime.now(UTC), denied))


def dialled_peer(
    tls: ssl.SSLObject, trust_domain: str, denied: frozenset[str], expected: frozenset[SpiffeId]
) -> PeerCertificate:
    """The callee of a dialled connection.

    Raises:
        PeerRefused: it is not who was meant, or may not speak.
    """
    return _certificate(tls, verify_peer(tls, trust_domain, datetime.now(UTC), denied, expected=expected))


_CERTIFICATES = 1024
_certificates: dict[bytes, PeerCertificate] = {}
"""What was read of certificates: a peer opens many connections with one, and OpenSSL spells all of it out."""


def _certificate(tls: ssl.SSLObject, spiffe_id: SpiffeId) -> PeerCertificate:
    der = tls.getpeercert(binary_form=True) or b""
    known = _certificates.get(der)
    if known is not None:
        return known
    details = tls.getpeercert() or {}
    not_after = float(ssl.cert_time_to_seconds(str(details["notAfter"])))
    if len(_certificates) >= _CERTIFICATES:
        _certificates.clear()
    made = _certificates[der] = PeerCertificate(spiffe_id, not_after, hashlib.sha256(der).hexdigest())
    return made
