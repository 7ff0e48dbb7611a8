"""One connection to an upstream that speaks HTTP/2, shared by many exchanges: each has a stream of it.

Hot file: what all streams have to say in one turn of the loop leaves in one write, and what came in one read
is handed to each exchange in one piece.
"""

from __future__ import annotations

import asyncio
import logging
from time import monotonic
from typing import TYPE_CHECKING, Final, cast

from certs.errors import PeerRefused
from proxy.http.events import End, Refused
from proxy.http.h2 import ClientCodec
from proxy.http.h2control import H2Event, Reset
from proxy.http.h2frames import ErrorCode
from proxy.http.h2heads import request_fields, trailer_fields
from proxy.http.h2stream import Stream
from proxy.http.hygiene import trailers_beside
from proxy.net.connection import Client, UpstreamHttp
from proxy.net.dial import LOST_AFTER_S, is_admitted, keep_alive
from proxy.net.tls import ALPN_H2

if TYPE_CHECKING:
    from proxy.net.h2_pool import StreamPool
    from proxy.plan import Plan

__all__ = ["H2Connection", "UpstreamStream"]

_log = logging.getLogger("meshpy.proxy")

_HIGH_WATER_BYTES: Final = 256 * 1024


class UpstreamStream(Stream):
    """An exchange's place on a shared connection. Invariant: `client` is set until the exchange leaves."""

    __slots__ = ("_connection", "client")

    def __init__(
        self, connection: H2Connection, number: int, send_window: int, receive_window: int, now: float
    ) -> None:
        super().__init__(number, send_window, receive_window, now)
        self._connection = connection
        self.client: Client | None = None

    @property
    def is_reused(self) -> bool:
        return self._connection.served > 1

    def begin(self, client: Client, method: str) -> None:
        self.client = client
        self.is_bodiless = method == "HEAD"
        self._connection.served += 1

    def send(self, client: Client, parts: list[bytes | memoryview], end: End | None) -> None:
        connection = self._connection
        codec = connection.codec
        tail = None
        if end is not None:
            tail = trailer_fields(trailers_beside(client.drop, end.trailers)) if end.trailers else ()
        if not client.is_sent:
            plan = client.plan
            assert plan is not None  # noqa: S101 - only an exchange with a plan has tries
            block = connection.encode_head(client, plan)
            codec.send_block(self, block, is_end=tail == () and not parts)
            if not parts and not tail:
                connection.schedule()
                return
        codec.send_content(self, parts, tail)
        connection.schedule()

    def finish(self, *, is_reusable: bool) -> None:  # noqa: ARG002 - the others on the connection go on
        self._leave(ErrorCode.NO_ERROR)

    def abort(self) -> None:
        self._leave(ErrorCode.CANCEL)

    def _leave(self, code: ErrorCode) -> None:
        self.client = None
        connection = self._connection
        connection.codec.reset(self, code)
        connection.schedule()
        connection.on_room()

    @property
    def held_bytes(self) -> int:
        return self.waiting_bytes

    def pause(self) -> None:
        self._connection.codec.hold(self)

    def resume(self) -> None:
        connection = self._connection
        connection.codec.release(self)
        connection.schedule()

    def hold_source(self) -> None:
        if self.client is not None:
            self.client.on_upstream_paused()

    def release_source(self) -> None:
        if self.client is not None:
            self.client.on_upstream_resumed()


