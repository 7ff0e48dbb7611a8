"""One accepted HTTP/1.1 connection: requests in, exchanges one after the other, answers out.

Hot file: one object and one timer per connection, none per request (PERFORMANCE.md "What follows"). What
follows a complete request waits in the parser, unread, until the answer is written: pipelined requests are
answered in turn.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Collection
from time import monotonic
from typing import cast

from proxy.decide.grpc import call_of
from proxy.decide.progress import Progress
from proxy.exchange import Exchange
from proxy.h2_downstream import H2Downstream
from proxy.http.diagnose import HTTP2_PREFACE
from proxy.http.encode import encode_chunk, encode_last_chunk, encode_response_head, response_framing
from proxy.http.events import END, Body, Framing, Header, Headers, Refused
from proxy.http.h1 import Event, RequestParser
from proxy.http.head import RequestHead, ResponseHead
from proxy.intake import follow, forward, no_memory, take
from proxy.net.connection import UpstreamConnection, UpstreamSide
from proxy.net.listener import Accepted
from proxy.net.timers import Timer
from proxy.plan import Plan, Reply
from proxy.recheck import recheck_exchange
from proxy.sides import Role, Shared
from proxy.straight import launch
from proxy.tunnel import Splice

__all__ = ["Downstream"]

_log = logging.getLogger("meshpy.proxy")

HEAD_TIMEOUT_S = 10.0
"""For a request head, from its first byte (slowloris)."""
STALL_S = 60.0
"""For content that does not come, and for an answer that its client does not read."""
IDLE_TIMEOUT_S = 590.0
HALF_CLOSE_GRACE_S = 3.0
"""A client that closed its sending side may wait for its answer, or be gone: TCP does not tell."""
LINGER_S = 1.0
_CHECK_S = 2.0
_HIGH_WATER_BYTES = 256 * 1024
_CHUNKED = Framing.CHUNKED
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

_REASONS = {
    200: b"OK", 204: b"No Content", 301: b"Moved Permanently", 302: b"Found", 303: b"See Other",
    307: b"Temporary Redirect", 308: b"Permanent Redirect", 400: b"Bad Request", 401: b"Unauthorized",
    403: b"Forbidden", 404: b"Not Found", 405: b"Method Not Allowed", 408: b"Request Timeout",
    413: b"Content Too Large", 414: b"URI Too Long", 417: b"Expectation Failed", 418: b"I'm a teapot",
    429: b"Too Many Requests", 431: b"Request Header Fields Too Large", 500: b"Internal Server Error",
    501: b"Not Implemented", 502: b"Bad Gateway", 503: b"Service Unavailable", 504: b"Gateway Timeout",
    505: b"HTTP Version Not Supported",
}  # fmt: skip


_ENDED: list[Event] = [END]


class Downstream(Accepted):
    """Invariants: at most one exchange; `is_last` once the connection ends after it; `_out` is empty between
    two callbacks.
    """

    def __init__(self, role: Role, shared: Shared) -> None:
        self.role = role
        self.own = shared
        self.parser = RequestParser(allow_connect=role.allows_connect)
        self.exchange: Exchange | None = None
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)
        self.tells_not_sent = role.tells_not_sent
        self.peer_address = ""
        self.local_address = ""
        self.memo: dict[object, object] = {}
        self.context: object = None
        self.is_last = False
        self.is_reading_paused = False
        self.is_at_eof = False
        self._out: list[bytes | memoryview] = []
        self._response_framing = Framing.NONE
        self._is_handling = False
        self._is_lingering = False
        self._is_closed = False
        self._active_at = monotonic()
        self._timer: Timer | None = None
        self._progress = Progress()
        self._begun_at = 0.0

    takes_whole = True

    @property
    def connection(self) -> Downstream:
        return self

    @property
    def held_bytes(self) -> int:
        return self.transport.get_write_buffer_size()

    # -- callbacks of the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES)
        self.peer_address = self.own.peer_of(transport)
        local = transport.get_extra_info("sockname")
        self.local_address = f"{local[0]}:{local[1]}" if local else ""
        self.own.open.add(self)
        self._timer = self.own.wheel.after(_CHECK_S, self._check)
        self.role.name_peer(self)

    def data_received(self, data: bytes) -> None:
        self._active_at = monotonic()
        if self._is_lingering:
            return
        try:
            head = self.parser.read_get(data)
            if head is None:
                self._handle(self.parser.feed(data))
            else:
                self._take_get(head)
        except Exception:  # noqa: BLE001 - the per-connection guard: one connection's fault ends that connection
            _log.exception("a connection failed")
            self.transport.abort()

    def eof_received(self) -> bool:
        self.is_at_eof = True
        if self._is_lingering:
            return False
        exchange = self.exchange
        if exchange is None or not exchange.is_request_complete:
            events = self.parser.feed_eof()
            if exchange is not None or not events:
                return False
            self._handle(events)
            return False
        if not self.transport.can_write_eof():
            return False  # TLS: the loop closes both directions
        self.own.wheel.after(HALF_CLOSE_GRACE_S, lambda: self._cancel_half_closed(exchange))
        return True

    def _cancel_half_closed(self, exchange: Exchange) -> None:
        if self.exchange is exchange and not exchange.is_response_begun:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the loop's signature
        self._close_books()
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.cancel()

    def _close_books(self) -> None:
        self._is_closed = True
        self.own.open.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        if self.ticket is not None:
            self.ticket.release()

    def pause_writing(self) -> None:
        exchange = self.exchange
        if exchange is not None:
            exchange.pause_response()
        self.own.on_slow_peer()

    def resume_writing(self) -> None:
        self._active_at = monotonic()
        exchange = self.exchange
        if exchange is not None:
            exchange.resume_response()

    # -- requests

    def _handle(self, events: list[Event]) -> None:
        """Work through events, and through what the parser held back, without recursion."""
        self._is_handling = True
        try:
            while True:
                for event in events:
                    kind = type(event)
                    if kind is RequestHead:
                        self._begin(event)  # type: ignore[arg-type]
                    elif kind is Refused:
                        self._refuse(event)  # type: ignore[arg-type]
                    elif self.exchange is not None:
                        if kind is Body:
                            self.exchange.on_body(event.data)  # type: ignore[union-attr]
                        else:
                            self.exchange.on_request_end(event)  # type: ignore[arg-type]
                exchange = self.exchange
                if exchange is not None:
                    exchange.flush()
                    exchange = self.exchange
                if exchange is not None or self.is_last or self._is_closed:
                    break
                events = self.parser.next_message()
                if not events:
                    break
        finally:
            self._is_handling = False
        if self.exchange is not None and self.parser.has_leftover:
            self.pause_request()
        elif self.is_at_eof and self.exchange is None:
            self.transport.close()

    def _take_get(self, head: RequestHead) -> None:
        """A request that is complete with its head: the straight road, where it leads straight on."""
        role = self.role
        self._begun_at = self._active_at
        exchange = self.exchange = Exchange(self, head, self._active_at)
        if b"content-type" in head.fields:
            exchange.grpc = call_of(head)
        decision = role.decide(self, head) if not self.own.refuses_requests else self._no_memory()
        if type(decision) is Plan and decision.is_straight and exchange.grpc is None:
            forward(exchange, role, decision)
            launch(exchange, decision)
            return
        self._is_handling = True
        follow(exchange, role, decision)
        self._handle(_ENDED)

    def _no_memory(self) -> Reply:
        return no_memory(tells_not_sent=self.tells_not_sent)

    def _begin(self, head: RequestHead) -> None:
        self._begun_at = self._active_at
        exchange = self.exchange = Exchange(self, head, self._begun_at)
        take(exchange, self.role)

    def _refuse(self, refused: Refused) -> None:
        """Bytes that cannot be a request: answered, logged, and the connection ends."""
        exchange = self.exchange
        if refused.reason == HTTP2_PREFACE and self.parser.is_first and not self._is_tls():
            self._become_h2()
            return
        self.is_last = True
        if exchange is not None:
            if exchange.is_response_begun:
                self.transport.abort()
                return
            exchange.answer(_protocol_error(refused))
            return
        body = f"{refused.detail}\n".encode()
        self._write_head_and_body(refused.status, body, (), "GET", b"text/plain; charset=utf-8")
        self._linger()

    def _is_tls(self) -> bool:
        return self.transport.get_extra_info("ssl_object") is not None

    def _become_h2(self) -> None:
        """The client speaks HTTP/2 with prior knowledge (RFC 9113 §3.3): go on as a connection of it."""
        received = self.parser.take_leftover()
        self._close_books_for_tunnel()
        self._is_closed = True
        down = H2Downstream(self.role, self.own)
        down.ticket = self.ticket
        self.transport.set_protocol(down)
        down.connection_made(self.transport)
        down.data_received(received)

    # -- answers

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
            or framing is Framing.UNTIL_CLOSE
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
        self._response_framing = Framing.LENGTH
        close = not request.keep_alive or self.is_last or self.own.ends_connections
        if close:
            self.is_last = True
        self.transport.write(
            encode_response_head(
                head, (), request_minor=request.minor, close=close, drop=drop, content=content
            )
        )

    def send_body(self, data: bytes | memoryview) -> None:
        self._out.append(encode_chunk(data) if self._response_framing is _CHUNKED else data)

    def send_end(self, trailers: tuple[Header, ...]) -> None:
        if self._response_framing is _CHUNKED:
            self._out.append(encode_last_chunk(trailers))

    def flush_response(self) -> None:
        out = self._out
        if out:
            self.transport.write(out[0] if len(out) == 1 else b"".join(out))
            self._out = []

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
        return self._write_head_and_body(reply.status, body, reply.headers, head.method, reply.content_type)

    def _write_head_and_body(
        self,
        status: int,
        body: bytes,
        headers: tuple[tuple[bytes, bytes], ...],
        method: str,
        content_type: bytes,
    ) -> int:
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

    def on_exchange_over(self, exchange: Exchange) -> None:
        """The answer is written: account for it, then go on with the next request or close."""
        self.role.account(self, exchange)
        self.exchange = None
        if self._is_closed:
            return
        if self.own.ends_connections or (self.is_at_eof and not self.parser.has_leftover):
            self.is_last = True
        if self.is_last:
            if exchange.is_request_complete:
                self.transport.close()
            else:
                self._linger()
            return
        if self._is_handling:
            return
        self._active_at = monotonic()
        events = self.parser.next_message()
        if self.is_reading_paused:
            self._resume_reading()
        if events:
            self._handle(events)

    def on_broken(self, exchange: Exchange) -> None:
        """The response broke off: end the connection so that the client cannot take it for complete."""
        self.account(exchange)
        self.exchange = None
        self.is_last = True
        if self._response_framing is Framing.UNTIL_CLOSE:
            # For this client the end of the connection is the end of the message: only a reset tells.
            sock = self.transport.get_extra_info("socket")
            if sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self.transport.abort()
            return
        self.transport.close()

    def account(self, exchange: Exchange) -> None:
        self.role.account(self, exchange)

    def _linger(self) -> None:
        """Close, but let the client read the answer: data left unread would reset the connection."""
        self._is_lingering = True
        self._resume_reading()
        if self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()
        self.own.wheel.after(LINGER_S, self.transport.close)

    # -- flow and life

    def pause_request(self) -> None:
        if not self.is_reading_paused and not self._is_closed:
            self.is_reading_paused = True
            self.transport.pause_reading()

    def resume_request(self) -> None:
        if self.is_reading_paused and not self.parser.has_leftover:
            self._resume_reading()

    def _resume_reading(self) -> None:
        if self.is_reading_paused and not self._is_closed:
            self.is_reading_paused = False
            self.transport.resume_reading()

    def switch(self, exchange: Exchange, upstream: UpstreamSide, head: ResponseHead, plan: Plan) -> None:
        """Become a tunnel after 101, or 2xx to CONNECT; the exchange is accounted for when it ends."""
        assert isinstance(upstream, UpstreamConnection)  # noqa: S101 - only HTTP/1.1 has a 101
        ops = plan.response_ops
        self._out.append(encode_response_head(head, list(ops.extra), drop=ops.drop))
        to_upstream = self.parser.take_leftover()
        to_client = upstream.parser.take_leftover()
        exchange.bytes_received += len(to_upstream)
        exchange.bytes_sent += len(to_client)
        upstream.client = None
        upstream.host.detach(upstream)
        self._close_books_for_tunnel()
        splice = Splice(self.own.splices, lambda each: self._end_tunnel(exchange, each))
        splice.is_still_admitted = lambda: not isinstance(self.role.rejudge(self, exchange.head), Reply)
        splice.join(self.transport, upstream.transport, ticket=self.ticket)
        pool = plan.upstream.cluster.pool
        splice.limit(self.own.wheel, pool.tunnel_idle_timeout_s, pool.max_connection_duration_s)
        self._out.append(to_client)
        self.flush_response()
        if to_upstream:
            upstream.transport.write(to_upstream)
        self._resume_reading()

    def _close_books_for_tunnel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.own.open.discard(self)

    def _end_tunnel(self, exchange: Exchange, splice: Splice) -> None:
        exchange.bytes_received += splice.bytes_to_upstream
        exchange.bytes_sent += splice.bytes_to_client
        self._is_closed = True
        exchange.finish_tunnel()
        self.account(exchange)

    def recheck(self) -> None:
        """The configuration has changed: who may no longer speak is sent away, when idle at once."""
        if not self.role.is_still_admitted(self):
            self.is_last = True
            if self.exchange is None:
                self.transport.close()
                return
        recheck_exchange(self.exchange, self.role)

    def cut(self) -> None:
        """The peer may not speak any more."""
        self.transport.abort()

    def expire(self) -> None:
        """The peer's certificate has ended, and with it the connection."""
        if not self._is_closed:
            self.transport.abort()

    def begin_drain(self) -> None:
        """HTTP/1.1 tells with the next answer (`Connection: close`)."""

    def drain(self) -> None:
        """No further request after the one in progress."""
        if self.exchange is None and self.parser.is_idle:
            self.transport.close()

    def shrink(self) -> None:
        """HTTP/1.1 tells with the next answer (`Connection: close`)."""

    def exchanges(self) -> list[Exchange]:
        return [self.exchange] if self.exchange is not None else []

    def _check(self) -> None:
        """The connection's one timer: idle, too slow, or fine."""
        if self._is_closed:
            return
        now = monotonic()
        exchange = self.exchange
        if exchange is not None:
            self._check_exchange(exchange, now)
        elif unread := self.transport.get_write_buffer_size():
            if self._progress.still_s(unread, now) > STALL_S:
                self.transport.abort()
        elif not self.parser.is_idle:
            # From the first byte of a head, however slowly others follow: a drop at a time is an attack.
            if self._progress.still_s(self._begun_at, now) + _CHECK_S > HEAD_TIMEOUT_S:
                self._refuse(Refused(408, "head-timeout", "the request head did not arrive in time"))
                return
        elif now - self._active_at > IDLE_TIMEOUT_S:
            self.transport.close()
            return
        if not self._is_closed:
            self._timer = self.own.wheel.after(_CHECK_S, self._check)

    def _check_exchange(self, exchange: Exchange, now: float) -> None:
        """End an exchange that stands still: for its client, or for longer than its cluster allows."""
        unread = self.transport.get_write_buffer_size()
        still_s = self._progress.still_s((exchange.moved, unread), now)
        if unread and still_s > STALL_S:
            self.exchange = None
            exchange.cancel("response_write_timeout", flags="SI")
            self.transport.abort()
        elif (
            not exchange.is_request_complete
            and not self.is_reading_paused
            and now - self._active_at > STALL_S
        ):
            exchange.answer_or_break(Reply(408, "SI", "request_body_timeout", b"stream timeout"))
        elif still_s > exchange.stream_idle_s:
            exchange.answer_or_break(Reply(504, "SI", "stream_idle_timeout", b"stream timeout"))


def _protocol_error(refused: Refused) -> Reply:
    return Reply(refused.status, "DPE", f"http1.{refused.reason}", f"{refused.detail}\n".encode())
