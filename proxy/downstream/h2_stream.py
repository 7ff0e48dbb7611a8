"""One stream of an accepted HTTP/2 connection: the downstream side of its exchange."""

from __future__ import annotations

from collections.abc import Collection
from time import monotonic
from typing import TYPE_CHECKING

from proxy.decide.grpc import UNAVAILABLE, trailers_of
from proxy.decide.progress import Progress
from proxy.exchange import Exchange
from proxy.http.events import Header, Headers
from proxy.http.h2frames import ErrorCode
from proxy.http.h2heads import response_fields, trailer_fields
from proxy.http.h2stream import Stream
from proxy.http.head import ResponseHead
from proxy.net.connection import UpstreamSide
from proxy.plan import Plan, Reply

if TYPE_CHECKING:
    from proxy.downstream.h2 import H2Downstream

__all__ = ["ServerStream"]


class ServerStream(Stream):
    """A request of the connection, as its exchange sees it; an answer gathers until `flush_response`."""

    __slots__ = (
        "_fields",
        "_head",
        "_parts",
        "_tail",
        "connection",
        "exchange",
        "moved_at",
        "own",
        "progress",
        "takes_whole",
        "tells_not_sent",
    )

    def __init__(
        self, connection: H2Downstream, number: int, send_window: int, receive_window: int, now: float
    ) -> None:
        super().__init__(number, send_window, receive_window, now)
        self.connection = connection
        self.own = connection.own
        self.tells_not_sent = connection.role.tells_not_sent
        self.takes_whole = False
        self.exchange: Exchange | None = None
        self.moved_at = now
        self.progress: Progress | None = None
        self._fields: Headers | None = None
        self._head: ResponseHead | None = None
        self._parts: list[bytes | memoryview] = []
        self._tail: tuple[Header, ...] | None = None

    @property
    def held_bytes(self) -> int:
        return self.waiting_bytes

    # -- the request

    def pause_request(self) -> None:
        self.connection.codec.hold(self)

    def resume_request(self) -> None:
        if self.is_held:
            self.moved_at = monotonic()
            self.connection.codec.release(self)
            self.connection.schedule()

    # -- the response

    def send_interim(self, head: ResponseHead) -> None:
        self.connection.codec.send_head(self, response_fields(head, [], ()))
        self.connection.schedule()

    def send_head(
        self,
        exchange: Exchange,  # noqa: ARG002 - HTTP/1.1 asks it whether the connection goes on
        head: ResponseHead,
        extra: Headers,
        drop: Collection[bytes],
    ) -> None:
        if head.minor == 2 and head.comes_again and not extra and not drop:
            self._head = head
        else:
            self._fields = response_fields(head, extra, drop)

    def send_body(self, data: bytes | memoryview) -> None:
        self._parts.append(data)

    def send_end(self, trailers: tuple[Header, ...]) -> None:
        self._tail = trailer_fields(trailers) if trailers else ()

    def flush_response(self) -> None:
        fields, parts, tail = self._fields, self._parts, self._tail
        codec = self.connection.codec
        head = self._head
        if fields is not None or head is not None:
            self._fields = self._head = None
            is_end = tail == () and not parts
            if head is not None:
                block = codec.encoder.encode_again(head, lambda: response_fields(head, [], ()))
            else:
                block = codec.encoder.encode(fields or ())
            codec.send_block(self, block, is_end=is_end)
            if is_end:
                self.connection.schedule()
                return
        if parts or tail is not None:
            self._parts = []
            codec.send_content(self, parts, tail)
        self.connection.schedule()

    def write_reply(self, exchange: Exchange, reply: Reply) -> int:
        body = b"" if exchange.head.method == "HEAD" or reply.status in (204, 304) else reply.body
        fields: Headers = [(b":status", b"%d" % reply.status)]
        fields += [(name.lower(), value) for name, value in reply.headers]
        if reply.body:
            fields.append((b"content-type", reply.content_type))
        if reply.status >= 200 and reply.status not in (204, 304) and reply.grpc_status is None:
            fields.append((b"content-length", b"%d" % len(reply.body)))
        self._fields, self._head, self._tail = fields, None, ()
        self._parts = [body] if body else []
        self.flush_response()
        return len(body)

    def on_exchange_over(self, exchange: Exchange) -> None:
        self.account(exchange)
        self.exchange = None
        connection = self.connection
        if not self.is_remote_closed:
            if self.waiting is None:
                # RFC 9113 §8.1: the answer does not need the rest of the request.
                connection.codec.reset(self, ErrorCode.NO_ERROR)
            else:
                self.is_held = False
        connection.schedule()
        connection.on_stream_over()

    def on_broken(self, exchange: Exchange) -> None:
        self.account(exchange)
        self.exchange = None
        connection = self.connection
        codec = connection.codec
        call = exchange.grpc
        if call is not None and not self.is_local_closed:
            # A call that fails midway still has a status; what was sent of it was whole frames.
            status = call.status or UNAVAILABLE
            codec.send_content(self, [], trailers_of(status, exchange.details.encode("latin-1", "replace")))
        if call is None:
            codec.reset(self, ErrorCode.INTERNAL_ERROR)
        elif self.waiting is None:
            codec.reset(self, ErrorCode.NO_ERROR)
        connection.schedule()
        connection.on_stream_over()

    def account(self, exchange: Exchange) -> None:
        self.connection.role.account(self.connection, exchange)

    def switch(
        self,
        exchange: Exchange,  # noqa: ARG002 - the seam's signature; HTTP/2 has no 101
        upstream: UpstreamSide,  # noqa: ARG002
        head: ResponseHead,  # noqa: ARG002
        plan: Plan,  # noqa: ARG002
    ) -> None:
        raise RuntimeError("a request of HTTP/2 asks for no upgrade")

    # -- flow

    def hold_source(self) -> None:
        if self.exchange is not None:
            self.exchange.pause_response()
        self.own.on_slow_peer()

    def release_source(self) -> None:
        self.moved_at = monotonic()
        if self.exchange is not None:
            self.exchange.resume_response()
