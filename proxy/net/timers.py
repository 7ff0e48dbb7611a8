"""A coarse timer wheel: one loop timer for all deadlines of the process.

Hot file: `call_later` and `cancel` cost 0.4 µs, `asyncio.timeout` 2.3 µs; here a deadline is one list append
and a cancellation one assignment. A callback is never early and late by one tick at most.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Callable

__all__ = ["TICK_S", "Timer", "Wheel"]

TICK_S = 0.02

_log = logging.getLogger("meshpy.proxy")


class Timer:
    """A deadline that can be taken back."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Forget it; harmless when it has fired."""
        self.callback = None


class Wheel:
    """Deadlines by tick. It sleeps when there are none."""

    __slots__ = ("_buckets", "_handle", "_loop", "_order", "_woken_for")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._buckets: dict[int, list[Timer]] = {}
        self._order: list[int] = []
        self._handle: asyncio.TimerHandle | None = None
        self._woken_for = 0

    def after(self, delay_s: float, callback: Callable[[], None]) -> Timer:
        """Call once, `delay_s` seconds from now or up to a tick later."""
        tick = int((self._loop.time() + delay_s) / TICK_S) + 1
        timer = Timer(callback)
        bucket = self._buckets.get(tick)
        if bucket is not None:
            bucket.append(timer)
            return timer
        self._buckets[tick] = [timer]
        heapq.heappush(self._order, tick)
        if self._handle is None or tick < self._woken_for:
            self._sleep()
        return timer

    def _sleep(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if self._order:
            self._woken_for = self._order[0]
            self._handle = self._loop.call_at(self._woken_for * TICK_S, self._turn)

    def _turn(self) -> None:
        self._handle = None
        # A loop may wake a moment early: the tick it woke for counts as reached.
        now = max(int(self._loop.time() / TICK_S), self._woken_for)
        while self._order and self._order[0] <= now:
            for timer in self._buckets.pop(heapq.heappop(self._order)):
                callback, timer.callback = timer.callback, None
                if callback is None:
                    continue
                try:
                    callback()
                except Exception:  # noqa: BLE001 - one deadline's fault must not stop all others
                    _log.exception("a deadline failed")
        self._sleep()

    def close(self) -> None:
        """Drop every deadline."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._buckets.clear()
        self._order.clear()
