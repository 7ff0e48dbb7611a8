"""One accepted HTTP/1.1 connection: requests in, exchanges one after the other.

Hot file: one object and one timer per connection, none per request (PERFORMANCE.md "What follows"). What
follows a complete request waits in the parser, unread, until the answer is written: pipelined requests are
answered in turn.
"""

from __future__ import annotations

import asyncio
import logging
from time import monotonic
from typing import Final

from proxy.decide.grpc import call_of
from proxy.decide.progress import Progress
from proxy.downstream import h1_watch
from proxy.downstream.h1_answers import H1Answers
from proxy.downstream.h1_tunnel import join_tunnel
from proxy.downstream.h2 import H2Downstream
from proxy.exchange import Exchange
from proxy.exchange.straight import launch
from proxy.http.diagnose import HTTP2_PREFACE
from proxy.http.events import END, Body, Refused
from proxy.http.h1 import Event, RequestParser
from proxy.http.head import RequestHead, ResponseHead
from proxy.intake import follow, forward, no_memory, take
from proxy.net.connection import UpstreamConnection, UpstreamSide
from proxy.plan import Plan, Reply
from proxy.sides import Role, Shared

__all__ = ["Downstream"]

_log = logging.getLogger("meshpy.proxy")

HALF_CLOSE_GRACE_S = 3.0
"""A client that closed its sending side may wait for its answer, or be gone: TCP does not tell."""
LINGER_S = 1.0
_ENDED: Final[list[Event]] = [END]


class Downstream(H1Answers):
    """Invariants: at most one exchange; `is_last` once the connection ends after it. None begins while the
    client is behind with what was written for the last one: only who has an exchange holds its upstream back.
    """

    def __init__(self, role: Role, shared: Shared) -> None:
        super().__init__(role, shared)
        self.tells_not_sent = role.tells_not_sent
        self.parser = RequestParser(allow_connect=role.allows_connect)
        self.is_reading_paused = False
        self._is_behind = False
        self._is_handling = False
        self._is_lingering = False
        self.progress = Progress()
        self.begun_at = 0.0

    @property
    def connection(self) -> Downstream:
        return self

    # -- callbacks of the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.open(transport)

    def data_received(self, data: bytes) -> None:
        self.active_at = monotonic()
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
        self.close_books()
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.cancel()

    def pause_writing(self) -> None:
        self._is_behind = True
        exchange = self.exchange
        if exchange is not None:
            exchange.pause_response()
        self.own.on_slow_peer()

    def resume_writing(self) -> None:
        self.active_at = monotonic()
        self._is_behind = False
        exchange = self.exchange
        if exchange is not None:
            exchange.resume_response()
        elif not self.is_last and not self.is_closed:
            self._go_on()

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
                        self.refuse(event)  # type: ignore[arg-type]
                    elif self.exchange is not None:
                        if kind is Body:
                            self.exchange.on_body(event.data)  # type: ignore[union-attr]
                        else:
                            self.exchange.on_request_end(event)  # type: ignore[arg-type]
                exchange = self.exchange
                if exchange is not None:
                    exchange.flush()
                    exchange = self.exchange
                if exchange is not None or self.is_last or self.is_closed or self._is_behind:
                    break
                events = self.parser.next_message()
                if not events:
                    break
        finally:
            self._is_handling = False
        if (self.exchange is not None or self._is_behind) and self.parser.has_leftover:
            self.pause_request()
        elif self.is_at_eof and self.exchange is None:
            self.transport.close()

    def _take_get(self, head: RequestHead) -> None:
        """A request that is complete with its head: the straight road, where it leads straight on."""
        role = self.role
        self.begun_at = self.active_at
        exchange = self.exchange = Exchange(self, head, self.active_at)
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
        self.begun_at = self.active_at
        exchange = self.exchange = Exchange(self, head, self.begun_at)
        take(exchange, self.role)

    def refuse(self, refused: Refused) -> None:
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
        self.write_head_and_body(refused.status, body, (), "GET", b"text/plain; charset=utf-8")
        self._linger()

    def _is_tls(self) -> bool:
        return self.transport.get_extra_info("ssl_object") is not None

    def _become_h2(self) -> None:
        """The client speaks HTTP/2 with prior knowledge (RFC 9113 §3.3): go on as a connection of it."""
        received = self.parser.take_leftover()
        self.leave()
        self.is_closed = True
        down = H2Downstream(self.role, self.own)
        down.ticket = self.ticket
        self.transport.set_protocol(down.as_protocol())
        down.connection_made(self.transport)
        if received and not self.transport.is_closing():
            down.data_received(received)

    # -- the end of an answer

    def on_exchange_over(self, exchange: Exchange) -> None:
        """The answer is written: account for it, then go on with the next request or close."""
        self.role.account(self, exchange)
        self.exchange = None
        if self.is_closed:
            return
        if self.own.ends_connections or (self.is_at_eof and not self.parser.has_leftover):
            self.is_last = True
        if self.is_last:
            if exchange.is_request_complete:
                self.transport.close()
            else:
                self._linger()
            return
        if self._is_handling or self._is_behind:
            return
        self.active_at = monotonic()
        self._go_on()

    def _go_on(self) -> None:
        """With the next request, once the client has taken enough of the last answer."""
        events = self.parser.next_message()
        if self.is_reading_paused:
            self._resume_reading()
        if events:
            self._handle(events)

    def _linger(self) -> None:
        """Close, but let the client read the answer: data left unread would reset the connection."""
        self._is_lingering = True
        self._resume_reading()
        if self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()
        self.own.wheel.after(LINGER_S, self.transport.close)

    # -- flow and life

    def pause_request(self) -> None:
        if not self.is_reading_paused and not self.is_closed:
            self.is_reading_paused = True
            self.transport.pause_reading()

    def resume_request(self) -> None:
        if self.is_reading_paused and not self.parser.has_leftover:
            self._resume_reading()

    def _resume_reading(self) -> None:
        if self.is_reading_paused and not self.is_closed:
            self.is_reading_paused = False
            self.transport.resume_reading()

    def switch(self, exchange: Exchange, upstream: UpstreamSide, head: ResponseHead, plan: Plan) -> None:
        """Become a tunnel after 101, or 2xx to CONNECT."""
        assert isinstance(upstream, UpstreamConnection)  # noqa: S101 - only HTTP/1.1 has a 101
        self.flush_response()
        self.leave()
        join_tunnel(self, exchange, upstream, head, plan)
        self._resume_reading()

    def on_tunnel_over(self, exchange: Exchange) -> None:
        """The tunnel that the exchange became has ended."""
        self.is_closed = True
        self.forget_expiry()
        exchange.finish()
        self.account(exchange)

    def recheck(self) -> None:
        """The configuration has changed: who may no longer speak is sent away, when idle at once."""
        if not self.role.is_still_admitted(self):
            self.is_last = True
            if self.exchange is None:
                self.transport.close()

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

    def check(self) -> None:
        h1_watch.check(self)


def _protocol_error(refused: Refused) -> Reply:
    return Reply(refused.status, "DPE", f"http1.{refused.reason}", f"{refused.detail}\n".encode())
