"""Heads back to bytes for the next hop. Framing is always written anew, from what the parser understood."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from proxy.http.chunked import LAST_CHUNK, encode_chunk, encode_last_chunk
from proxy.http.events import Framing, Header
from proxy.http.head import RequestHead, ResponseHead
from proxy.http.hygiene import HOP_BY_HOP, nominated

__all__ = [
    "LAST_CHUNK",
    "encode_chunk",
    "encode_last_chunk",
    "encode_request_head",
    "encode_response_head",
    "response_framing",
]

_CONNECTION_SILENT = (b"keep-alive", b"close")


def encode_request_head(
    head: RequestHead,
    extra: Sequence[Header] = (),
    *,
    target: bytes | None = None,
    host: bytes | None = None,
    drop: Collection[bytes] = (),
    upgrade: bool = False,
) -> bytes:
    """Write a request for an upstream, always as HTTP/1.1.

    Args:
        extra: fields of the proxy, written last; no Connection option of the client can remove them.
        target: replaces the normalised target (a route's rewrite).
        host: replaces Host (a route's authority rewrite).
        drop: lower-case names that are not copied: those that `extra` sets, those that a route removes.
        upgrade: pass the client's wish to switch to `head.upgrade` on.
    """
    fields = head.fields
    skipped = _skipped(head, drop)
    parts = [b"%b %b HTTP/1.1" % (head.method.encode("ascii"), head.target if target is None else target)]
    if host is not None:
        skipped = skipped | {b"host"}
        parts.append(b"Host: " + host)
    parts += [b"%b: %b" % pair for pair in head.headers if pair[0].lower() not in skipped]
    if head.framing is Framing.LENGTH:
        parts.append(b"Content-Length: %d" % head.content_length)
    elif head.framing is Framing.CHUNKED:
        parts.append(b"Transfer-Encoding: chunked")
    if head.expect_continue:
        parts.append(b"Expect: 100-continue")
    if upgrade and head.upgrade is not None:
        parts.append(b"Connection: Upgrade\r\nUpgrade: " + head.upgrade)
    elif b"te" in fields and _wants_trailers(head):
        parts.append(b"Connection: TE\r\nTE: trailers")
    parts += [b"%b: %b" % pair for pair in extra]
    parts.append(b"\r\n")
    return b"\r\n".join(parts)


def response_framing(head: ResponseHead, request_minor: int) -> Framing:
    """How a response is framed for its client: until close becomes chunked for 1.1, chunked ends for 1.0."""
    if head.framing in (Framing.CHUNKED, Framing.UNTIL_CLOSE):
        return Framing.CHUNKED if request_minor == 1 else Framing.UNTIL_CLOSE
    return head.framing


def encode_response_head(
    head: ResponseHead,
    extra: Sequence[Header] = (),
    *,
    request_minor: int = 1,
    close: bool = False,
    drop: Collection[bytes] = (),
) -> bytes:
    """Write a response for a client; its content must be framed as `response_framing` says.

    Args:
        extra: fields of the proxy, written last.
        request_minor: 0 or 1 of the request's HTTP/1.x.
        close: tell the client that the connection ends after this response.
        drop: lower-case names that are not copied.
    """
    framing = response_framing(head, request_minor)
    skipped = _skipped(head, drop)
    parts = [b"HTTP/1.1 %d %b" % (head.status, head.reason)]
    parts += [b"%b: %b" % pair for pair in head.headers if pair[0].lower() not in skipped]
    if framing is Framing.LENGTH:
        parts.append(b"Content-Length: %d" % head.content_length)
    elif framing is Framing.CHUNKED:
        parts.append(b"Transfer-Encoding: chunked")
    elif framing is Framing.NONE and head.status >= 200 and head.status != 204:
        # An answer to HEAD and a 304 say how long the content would be (RFC 9110 §8.6).
        length = head.fields.get(b"content-length")
        if length is not None:
            parts.append(b"Content-Length: " + length)
    if head.upgrade:
        parts.append(b"Connection: Upgrade\r\nUpgrade: " + head.upgrade)
    elif (close or framing is Framing.UNTIL_CLOSE) and not head.is_interim:
        parts.append(b"Connection: close")
    parts += [b"%b: %b" % pair for pair in extra]
    parts.append(b"\r\n")
    return b"\r\n".join(parts)


def _skipped(head: RequestHead | ResponseHead, drop: Collection[bytes]) -> frozenset[bytes]:
    connection = head.fields.get(b"connection")
    if connection is None or (connection.lower() in _CONNECTION_SILENT and head.repeated is None):
        return HOP_BY_HOP.union(drop) if drop else HOP_BY_HOP
    return HOP_BY_HOP.union(nominated(head.get_all(b"connection")), drop)


def _wants_trailers(head: RequestHead) -> bool:
    return any(
        part.strip(b" \t").lower() == b"trailers"
        for value in head.get_all(b"te")
        for part in value.split(b",")
    )
