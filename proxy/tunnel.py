"""Tunnels: two connections joined byte by byte, for opaque TCP and for upgraded HTTP.

Each direction ends by itself: the end of one side's sending is passed on and the other direction goes on,
over TLS 1.3 as well where the peer has agreed to that (`net.ending`). Other TLS peers take a goodbye for the
end of both directions: they are waited for instead.

Hot file: a relayed read costs 16 µs of which 15 are the kernel's and the loop's (PERFORMANCE.md: opaque TCP),
so a side does nothing but write what it read to the other side.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from proxy.decide.progress import Progress
from proxy.net.ending import allow_half_close, reset
from proxy.net.listener import Accepted, Ticket
from proxy.net.timers import Timer, Wheel

__all__ = ["Side", "Splice"]

LINGER_S = 1.0
"""For what may still come back to a client that has sent all it had."""

UPSTREAM_LINGER_S = 0.05
"""For what is on its way to an upstream that has ended: servers end by closing, as FastCGI does after each
answer, and clients wait for that end. Like `LINGER_S` for peers that know no half-close."""

HALF_CLOSED_IDLE_S = 3600.0
"""For a tunnel of which one direction has ended and that has no idle limit: no byte for so long ends it."""

_HIGH_WATER_BYTES = 256 * 1024


class Side(Accepted):
    """One end of a tunnel. `other` is None until it is joined; what comes before is one read at most."""

    def __init__(self, splice: Splice, *, is_client: bool) -> None:
        self.splice = splice
        self.is_client = is_client
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)
        self.is_made = False
        self.other: Side | None = None
        self.bytes_in = 0
        self.early: list[bytes] = []
        self.is_at_eof = False
        self.is_lost = False
        self.is_write_paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.is_made = True
        allow_half_close(transport)
        self.transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES)

    def data_received(self, data: bytes) -> None:
        self.bytes_in += len(data)
        self.splice.is_asked = self.is_client
        other = self.other
        if other is not None:
            other.transport.write(data)
        else:
            self.early.append(data)
            self.transport.pause_reading()

    def eof_received(self) -> bool:
        self.is_at_eof = True
        other = self.other
        if other is None:
            # Not joined yet: what was sent is still to be delivered, then the end.
            return self.transport.can_write_eof()
        if other.is_lost:
            return False
        if other.transport.can_write_eof():
            other.transport.write_eof()
            self.splice.on_half_closed()
            return not other.is_at_eof
        if self.transport.can_write_eof():
            # Its peer knows no half-close. Something may still be on its way from there.
            self.splice.linger(other)
            return True
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        if self.ticket is not None:
            self.ticket.release()
        other = self.other
        if other is not None and not other.is_lost:
            if exc is not None:
                reset(other.transport)
            else:
                other.transport.close()
        self.splice.on_side_lost(self)

    def pause_writing(self) -> None:
        self.is_write_paused = True
        if self.other is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        self.is_write_paused = False
        if self.other is not None:
            self.other.transport.resume_reading()


class Splice:
    """Two sides and what passed between them.

    Args:
        live: where it is listed as long as it lives.
        on_over: called once, when both sides are gone.
    """

    def __init__(self, live: set[Splice], on_over: Callable[[Splice], None]) -> None:
        self._live = live
        self._on_over = on_over
        self.client = Side(self, is_client=True)
        self.upstream = Side(self, is_client=False)
        self.is_over = False
        self.is_asked = False
        """Whether the client spoke last: it waits for an answer, as far as a tunnel can tell."""
        self._passed = 0
        self.is_still_admitted: Callable[[], bool] = _always
        self.count: Callable[[], None] = _nothing
        """Adds what passed since the last time to the figures: a tunnel may live for days."""
        self._end_timer: Timer | None = None
        self._wheel: Wheel | None = None
        live.add(self)

    @property
    def bytes_to_upstream(self) -> int:
        return self.client.bytes_in

    @property
    def bytes_to_client(self) -> int:
        return self.upstream.bytes_in

    def join(
        self, client: asyncio.Transport, upstream: asyncio.Transport, *, ticket: Ticket | None = None
    ) -> None:
        """Take two open transports over from their protocols."""
        self.client.ticket = ticket
        for side, transport in ((self.client, client), (self.upstream, upstream)):
            side.connection_made(transport)
            transport.set_protocol(side)
        self.connect()

    def connect(self) -> None:
        """Let bytes pass: both sides have a transport."""
        self.client.other = self.upstream
        self.upstream.other = self.client
        for side in (self.client, self.upstream):
            early, side.early = side.early, []
            if early and side.other is not None:
                side.other.transport.write(b"".join(early))
                side.transport.resume_reading()
            if side.is_at_eof:
                side.eof_received()

    def limit(self, wheel: Wheel, idle_s: float | None, duration_s: float | None) -> None:
        """End it when no byte has passed for so long, or when it has lived for so long."""
        if duration_s is not None:
            self._end_timer = wheel.after(duration_s, self.cut)
        if idle_s is not None:
            self._watch(wheel, idle_s, Progress())
            return
        self._wheel = wheel
        if self.client.is_at_eof or self.upstream.is_at_eof:
            self.on_half_closed()

    def on_half_closed(self) -> None:
        """One direction has ended: the other may not be idle for ever."""
        wheel, self._wheel = self._wheel, None
        if wheel is not None:
            self._watch(wheel, HALF_CLOSED_IDLE_S, Progress())

    def _watch(self, wheel: Wheel, idle_s: float, progress: Progress) -> None:
        if self.is_over:
            return
        now = asyncio.get_running_loop().time()
        if progress.still_s((self.client.bytes_in, self.upstream.bytes_in), now) >= idle_s:
            self.cut()
        else:
            wheel.after(idle_s / 4, lambda: self._watch(wheel, idle_s, progress))

    def linger(self, other: Side) -> None:
        """One side sends no more and `other` cannot be told: end when nothing has come from it for long."""
        wait_s = UPSTREAM_LINGER_S if other.is_client else LINGER_S
        asyncio.get_running_loop().call_later(wait_s, self._end_if_silent, other, other.bytes_in)

    def _end_if_silent(self, other: Side, before: int) -> None:
        if self.is_over:
            return
        if other.bytes_in == before:
            self._end()
        else:
            self.linger(other)

    def end_if_answered(self) -> None:
        """End it in order where nothing was asked for and nothing has passed since the last call."""
        passed, before = self.client.bytes_in + self.upstream.bytes_in, self._passed
        self._passed = passed
        sides = (self.client, self.upstream)
        if passed == before and not self.is_asked and all(s.is_made and not s.is_write_paused for s in sides):
            self._end()

    def _end(self) -> None:
        for side in (self.client, self.upstream):
            side.transport.close()

    def cut(self) -> None:
        """End it at once."""
        for side in (self.client, self.upstream):
            if side.is_made and not side.is_lost:
                reset(side.transport)

    def on_side_lost(self, side: Side) -> None:
        other = self.upstream if side is self.client else self.client
        if self.is_over or (other.is_made and not other.is_lost):
            return
        self.is_over = True
        if self._end_timer is not None:
            self._end_timer.cancel()
        self._live.discard(self)
        self._on_over(self)


def _always() -> bool:
    return True


def _nothing() -> None:
    """An upgraded request is counted when it is over, as any request."""
