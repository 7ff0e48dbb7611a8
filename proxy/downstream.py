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
from collections.abc import Callable
from typing import Protocol, cast

from proxy.decide.headers import Ids
from proxy.exchange import Exchange
from proxy.http.encode import encode_request_head
from proxy.http.events import Body, End, Framing, Headers, Refused
from proxy.http.h1 import Event, RequestParser
from proxy.http.head import RequestHead
from proxy.net.connection import UpstreamConnection
from proxy.net.listener import Accepted
from proxy.net.timers import Timer, Wheel
from proxy.plan import NO_OPS, Plan, Reply
from proxy.tunnel import Splice

__all__ = ["Downstream", "Role", "Shared"]

_log = logging.getLogger("meshpy.proxy")

HEAD_TIMEOUT_S = 10.0
"""For a request head, from its first byte (slowloris)."""
BODY_STALL_S = 60.0
IDLE_TIMEOUT_S = 590.0
HALF_CLOSE_GRACE_S = 3.0
"""A client that closed its sending side may wait for its answer, or be gone: TCP does not tell."""
LINGER_S = 1.0
_CHECK_S = 2.0
_HIGH_WATER_BYTES = 256 * 1024
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


class Shared:
    """What all connections of a process share.

    Args:
        draw: uniform numbers of [0, 1).
        is_draining: the process was told to stop: answer, then close.
    """

    __slots__ = ("draw", "ids", "is_draining", "loop", "open", "splices", "wheel")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, wheel: Wheel, draw: Callable[[], float], ids: Ids
    ) -> None:
        self.loop = loop
        self.wheel = wheel
        self.draw = draw
        self.ids = ids
        self.is_draining = False
        self.open: set[Downstream] = set()
        self.splices: set[Splice] = set()


class Role(Protocol):
    """What distinguishes the app's calls from calls to the app."""

    tells_not_sent: bool

    def decide(self, down: Downstream, head: RequestHead) -> Plan | Reply:
        """Route and authorize a request."""

    def write_fields(self, down: Downstream, exchange: Exchange, extra: Headers) -> list[bytes]:
        """Fields of the mesh for the upstream; returns received names to drop."""

    def is_still_admitted(self, down: Downstream) -> bool:
        """Whether the peer may go on after a change of configuration."""

    def account(self, down: Downstream, exchange: Exchange) -> None:
        """Log and count an exchange that is over."""

    def name_peer(self, down: Downstream) -> None:
        """Learn who is calling, once, when the connection is made."""


