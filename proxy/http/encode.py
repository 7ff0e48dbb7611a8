"""Heads back to bytes for the next hop. Framing is always written anew, from what the parser understood."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from proxy.http.chunked import LAST_CHUNK, encode_chunk, encode_last_chunk
from proxy.http.events import Framing, Header, Headers
from proxy.http.head import RequestHead, ResponseHead
from proxy.http.hygiene import HOP_BY_HOP, nominated
from proxy.http.native import codec
from proxy.http.target import METHODS

__all__ = [
    "LAST_CHUNK",
    "encode_chunk",
    "encode_last_chunk",
    "encode_request_head",
    "encode_response_head",
    "join_in_python",
    "response_framing",
]

_NONE: Final = Framing.NONE
_LENGTH: Final = Framing.LENGTH
_CHUNKED: Final = Framing.CHUNKED
_UNTIL_CLOSE: Final = Framing.UNTIL_CLOSE
_METHODS: Final = {text: raw for raw, text in METHODS.items()}
_CONNECTION_SILENT: Final = (b"keep-alive", b"close")


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
    first = b"%b %b HTTP/1.1\r\n" % (_METHODS[head.method], head.target if target is None else target)
    if host is not None:
        drop = (*drop, b"host")
        first += b"Host: %b\r\n" % host
    if b"connection" in fields:
        drop = _with_nominated(head, drop)
    middle = b""
    if head.framing is _LENGTH:
        middle = b"Content-Length: %d\r\n" % head.content_length
    elif head.framing is _CHUNKED:
        middle = b"Transfer-Encoding: chunked\r\n"
    if head.expect_continue:
        middle += b"Expect: 100-continue\r\n"
    if upgrade and head.upgrade is not None:
        middle += b"Connection: Upgrade\r\nUpgrade: %b\r\n" % head.upgrade
    elif b"te" in fields and _wants_trailers(head):
        middle += b"Connection: TE\r\nTE: trailers\r\n"
    return join(first, head.headers, drop, middle, extra)


def response_framing(head: ResponseHead, request_minor: int) -> Framing:
    """How a response is framed for its client: until close becomes chunked for 1.1, chunked ends for 1.0."""
    framing = head.framing
    if framing is _LENGTH or framing is _NONE:
        return framing
    return _CHUNKED if request_minor == 1 else _UNTIL_CLOSE


def encode_response_head(
    head: ResponseHead,
    extra: Sequence[Header] = (),
    *,
    request_minor: int = 1,
    close: bool = False,
    drop: Collection[bytes] = (),
    content: bytes | memoryview = b"",
) -> bytes:
    """Write a response for a client; its content must be framed as `response_framing` says.

    Args:
        extra: fields of the proxy, written last.
        request_minor: 0 or 1 of the request's HTTP/1.x.
        close: tell the client that the connection ends after this response.
        drop: lower-case names that are not copied.
        content: follows the head.
    """
    framing = response_framing(head, request_minor)
    fields = head.fields
    if b"connection" in fields:
        drop = _with_nominated(head, drop)
    middle = b""
    if framing is _LENGTH:
        middle = b"Content-Length: %d\r\n" % head.content_length
    elif framing is _CHUNKED:
        middle = b"Transfer-Encoding: chunked\r\n"
    elif framing is _NONE and head.status >= 200 and head.status != 204:
        # An answer to HEAD and a 304 say how long the content would be (RFC 9110 §8.6).
        length = fields.get(b"content-length")
        if length is not None:
            middle = b"Content-Length: %b\r\n" % length
    if head.upgrade:
        middle += b"Connection: Upgrade\r\nUpgrade: %b\r\n" % head.upgrade
    elif (close or framing is _UNTIL_CLOSE) and not head.is_interim:
        middle += b"Connection: close\r\n"
    return join(
        b"HTTP/1.1 %d %b\r\n" % (head.status, head.reason), head.headers, drop, middle, extra, content
    )


def join_in_python(
    first: bytes,
    headers: Headers,
    drop: Collection[bytes],
    middle: bytes,
    extra: Sequence[Header],
    content: bytes | memoryview = b"",
) -> bytes:
    """First line, the received fields that pass this hop and are not dropped, framing, own fields, content.

    Args:
        first, middle: whole lines, CRLF included.
    """
    skipped = HOP_BY_HOP.union(drop) if drop else HOP_BY_HOP
    lines = [b"%b: %b\r\n" % pair for pair in headers if pair[0].lower() not in skipped]
    lines.append(middle)
    lines += [b"%b: %b\r\n" % pair for pair in extra]
    return b"".join((first, *lines, b"\r\n", content))


join: Final = join_in_python if codec is None else codec.join


def _with_nominated(head: RequestHead | ResponseHead, drop: Collection[bytes]) -> Collection[bytes]:
    """What to leave out, with the fields that Connection options name."""
    if head.repeated is None and head.fields[b"connection"].lower() in _CONNECTION_SILENT:
        return drop
    return nominated(head.get_all(b"connection")).union(drop)


def _wants_trailers(head: RequestHead) -> bool:
    return any(
        part.strip(b" \t").lower() == b"trailers"
        for value in head.get_all(b"te")
        for part in value.split(b",")
    )
