"""What a connection of HTTP/1.1 writes: answers that are passed on, and the mesh's own.

Hot file: the head and content of an answer leave in one write (PERFORMANCE.md "What follows").
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from proxy.downstream.life import HttpConnection
from proxy.exchange import Exchange
from proxy.http.encode import encode_chunk, encode_last_chunk, encode_response_head, response_framing
from proxy.http.events import Framing, Header, Headers
from proxy.http.head import ResponseHead
from proxy.net.bulk import LARGE_BYTES, write_parts
from proxy.net.ending import reset
from proxy.plan import Reply
from proxy.sides import Role, Shared

__all__ = ["H1Answers"]

_NONE: Final = Framing.NONE
_LENGTH: Final = Framing.LENGTH
_CHUNKED: Final = Framing.CHUNKED
_UNTIL_CLOSE: Final = Framing.UNTIL_CLOSE

_REASONS: Final = {
    200: b"OK", 204: b"No Content", 301: b"Moved Permanently", 302: b"Found", 303: b"See Other",
    307: b"Temporary Redirect", 308: b"Permanent Redirect", 400: b"Bad Request", 401: b"Unauthorized",
    403: b"Forbidden", 404: b"Not Found", 405: b"Method Not Allowed", 408: b"Request Timeout",
    413: b"Content Too Large", 414: b"URI Too Long", 417: b"Expectation Failed", 418: b"I'm a teapot",
    429: b"Too Many Requests", 431: b"Request Header Fields Too Large", 500: b"Internal Server Error",
    501: b"Not Implemented", 502: b"Bad Gateway", 503: b"Service Unavailable", 504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
}  # fmt: skip


class H1Answers(HttpConnection):
    """Invariants: at most one exchange; `_out` is empty between two callbacks."""

    def __init__(self, role: Role, shared: Shared) -> None:
        super().__init__(role, shared)
        self.exchange: Exchange | None = None
        self.is_at_eof = False
        self._out: list[bytes | memoryview] = []
        self._response_framing: Framing = _NONE

    takes_whole = True

    @property
    def held_bytes(self) -> int:
        return self.transport.get_write_buffer_size()

    def send_interim(self, head: ResponseHead) -> None:
        if self.exchange is not None and self.exchange.head.minor == 1:
            self._out.append(encode_response_head(head))

    def send_head(
        self, exchange: Exchange, head: ResponseHead, extra: Headers, drop: Collection[bytes]
    ) -> None:
        request = exchange.head
        framing = self._response_framing = response_framing(head, request.minor)
        close = (
            not request.keep_alive
            or not exchange.is_request_complete
            or self.is_last
            or self.own.ends_connections
            or framing is _UNTIL_CLOSE
        )
        if close:
            self.is_last = True
        self._out.append(
            encode_response_head(head, extra, request_minor=request.minor, close=close, drop=drop)
        )

    def send_whole(
        self, exchange: Exchange, head: ResponseHead, drop: Collection[bytes], content: memoryview
    ) -> None:
        """A final response with all of its content, in one write."""
        request = exchange.head
        self._response_framing = _LENGTH
        close = not request.keep_alive or self.is_last or self.own.ends_connections
        if close:
            self.is_last = True
        minor = request.minor
        if len(content) < LARGE_BYTES:
            self.transport.write(
                encode_response_head(head, (), request_minor=minor, close=close, drop=drop, content=content)
            )
            return
        first = encode_response_head(head, (), request_minor=minor, close=close, drop=drop)
        write_parts(self.transport, (first, content))

    def send_body(self, data: bytes | memoryview) -> None:
        self._out.append(encode_chunk(data) if self._response_framing is _CHUNKED else data)

    def send_end(self, trailers: tuple[Header, ...]) -> None:
        if self._response_framing is _CHUNKED:
            self._out.append(encode_last_chunk(trailers))

    def flush_response(self) -> None:
        out = self._out
        if out:
            self._out = []
            write_parts(self.transport, out)

    def write_reply(self, exchange: Exchange, reply: Reply) -> int:
        """Write an answer of our own; returns the bytes of its content."""
        head = exchange.head
        if (
            not head.keep_alive
            or self.is_at_eof
            or self.own.ends_connections
            or not exchange.is_request_complete
        ):
            self.is_last = True
        body = reply.body
        return self.write_head_and_body(reply.status, body, reply.headers, head.method, reply.content_type)

    def write_head_and_body(
        self,
        status: int,
        body: bytes,
        headers: tuple[tuple[bytes, bytes], ...],
        method: str,
        content_type: bytes,
    ) -> int:
        """Write an answer; returns the bytes of its content."""
        lines = [b"HTTP/1.1 %d %b" % (status, _REASONS.get(status, b""))]
        lines += [b"%b: %b" % header for header in headers]
        if body:
            lines.append(b"content-type: " + content_type)
        if status >= 200 and status not in (204, 304):
            lines.append(b"content-length: %d" % len(body))
        if self.is_last:
            lines.append(b"connection: close")
        lines.append(b"\r\n")
        data = b"\r\n".join(lines)
        self.flush_response()
        is_bodiless = method == "HEAD" or status in (204, 304)
        self.transport.write(data if is_bodiless else data + body)
        return 0 if is_bodiless else len(body)

    def on_broken(self, exchange: Exchange) -> None:
        """The response broke off: end the connection so that the client cannot take it for complete."""
        self.account(exchange)
        self.exchange = None
        self.is_last = True
        if self._response_framing is _UNTIL_CLOSE:
            # For this client the end of the connection is the end of the message: only a reset tells.
            reset(self.transport)
            return
        self.transport.close()

    def account(self, exchange: Exchange) -> None:
        self.role.account(self, exchange)
