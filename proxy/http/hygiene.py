"""Which fields pass a hop: hop-by-hop fields, fields of the mesh itself, fields a trailer may not carry."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from proxy.http.events import Header, Headers

__all__ = [
    "HOP_BY_HOP",
    "is_spoofable",
    "is_trailer_allowed",
    "nominated",
    "strip_spoofed",
    "trailers_beside",
    "twins",
]

HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer "
    b"transfer-encoding upgrade http2-settings content-length expect".split(),
)
"""Never copied from one hop to the next (RFC 9110 §7.6.1). Content-Length, Transfer-Encoding, TE, Upgrade and
Expect are written anew by `encode`, from what the parser made of them."""

_NOT_NOMINATED = frozenset(
    b"host authorization cookie forwarded x-forwarded-for x-forwarded-host x-forwarded-proto x-real-ip "
    b"x-request-id traceparent tracestate b3 baggage via date".split(),
)
"""Fields that a Connection option cannot remove: whoever removes them speaks for someone else."""

_IDENTITY = frozenset(b"x-forwarded-client-cert x-spiffe-id".split())
_OWN_PREFIX = b"x-meshpy-"

_NOT_IN_TRAILERS = frozenset(
    b"host authorization cookie set-cookie www-authenticate content-encoding content-type content-range "
    b"content-location cache-control max-forwards range if-match if-none-match if-modified-since "
    b"if-unmodified-since if-range age date expires location retry-after vary warning forwarded "
    b"x-forwarded-for x-forwarded-host x-forwarded-proto x-real-ip".split(),
)
"""Framing, routing, authentication, conditionals, control data (RFC 9110 §6.5.1)."""


def is_spoofable(lower: bytes) -> bool:
    """Whether only the mesh may set this field, its spelling with `_` for `-` included (THREATS §4 B 42)."""
    plain = lower.replace(b"_", b"-")
    return plain in _IDENTITY or plain.startswith(_OWN_PREFIX)


def twins(names: Iterable[bytes], vouched: Collection[bytes]) -> set[bytes]:
    """Names, in lower case, that servers which read `_` as `-` take for one the mesh vouches for."""
    plain = {name.replace(b"_", b"-") for name in vouched}
    return {name for name in names if name not in vouched and name.replace(b"_", b"-") in plain}


def strip_spoofed(headers: Headers) -> Headers:
    """The fields without those that only the mesh may set; the same list when there is none."""
    for name, _ in headers:
        if name[:1] in b"xX" and is_spoofable(name.lower()):
            return [header for header in headers if not is_spoofable(header[0].lower())]
    return headers


def nominated(connection: list[bytes]) -> frozenset[bytes]:
    """The fields that Connection values name as hop-by-hop, save those that must not vanish on request."""
    options = {part.strip(b" \t").lower() for value in connection for part in value.split(b",")}
    return frozenset(name for name in options if name not in _NOT_NOMINATED and not is_spoofable(name))


def is_trailer_allowed(header: Header) -> bool:
    """Whether a trailer field may be passed on; `_` is read as `-`, as gateways of CGI's kind read both."""
    plain = header[0].lower().replace(b"_", b"-")
    return plain not in _NOT_IN_TRAILERS and plain not in HOP_BY_HOP and not is_spoofable(plain)


def trailers_beside(dropped: Collection[bytes], trailers: tuple[Header, ...]) -> tuple[Header, ...]:
    """Trailers without what is left out of the head, or set there: servers that merge both would believe a
    client's.
    """
    plain = {name.replace(b"_", b"-") for name in dropped}
    return tuple(each for each in trailers if each[0].lower().replace(b"_", b"-") not in plain)