class H2Connection(UpstreamHttp):
    """Invariants: no stream is opened once it is retired; it closes when it is retired and has none."""

    def __init__(self, pool: StreamPool, loop: asyncio.AbstractEventLoop, scheme: bytes) -> None:
        super().__init__(loop, monotonic())
        self.pool = pool
        self.scheme = scheme
        self.codec = ClientCodec(new_stream=self._make_stream)
        self._is_scheduled = False

    def _make_stream(self, number: int, send_window: int, receive_window: int, now: float) -> UpstreamStream:
        return UpstreamStream(self, number, send_window, receive_window, now)

    # -- callbacks of the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not is_admitted(self, transport):
            return
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() != ALPN_H2:
            self.refusal = PeerRefused("alpn", "the peer does not speak HTTP/2 (ALPN h2)")
            cast("asyncio.Transport", transport).abort()
            return
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES)
        self.is_open = True
        keep_alive(transport, self.pool.host.upstream.cluster.pool, LOST_AFTER_S)
        self.schedule()

    def data_received(self, data: bytes) -> None:
        codec = self.codec
        events = codec.receive(data, monotonic())
        if events:
            self._hand_on(events)
        if codec.gone is not None:
            self.is_retired = True
        if codec.error is not None:
            _log.warning("upstream %s breaks HTTP/2: %s", self.pool.host.name, codec.error.reason)
            self.is_retired = True
            self._flush()
            self.transport.close()
            return
        self.schedule()
        self.on_room()

    def _hand_on(self, events: list[tuple[Stream, H2Event]]) -> None:
        """Give each exchange what came for it, neighbours together."""
        start, count = 0, len(events)
        while start < count:
            stream = events[start][0]
            stop = start + 1
            while stop < count and events[stop][0] is stream:
                stop += 1
            client = stream.client  # type: ignore[attr-defined]
            if client is not None:
                self._tell(cast("UpstreamStream", stream), client, [event for _, event in events[start:stop]])
            start = stop

    def _tell(self, stream: UpstreamStream, client: Client, events: list[H2Event]) -> None:
        last = events[-1]
        if type(last) is not Reset:
            client.on_response(events)  # type: ignore[arg-type]
            return
        events.pop()
        if last.is_ours:
            events.append(Refused(502, "http2", last.reason))
            client.on_response(events)  # type: ignore[arg-type]
            return
        if events:
            client.on_response(events)  # type: ignore[arg-type]
        if stream.client is client:
            stream.client = None
            client.on_upstream_lost(f"remote reset {last.code.name}", is_unsent=last.is_unprocessed)

    def connection_lost(self, exc: Exception | None) -> None:
        was_open, self.is_open = self.is_open, False
        self.is_retired = True
        if was_open:
            self.pool.forget(self)
        streams, self.codec.streams = self.codec.streams, {}
        reason = "connection reset" if exc is not None else "connection termination"
        for stream in streams.values():
            client, stream.client = stream.client, None  # type: ignore[attr-defined]
            if client is not None:
                client.on_upstream_lost(reason)

    def pause_writing(self) -> None:
        self.codec.hold_writes()

    def resume_writing(self) -> None:
        self.codec.release_writes()
        self.schedule()

    # -- what the pool and the streams need

    @property
    def has_room(self) -> bool:
        """Whether it can carry one more exchange."""
        if self.is_retired or not self.is_open or not self.codec.has_room:
            return False
        pool = self.pool.host.upstream.cluster.pool
        limit = pool.max_requests_per_connection
        if limit and self.served >= limit:
            self.is_retired = True
            return False
        return not self.transport.is_closing() and len(self.codec.streams) < pool.max_concurrent_streams

    def encode_head(self, client: Client, plan: Plan) -> bytes:
        """The block of a request's head; what comes again of it is not worked out again."""
        head, extra, scheme = client.head, client.extra, self.scheme
        host = plan.request_ops.host or plan.host
        encoder = self.codec.encoder
        if head.minor == 2 and head.comes_again and not client.drop and plan.target is None and host is None:
            block = encoder.encode_again(
                head, lambda: request_fields(head, [], target=None, host=None, drop=(), scheme=scheme)
            )
            return block + encoder.encode([(name.lower(), value) for name, value in extra])
        fields = request_fields(head, extra, target=plan.target, host=host, drop=client.drop, scheme=scheme)
        return encoder.encode(fields)

    def open_stream(self) -> UpstreamStream:
        return cast("UpstreamStream", self.codec.open(monotonic()))

    def on_room(self) -> None:
        """A stream has ended: others may begin, or the connection may end."""
        if self.codec.streams:
            if self.pool.waiting:
                self.pool.serve(self)
            return
        self.idle_since = monotonic()
        if self.is_retired:
            self.close()
        elif self.pool.waiting:
            self.pool.serve(self)

    def schedule(self) -> None:
        """Write at the end of this turn of the loop."""
        if not self._is_scheduled and self.codec.out:
            self._is_scheduled = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_scheduled = False
        if self.is_open and self.codec.out:
            self.transport.write(self.codec.take())

    def retire(self) -> None:
        """Carry nothing new."""
        self.is_retired = True
        if not self.codec.streams:
            self.close()

    def close(self) -> None:
        """Close an idle connection."""
        if self.is_open and not self.transport.is_closing():
            self.codec.goaway(0)
            self._flush()
            self.transport.close()
