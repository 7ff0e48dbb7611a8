"""Memory under pressure: watched against the container's limit, answered before the kernel answers.

A container that outgrows its limit is killed, with every request in it. So the process looks at its own size
four times a second, and at once when a peer reads too slowly, which is when buffers grow.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from meshpy.model.metrics import MetricKind, numbers
from proxy.decide.overload import Level, level_of
from proxy.plan import Reply

if TYPE_CHECKING:
    from proxy.net.listener import Capacity
    from proxy.sides import Shared
    from proxy.telemetry import Telemetry

__all__ = ["OVERLOADED", "Guard", "cgroup_limit", "resident_bytes"]

_log = logging.getLogger("meshpy.proxy")

_TICK_S = 0.25
_LEAST_BETWEEN_S = 0.003
_RESERVE_BYTES = 4 << 20
"""For what arrives between two looks: a turn of the loop may read a quarter of a megabyte a connection."""
_PAGE = os.sysconf("SC_PAGE_SIZE")
_CGROUP = Path("/sys/fs/cgroup")
_LIMITS = (_CGROUP / "memory.max", _CGROUP / "memory/memory.limit_in_bytes")
_UNLIMITED = 1 << 60
_SHED_TO = 0.9


def resident_bytes() -> int:
    """What this process holds in memory now."""
    with open("/proc/self/statm", "rb", buffering=0) as statm:
        return int(statm.read(200).split()[1]) * _PAGE


def cgroup_limit() -> int:
    """The container's memory limit; 0 where there is none."""
    for path in _LIMITS:
        try:
            text = path.read_text(encoding="ascii").strip()
        except OSError:
            continue
        return int(text) if text.isdecimal() and int(text) < _UNLIMITED else 0
    return 0


def cgroup_bytes() -> int:
    """What counts against the container's limit and cannot be dropped: sockets' buffers too (cgroup v2)."""
    try:
        used = int((_CGROUP / "memory.current").read_bytes())
        stat = (_CGROUP / "memory.stat").read_bytes()
    except (OSError, ValueError):
        return 0
    _, found, rest = stat.partition(b"inactive_file ")
    return used - int(rest.split(b"\n", 1)[0]) if found else used


class Guard:
    """Holds the process below its limit.

    Args:
        limit_bytes: 0 guards nothing.
        is_container: the limit is the container's, so all that it holds is counted; else this process's size.
    """

    def __init__(
        self,
        limit_bytes: int,
        shared: Shared,
        capacity: Capacity,
        telemetry: Telemetry,
        *,
        is_container: bool = False,
    ) -> None:
        self.limit_bytes = max(1, limit_bytes - _RESERVE_BYTES) if limit_bytes else 0
        self._is_container = is_container
        self.level = Level.CALM
        self._shared = shared
        self._capacity = capacity
        self._gauges = telemetry.gauges
        self._looked_at = 0.0
        self.shed = 0
        if limit_bytes:
            shared.on_slow_peer = self.look
            self._gauges["meshpy_memory_limit_bytes"] = float(limit_bytes)
            telemetry.sources.append(
                lambda: [
                    numbers(
                        "meshpy_overload_shed_total",
                        MetricKind.COUNTER,
                        "Connections that were cut for want of memory.",
                        [((), self.shed)],
                    )
                ]
            )

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while self.limit_bytes:
            await asyncio.sleep(_TICK_S)
            self.look()

    def look(self) -> None:
        """Set the level by what is used now, and act."""
        now = monotonic()
        if now - self._looked_at < _LEAST_BETWEEN_S:
            return
        self._looked_at = now
        used = self._used()
        if used > self.limit_bytes * _SHED_TO and self.level is not Level.CALM:
            _give_back()
            used = self._used()
        self._set(level_of(used, self.limit_bytes, self.level), used)
        if self.level is Level.SHED:
            self._shed(used - int(self.limit_bytes * _SHED_TO))

    def _used(self) -> int:
        own = resident_bytes()
        return max(own, cgroup_bytes()) if self._is_container else own

    def _set(self, level: Level, used: int) -> None:
        if level is self.level:
            return
        share = 100 * used / self.limit_bytes
        what = {Level.CALM: "serving as usual"}.get(level, f"level {level.name.lower()}")
        _log.warning("memory at %.0f %% of %d MiB: %s", share, self.limit_bytes >> 20, what)
        self.level = level
        self._gauges["meshpy_overload_level"] = float(level)
        shared = self._shared
        shared.is_short = level >= Level.SHRINK
        shared.settle()
        shared.refuses_requests = level >= Level.REFUSE
        self._capacity.set_closed(is_closed=level >= Level.SHED)
        if level is Level.SHRINK:
            for down in list(shared.open):
                down.shrink()

    def _shed(self, excess: int) -> None:
        """End the exchanges that hold most, until what they held is enough."""
        held = [
            (exchange.held_bytes, exchange) for down in self._shared.open for exchange in down.exchanges()
        ]
        held.sort(key=lambda pair: pair[0], reverse=True)
        for size, exchange in held:
            if excess <= 0 or not size:
                break
            excess -= size
            self.shed += 1
            exchange.answer_or_break(OVERLOADED)
        _give_back()


OVERLOADED = Reply(
    503, "OM", "overload", b"the sidecar is short of memory\n", ((b"x-envoy-overloaded", b"true"),)
)


def _give_back() -> None:
    """Return what was freed to the kernel: the C library keeps it for itself otherwise."""
    gc.collect(0)
    import ctypes  # noqa: PLC0415 - a mebibyte, for the day when memory is short

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # musl has none, and keeps less
    if trim is not None:
        trim(0)
