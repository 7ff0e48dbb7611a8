"""The queue before a collector, and the task that empties it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from meshpy.export.transport import Again, Refused, Taken, Transport
from meshpy.otlp.settings import Destination

__all__ = ["Counts", "Exporter", "Pusher"]

Item = TypeVar("Item")

_log = logging.getLogger("meshpy.export")

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 10.0
_SAY_AGAIN_S = 60.0
_END_S = 1.0


@dataclass(slots=True)
class Counts:
    """Items: `dropped` for want of room, `failed` after the last try, `rejected` by the collector.
    `retried` counts tries beyond the first."""

    sent: int = 0
    retried: int = 0
    dropped: int = 0
    failed: int = 0
    rejected: int = 0


class _Sender:
    """Sends one body until it is taken, refused or too old; says what is wrong once a minute.

    Args:
        draw: uniform numbers of [0, 1), for jitter.
    """

    def __init__(self, to: Destination, transport: Transport, draw: Callable[[], float]) -> None:
        self._to, self._transport, self._draw = to, transport, draw
        self._silent_until = 0.0
        self.counts = Counts()

    async def send(self, body: bytes, items: int) -> None:
        loop = asyncio.get_running_loop()
        end, pause_s = loop.time() + self._to.give_up_s, _FIRST_PAUSE_S
        while True:
            outcome = await self._transport.send(body)
            if isinstance(outcome, Taken):
                self.counts.sent += max(0, items - outcome.rejected)
                self.counts.rejected += outcome.rejected
                if outcome.rejected or outcome.why:
                    self._say(f"{outcome.rejected} of {items} were not taken: {outcome.why}", loop.time())
                return
            self._say(outcome.why, loop.time())
            wait_s = pause_s * (0.5 + self._draw())
            if isinstance(outcome, Again) and outcome.after_s is not None:
                wait_s = max(wait_s, outcome.after_s)
            if isinstance(outcome, Refused) or loop.time() + wait_s > end:
                self.counts.failed += items
                return
            self.counts.retried += 1
            await asyncio.sleep(wait_s)
            pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)

    def _say(self, why: str, now: float) -> None:
        if now >= self._silent_until:
            self._silent_until = now + _SAY_AGAIN_S
            _log.warning("%s to %s: %s", self._to.signal, self._to.url, why)


class Exporter(Generic[Item]):
    """Spans to a collector.

    Args:
        encode: a request of items; runs in a thread, so that the loop goes on.
    """

    def __init__(
        self,
        to: Destination,
        transport: Transport,
        encode: Callable[[Sequence[Item]], bytes],
        draw: Callable[[], float],
    ) -> None:
        self._to, self._transport, self._encode = to, transport, encode
        self._waiting: deque[Item] = deque()
        self._sender = _Sender(to, transport, draw)
        self._full = asyncio.Event()

    @property
    def counts(self) -> Counts:
        return self._sender.counts

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._waiting)

    def offer(self, items: Sequence[Item]) -> None:
        """Take what there is room for; never waits."""
        room = self._to.queue - len(self._waiting)
        self._waiting.extend(items[:room] if room < len(items) else items)
        self.counts.dropped += max(0, len(items) - room)
        if len(self._waiting) >= self._to.batch:
            self._full.set()

    async def run(self) -> None:
        """Send batches until cancelled."""
        try:
            while True:
                try:
                    async with asyncio.timeout(self._to.interval_s):
                        await self._full.wait()
                except TimeoutError:
                    pass
                self._full.clear()
                await self.flush()
        finally:
            await self._end()

    async def _end(self) -> None:
        """One more try for what waits, and not for long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_END_S):
                await self.flush()
        await self._transport.close()

    async def flush(self) -> None:
        """Send what waits."""
        while self._waiting:
            batch = [self._waiting.popleft() for _ in range(min(self._to.batch, len(self._waiting)))]
            await self._sender.send(await asyncio.to_thread(self._encode, batch), len(batch))


class Pusher:
    """Metrics to a collector, whole each time.

    Args:
        collect: a request, and how many metrics are in it; runs in a thread.
    """

    def __init__(
        self,
        to: Destination,
        transport: Transport,
        collect: Callable[[], tuple[bytes, int]],
        draw: Callable[[], float],
    ) -> None:
        self._to, self._transport, self._collect, self._draw = to, transport, collect, draw
        self._sender = _Sender(to, transport, draw)

    @property
    def counts(self) -> Counts:
        return self._sender.counts

    async def run(self) -> None:
        """Push until cancelled; a thousand sidecars do not push at once."""
        try:
            await asyncio.sleep(self._to.interval_s * self._draw())
            while True:
                await self._sender.send(*await asyncio.to_thread(self._collect))
                await asyncio.sleep(self._to.interval_s)
        finally:
            await self._transport.close()
