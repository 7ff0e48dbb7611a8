"""Requests of callers outside the mesh: the certificate that they are known by, and where HTTPS is."""

from __future__ import annotations

from meshpy.model.ingress import IngressServer, ServerTls
from proxy.decide.headers import spoofed_names
from proxy.http.events import Header
from proxy.http.head import RequestHead
from proxy.http.hygiene import strip_spoofed
from proxy.plan import Reply

__all__ = ["edge_answer", "tell_certificate"]


def tell_certificate(head: RequestHead, fields: tuple[Header, ...]) -> None:
    """Have policies see our word on the caller's certificate, and not what the caller says of itself."""
    if spoofed := spoofed_names(head):
        head.headers = strip_spoofed(head.headers)
        for name in spoofed:
            del head.fields[name]
            if head.repeated is not None:
                head.repeated.pop(name, None)
    for name, value in fields:
        head.fields[name] = value


def edge_answer(head: RequestHead, server: IngressServer, tls: ServerTls | None) -> Reply | None:
    """The answer of a published port itself; None where the request is the app's.

    A request for another host than the handshake was for could go round what that host asks of its callers
    (a certificate, for one): 421, upon which browsers that share a connection begin another (RFC 9110
    §15.5.20).
    """
    if not server.tls and not server.is_for(head.host):
        return _nobodys()
    if server.redirect_to:
        return _redirect(head, server.redirect_to)
    if tls is None or (meant := server.tls_for(head.host)) == tls:
        return None
    if meant is None:
        return _nobodys()
    return Reply(421, "NR", "misdirected_request", b"this connection was opened for another host\n")


def _nobodys() -> Reply:
    return Reply(404, "NR", "route_not_found", b"no server of this port is for that host\n")


def _redirect(head: RequestHead, port: int) -> Reply:
    """To the same place by HTTPS (Istio's `httpsRedirect`: 301 for every method)."""
    host = head.host
    if not host or not head.path:  # CONNECT, and HTTP/1.0 without Host
        return Reply(400, "-", "https_redirect", b"this port only redirects to HTTPS, and no host is named\n")
    authority = host if port == 443 else f"{host}:{port}"
    target = head.raw_target if head.raw_target[:1] == b"/" else head.target
    if target[:1] != b"/":
        target = b"/"
    location = b"https://" + authority.encode("latin-1") + target
    return Reply(301, "-", "https_redirect", b"", ((b"location", location),))
