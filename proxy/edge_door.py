"""A finished handshake at a published port: who is calling, by its certificate, and what follows.

A caller's certificate is of the user's own roots: it proves a name to policies and to the app, and never an
identity of the mesh. One that claims such an identity is refused.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, cast
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from certs.errors import PeerRefused, SpiffeIdError
from certs.spiffe import SpiffeId
from meshpy.engine.request import Peer
from meshpy.model.ingress import IngressServer, ServerTls
from proxy.caller import Caller
from proxy.http.events import Header
from proxy.net.listener import Accepted

if TYPE_CHECKING:
    from proxy.doors import Doors

__all__ = ["EdgeDoor", "certificate_field", "outside_caller"]

_log = logging.getLogger("meshpy.proxy")

_SAFE = "/:@%?&=+~#!$'()*"
_SPIFFE = "spiffe://"


class EdgeDoor(Accepted):
    """Args:
    claimed: the caller's address by its PROXY header; empty without one.
    become: makes what the connection is from then on.
    """

    def __init__(
        self,
        doors: Doors,
        server: IngressServer,
        tls: ServerTls,
        names: tuple[str, str],
        become: Callable[[Caller, ssl.SSLObject], Accepted],
    ) -> None:
        self._doors, self._server, self._tls, self._become = doors, server, tls, become
        self._name, self._claimed = names

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peer = transport.get_extra_info("peername")
        address = self._claimed or (str(peer[0]) if peer else "")
        handshake: ssl.SSLObject = transport.get_extra_info("ssl_object")
        try:
            trust_domain = self._doors.live.value.snapshot.workload.trust_domain
            caller = outside_caller(handshake, self._tls, address, trust_domain)
        except PeerRefused as refusal:
            self._doors.inbound.telemetry.refused(refusal.reason)
            _log.info("refused %s at port %d: %s", address, self._server.published, refusal)
            cast("asyncio.Transport", transport).abort()
            return
        caller = replace(caller, port=self._server.target, sni=self._name, server=self._server, tls=self._tls)
        self.hand_over(transport, self._become(caller, handshake))


def outside_caller(tls: ssl.SSLObject, asked: ServerTls, address: str, trust_domain: str) -> Caller:
    """The caller of a connection with TLS; its certificate, where one was asked for, is verified already.

    Raises:
        PeerRefused: it has none of the names that are let in, or claims to be of the mesh.
    """
    der = tls.getpeercert(binary_form=True) if asked.mode.asks_certificate else None
    if not der:
        return Caller(Peer(None, "", address), 0, "", None, (), is_secured=True)
    try:
        certificate = x509.load_der_x509_certificate(der)
        names = _alternative_names(certificate)
    except ValueError as error:
        raise PeerRefused("malformed-certificate", str(error)) from None
    uris = [text for kind, text in names if kind == "URI"]
    own = f"{_SPIFFE}{trust_domain}/"
    if any(f"{uri}/".lower().startswith(own.lower()) for uri in uris):
        raise PeerRefused(
            "claims-mesh-identity", f"its certificate says {uris[0]!r}, which the mesh gives alone"
        )
    allowed = asked.subject_alt_names
    if allowed and not any(text in allowed for _, text in names):
        found = ", ".join(text for _, text in names) or "none"
        raise PeerRefused("subject-alt-name", f"its certificate has {found}, let in are {', '.join(allowed)}")
    field = certificate_field(certificate, names)
    peer = Peer(None, _principal(uris), address, is_foreign=True)
    return Caller(peer, 0, "", None, (field,), is_secured=True)


def _principal(uris: list[str]) -> str:
    """Of a certificate with one URI, which is a SPIFFE id; it stands in logs and policies as it is."""
    try:
        return SpiffeId.parse(*uris).principal if len(uris) == 1 else ""
    except SpiffeIdError:
        return ""


def _alternative_names(certificate: x509.Certificate) -> list[tuple[str, str]]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    names = []
    for name in found:
        if isinstance(name, x509.UniformResourceIdentifier):
            names.append(("URI", name.value))
        elif isinstance(name, x509.DNSName):
            names.append(("DNS", name.value))
        elif isinstance(name, x509.RFC822Name):
            names.append(("Email", name.value))
        elif isinstance(name, x509.IPAddress):
            names.append(("IP", str(name.value)))
    return names


def certificate_field(certificate: x509.Certificate, names: list[tuple[str, str]]) -> Header:
    """`x-forwarded-client-cert` in Envoy's form: hash, subject (RFC 2253), URIs and DNS names of the SAN."""
    subject = certificate.subject.rfc4514_string().replace('"', '\\"')
    subject = "".join(c if c >= " " and c != "\x7f" else f"\\{ord(c):02x}" for c in subject)
    parts = [f"Hash={certificate.fingerprint(hashes.SHA256()).hex()}", f'Subject="{subject}"']
    parts += [f"{kind}={quote(text, safe=_SAFE)}" for kind, text in names if kind in ("URI", "DNS")]
    return b"x-forwarded-client-cert", ";".join(parts).encode("utf-8")
