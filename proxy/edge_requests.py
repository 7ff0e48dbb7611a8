"""Requests of callers outside the mesh: the certificate that they are known by, and where HTTPS is."""

from __future__ import annotations

from proxy.decide.headers import spoofed_names
from proxy.http.events import Header
from proxy.http.head import RequestHead
from proxy.http.hygiene import strip_spoofed
from proxy.plan import Reply

__all__ = ["redirect", "tell_certificate"]


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


def redirect(head: RequestHead, port: int) -> Reply:
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
