"""One accepted HTTP/2 connection: an exchange for each stream, their answers in few writes.

Hot file. What many streams answer in one turn of the loop leaves in one write; a connection has one timer,
streams have none.
"""

from __future__ import annotations

import asyncio
import logging
import math
from time import monotonic
from typing import Final, cast

from proxy.decide.progress import Progress
from proxy.downstream import life
from proxy.downstream.h2_stream import ServerStream
from proxy.downstream.life import HttpConnection
from proxy.exchange import Exchange
from proxy.http.events import Body, End, Refused
from proxy.http.h2 import ServerCodec
from proxy.http.h2control import H2Event, Reset
from proxy.http.h2frames import MAX_WINDOW, ErrorCode
from proxy.http.h2stream import Stream
from proxy.http.head import RequestHead
from proxy.intake import take
from proxy.plan import Reply
from proxy.sides import Role, Shared

__all__ = ["H2Downstream"]

_log = logging.getLogger("meshpy.proxy")

GOAWAY_GRACE_S = 1.0
"""Between the announcement of the end and the end itself: requests on their way still arrive."""
_ANNOUNCED: Final = b"meshpy:d"


class H2Downstream(HttpConnection):
    """Invariants: a live stream has an exchange until its answer is complete; `is_last` once no new stream is
    served.
    """

    def __init__(self, role: Role, shared: Shared) -> None:
        super().__init__(role, shared)
        self.codec = ServerCodec(new_stream=self._make_stream)
        self._is_announced = False
        self._is_scheduled = False

    def _make_stream(self, number: int, send_window: int, receive_window: int, now: float) -> ServerStream:
        return ServerStream(self, number, send_window, receive_window, now)

    # -- callbacks of the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.open(transport)
        self.schedule()
        if self.own.is_draining:
            self.begin_drain()

    def data_received(self, data: bytes) -> None:
        now = self.active_at = monotonic()
        try:
            events = self.codec.receive(data, now)
            if events:
                self._handle(events, now)
        except Exception:  # noqa: BLE001 - the guard: one connection's fault ends that connection
            _log.exception("a connection failed")
            self.transport.abort()
            return
        codec = self.codec
        if codec.error is not None:
            _log.info("%s breaks HTTP/2: %s", self.peer_address, codec.error.reason)
            self._flush()
            self.transport.close()
            return
        if codec.pongs:
            self._on_pongs()
        self.schedule()

    def _handle(self, events: list[tuple[Stream, H2Event]], now: float) -> None:
        touched: ServerStream | None = None
        for each, event in events:
            stream = cast("ServerStream", each)
            if touched is not None and stream is not touched:
                if touched.exchange is not None:
                    touched.exchange.flush()
                touched = None
            kind = type(event)
            if kind is RequestHead:
                exchange = stream.exchange = Exchange(stream, event, now)  # type: ignore[arg-type]
                take(exchange, self.role)
                touched = stream
            elif kind is Refused:
                self._refuse(stream, event)  # type: ignore[arg-type]
            elif stream.exchange is not None:
                stream.moved_at = now
                if kind is Body:
                    stream.exchange.on_body(event.data)  # type: ignore[union-attr]
                    touched = stream
                elif kind is End:
                    stream.exchange.on_request_end(event)  # type: ignore[arg-type]
                    touched = stream
                else:
                    self._on_reset(stream, event)  # type: ignore[arg-type]
        if touched is not None and touched.exchange is not None:
            touched.exchange.flush()

    def _on_reset(self, stream: ServerStream, reset: Reset) -> None:
        exchange, stream.exchange = stream.exchange, None
        if exchange is not None:
            exchange.cancel(f"http2.{reset.reason or 'remote_reset'}", flags="DPE" if reset.is_ours else "DC")
        self.on_stream_over()

    def _refuse(self, stream: ServerStream, refused: Refused) -> None:
        """A head that is well formed and not served."""
        body = f"{refused.detail}\n".encode()
        codec = self.codec
        fields = [
            (b":status", b"%d" % refused.status),
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", b"%d" % len(body)),
        ]
        codec.send_head(stream, fields)
        codec.send_content(stream, [body], ())
        codec.reset(stream, ErrorCode.NO_ERROR)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the loop's signature
        self.close_books()
        streams, self.codec.streams = self.codec.streams, {}
        for each in streams.values():
            stream = cast("ServerStream", each)
            exchange, stream.exchange = stream.exchange, None
            if exchange is not None:
                exchange.cancel()

    def pause_writing(self) -> None:
        self.codec.hold_writes()

    def resume_writing(self) -> None:
        self.active_at = monotonic()
        self.codec.release_writes()
        self.schedule()

    # -- writing

    def schedule(self) -> None:
        """Write at the end of this turn of the loop."""
        if not self._is_scheduled and self.codec.out:
            self._is_scheduled = True
            self.own.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_scheduled = False
        if not self.is_closed and self.codec.out:
            self.transport.write(self.codec.take())

    # -- life

    def on_stream_over(self) -> None:
        """A stream has ended; the last one ends a connection that takes no more."""
        if self.is_last and not self.codec.streams:
            self._close()

    def _close(self) -> None:
        if not self.is_closed and not self.transport.is_closing():
            self._flush()
            self.transport.close()

    def begin_drain(self) -> None:
        """Announce the end: requests that are on their way are served (RFC 9113 §6.8)."""
        if not self._is_announced and not self.is_closed:
            self._is_announced = True
            self.codec.goaway(MAX_WINDOW)
            self.codec.ping(_ANNOUNCED)
            self.schedule()
            self.own.wheel.after(GOAWAY_GRACE_S, self._finish_drain)

    def _on_pongs(self) -> None:
        if _ANNOUNCED in self.codec.pongs:
            self._finish_drain()
        self.codec.pongs.clear()

    def _finish_drain(self) -> None:
        """Take no new stream; end when the last one does."""
        if not self.is_last and not self.is_closed:
            self.is_last = True
            self.codec.goaway(self.codec.finish())
            self.schedule()
            self.on_stream_over()

    def drain(self) -> None:
        """The process is about to end."""
        self.begin_drain()

    def shrink(self) -> None:
        """Memory is short: clients open another connection when it is not."""
        self.begin_drain()

    def exchanges(self) -> list[Exchange]:
        streams = (cast("ServerStream", each) for each in self.codec.streams.values())
        return [stream.exchange for stream in streams if stream.exchange is not None]

    def recheck(self) -> None:
        """The configuration has changed: who may no longer speak is sent away, with what it asked for."""
        if not self.role.is_still_admitted(self):
            self.begin_drain()

    def check(self) -> None:
        """The connection's one timer."""
        if self.is_closed:
            return
        now = monotonic()
        silent_s = now - self.active_at
        codec = self.codec
        if codec.is_within_head and silent_s + life.CHECK_S > life.HEAD_TIMEOUT_S:
            self.transport.abort()
            return
        if not codec.streams and silent_s > life.IDLE_TIMEOUT_S:
            self.begin_drain()
        for each in list(codec.streams.values()):
            self._check_stream(cast("ServerStream", each), now)
        self.check_again()

    def _check_stream(self, stream: ServerStream, now: float) -> None:
        """End a stream whose client keeps it waiting."""
        exchange = stream.exchange
        if exchange is not None and exchange.stream_idle_s < math.inf:
            if stream.progress is None:
                stream.progress = Progress()
            if stream.progress.still_s(exchange.moved, now) > exchange.stream_idle_s:
                exchange.answer_or_break(Reply(504, "SI", "stream_idle_timeout", b"stream timeout"))
                return
        if now - stream.moved_at < life.STALL_S:
            return
        if stream.waiting is not None:
            if exchange is not None:
                exchange.answer_or_break(Reply(408, "SI", "stream_idle_timeout", b"stream timeout"))
            else:
                self.codec.reset(stream, ErrorCode.CANCEL)
                self.schedule()
                self.on_stream_over()
            return
        is_owed = exchange is not None and not exchange.is_request_complete and not stream.is_held
        # A call of gRPC may be silent for hours; so may who streams while being answered.
        if exchange is not None and is_owed and not exchange.is_response_begun and exchange.grpc is None:
            exchange.answer(Reply(408, "SI", "request_body_timeout", b"stream timeout"))