class Downstream(Accepted):
    """Invariants: at most one exchange; `is_last` once the connection ends after it."""

    def __init__(self, role: Role, shared: Shared) -> None:
        self.role = role
        self.own = shared
        self.parser = RequestParser()
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
        self._is_handling = False
        self._is_lingering = False
        self._is_closed = False
        self._active_at = shared.loop.time()
        self._timer: Timer | None = None

    # -- callbacks of the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES)
        peer = transport.get_extra_info("peername")
        self.peer_address = str(peer[0]) if peer else ""
        local = transport.get_extra_info("sockname")
        self.local_address = f"{local[0]}:{local[1]}" if local else ""
        self.own.open.add(self)
        self._timer = self.own.wheel.after(_CHECK_S, self._check)
        self.role.name_peer(self)

    def data_received(self, data: bytes) -> None:
        self._active_at = self.own.loop.time()
        if self._is_lingering:
            return
        try:
            self._handle(self.parser.feed(data))
        except Exception:  # noqa: BLE001 - the per-connection guard: one connection's fault ends that connection
            _log.exception("a connection failed")
            self.transport.abort()

    def eof_received(self) -> bool:
        self.is_at_eof = True
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
        if exchange is not None and exchange.connection is not None:
            exchange.connection.transport.pause_reading()

    def resume_writing(self) -> None:
        self._active_at = self.own.loop.time()
        exchange = self.exchange
        if exchange is not None and exchange.connection is not None:
            exchange.connection.transport.resume_reading()

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
            self.pause_reading()
        elif self.is_at_eof and self.exchange is None:
            self.transport.close()

    def _begin(self, head: RequestHead) -> None:
        exchange = self.exchange = Exchange(self, head, self.own.loop.time())
        decision = self.role.decide(self, head)
        if isinstance(decision, Reply):
            self._answer_at_head(exchange, decision)
            return
        if decision.fault is not None and self._inject(exchange, decision):
            return
        self._forward(exchange, decision)

    def _answer_at_head(self, exchange: Exchange, reply: Reply) -> None:
        """Answer without the content: only a request that has none leaves the connection usable."""
        exchange.is_request_complete = exchange.is_request_complete or exchange.head.framing is Framing.NONE
        exchange.answer(reply)

    def _forward(self, exchange: Exchange, plan: Plan) -> None:
        head = exchange.head
        extra: Headers = []
        dropped = self.role.write_fields(self, exchange, extra)
        ops = plan.request_ops
        host = plan.host
        drop: list[bytes] | frozenset[bytes] = dropped
        if ops is not NO_OPS:
            extra = [pair for pair in extra if pair[0] not in ops.drop] + list(ops.extra)
            drop = ops.drop.union(dropped)
            host = ops.host or host
        data = encode_request_head(
            head, extra, target=plan.target, host=host, drop=drop, upgrade=head.upgrade is not None
        )
        exchange.begin(plan, data)

    def _inject(self, exchange: Exchange, plan: Plan) -> bool:
        """Istio `fault`; True when the exchange does not go its usual way now."""
        fault = plan.fault
        if fault is None:
            return False
        is_aborted = fault.abort_pct > 0 and self.own.draw() * 100 < fault.abort_pct
        is_delayed = fault.delay_pct > 0 and self.own.draw() * 100 < fault.delay_pct
        if is_delayed:
            exchange.is_waiting = True
            exchange.flags = "DI"
            self.pause_reading()
            self.own.wheel.after(
                fault.delay_s, lambda: self._after_delay(exchange, plan, is_aborted=is_aborted)
            )
            return True
        if is_aborted:
            self._abort(exchange, plan, "FI")
        return is_aborted

    def _after_delay(self, exchange: Exchange, plan: Plan, *, is_aborted: bool) -> None:
        if exchange.is_over or self._is_closed:
            return
        exchange.is_waiting = False
        if is_aborted:
            self._abort(exchange, plan, "DI,FI")
            return
        is_complete = exchange.is_request_complete
        self._forward(exchange, plan)
        if is_complete:
            exchange.on_request_end(End())
        exchange.flush()
        if not self.parser.has_leftover:
            self.resume_reading()

    def _abort(self, exchange: Exchange, plan: Plan, flags: str) -> None:
        status = plan.fault.abort_status if plan.fault is not None else 503
        body = b"fault filter abort"
        self._answer_at_head(
            exchange,
            Reply(
                status, flags, "fault_filter_abort", body, service=plan.service, route_name=plan.route_name
            ),
        )

    def _refuse(self, refused: Refused) -> None:
        """Bytes that cannot be a request: answered, logged, and the connection ends."""
        exchange = self.exchange
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

    # -- answers

    def write_reply(self, exchange: Exchange, reply: Reply) -> int:
        """Write an answer of our own; returns the bytes of its content."""
        head = exchange.head
        if not head.keep_alive or self.is_at_eof or self.own.is_draining or not exchange.is_request_complete:
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
        is_bodiless = method == "HEAD" or status in (204, 304)
        self.transport.write(data if is_bodiless else data + body)
        return 0 if is_bodiless else len(body)

    def on_exchange_over(self, exchange: Exchange) -> None:
        """The answer is written: account for it, then go on with the next request or close."""
        self.account(exchange)
        self.exchange = None
        if self._is_closed:
            return
        if self.own.is_draining or (self.is_at_eof and not self.parser.has_leftover):
            self.is_last = True
        if self.is_last:
            if exchange.is_request_complete:
                self.transport.close()
            else:
                self._linger()
            return
        if self._is_handling:
            return
        self._active_at = self.own.loop.time()
        events = self.parser.next_message()
        self.resume_reading()
        if events:
            self._handle(events)

    def on_broken(self, exchange: Exchange) -> None:
        """The response broke off: end the connection so that the client cannot take it for complete."""
        self.account(exchange)
        self.exchange = None
        self.is_last = True
        if exchange.response_framing is Framing.UNTIL_CLOSE:
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
        self.resume_reading()
        if self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()
        self.own.wheel.after(LINGER_S, self.transport.close)

    # -- flow and life

    @property
    def is_draining(self) -> bool:
        return self.own.is_draining or self.is_last

    def pause_reading(self) -> None:
        if not self.is_reading_paused and not self._is_closed:
            self.is_reading_paused = True
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        if self.is_reading_paused and not self._is_closed:
            self.is_reading_paused = False
            self.transport.resume_reading()

    def switch(self, exchange: Exchange, connection: UpstreamConnection, head: bytes) -> None:
        """Become a tunnel after 101; the exchange is accounted for when it ends."""
        to_upstream = self.parser.take_leftover()
        to_client = connection.parser.take_leftover()
        exchange.bytes_received += len(to_upstream)
        exchange.bytes_sent += len(to_client)
        exchange.connection = None
        connection.client = None
        connection.host.detach(connection)
        self._close_books_for_tunnel()
        splice = Splice(self.own.splices, lambda each: self._end_tunnel(exchange, each))
        splice.is_still_admitted = lambda: not isinstance(self.role.decide(self, exchange.head), Reply)
        splice.join(self.transport, connection.transport, ticket=self.ticket)
        self.transport.write(head + to_client)
        if to_upstream:
            connection.transport.write(to_upstream)
        self.resume_reading()

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
        """The configuration has changed: an idle peer that may no longer speak is sent away."""
        if not self.role.is_still_admitted(self):
            self.is_last = True
            if self.exchange is None:
                self.transport.close()

    def expire(self) -> None:
        """The peer's certificate has ended, and with it the connection."""
        if not self._is_closed:
            self.transport.abort()

    def drain(self) -> None:
        """No further request after the one in progress."""
        if self.exchange is None and self.parser.is_idle:
            self.transport.close()

    def _check(self) -> None:
        """The connection's one timer: idle, too slow, or fine."""
        if self._is_closed:
            return
        silent_s = self.own.loop.time() - self._active_at
        exchange = self.exchange
        if exchange is None:
            if not self.parser.is_idle and silent_s + _CHECK_S > HEAD_TIMEOUT_S:
                self._refuse(Refused(408, "head-timeout", "the request head did not arrive in time"))
                return
            if silent_s > IDLE_TIMEOUT_S:
                self.transport.close()
                return
        elif not exchange.is_request_complete and not self.is_reading_paused and silent_s > BODY_STALL_S:
            exchange.answer_or_break(Reply(408, "SI", "request_body_timeout", b"stream timeout"))
            return
        self._timer = self.own.wheel.after(_CHECK_S, self._check)


def _protocol_error(refused: Refused) -> Reply:
    return Reply(refused.status, "DPE", f"http1.{refused.reason}", f"{refused.detail}\n".encode())
