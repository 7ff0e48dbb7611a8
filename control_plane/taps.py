"""Taps: who looks at the traffic now, and what sidecars tell them. Bounded on every side."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from control_plane.errors import RateLimited
from meshpy.model.names import ServiceName
from meshpy.model.tap import TapFilter

__all__ = ["Tap", "Taps", "read_record"]

MAX_TAPS = 16
MAX_WAITING = 1_000
MAX_RECORDS = 500
MAX_TEXT = 512
_TEXTS = (
    *("direction", "source", "destination", "protocol", "method", "authority", "path"),
    *("flags", "verdict", "policy", "rule", "trace_id", "route"),
)
_NUMBERS = ("at", "status", "duration_ms", "bytes_sent", "bytes_received", "attempts")


class Tap:
    """One who looks: a filter, and the records that wait for him."""

    def __init__(self, wanted: TapFilter, per_s: int) -> None:
        self.wanted, self.per_s = wanted, per_s
        self.waiting: asyncio.Queue[dict[str, Any]] = asyncio.Queue(MAX_WAITING)
        self.lost = 0

    def offer(self, record: dict[str, Any]) -> None:
        if self.waiting.full():
            self.lost += 1
        else:
            self.waiting.put_nowait(record)


class Taps:
    """All taps; `changed` wakes the streams, which tell their sidecars."""

    def __init__(self) -> None:
        self._open: set[Tap] = set()
        self.changed: Callable[[], None] = lambda: None
        self.generation = 0

    def open(self, wanted: TapFilter, per_s: int) -> Tap:
        """Begin to look.

        Raises:
            RateLimited: too many look already.
        """
        if len(self._open) >= MAX_TAPS:
            raise RateLimited(5.0)
        tap = Tap(wanted, per_s)
        self._open.add(tap)
        self._move()
        return tap

    def close(self, tap: Tap) -> None:
        self._open.discard(tap)
        self._move()

    def _move(self) -> None:
        self.generation += 1
        self.changed()

    def frame(self) -> str:
        """What sidecars are to tell from now on."""
        filters = [tap.wanted.to_json() for tap in self._open]
        per_s = max((tap.per_s for tap in self._open), default=0)
        return json.dumps({"type": "tap", "filters": filters, "per_s": per_s})

    def record(self, reporter: ServiceName, items: object) -> None:
        """Hand on what a sidecar saw of its own side; what is malformed is passed over."""
        for item in items[:MAX_RECORDS] if isinstance(items, list) else ():
            found = read_record(item, str(reporter))
            if found is not None:
                for tap in self._open:
                    if tap.wanted.holds(found):
                        tap.offer(found)


def read_record(item: object, reporter: str) -> dict[str, Any] | None:
    """A record of a sidecar, cut and printable, of its own side of a request; None when it is malformed."""
    if not isinstance(item, dict):
        return None
    found: dict[str, Any] = {"mtls": item.get("mtls") is True}
    for name in _TEXTS:
        text = item.get(name, "" if name == "route" else None)
        if not isinstance(text, str):
            return None
        found[name] = "".join(c if c.isprintable() else " " for c in text[:MAX_TEXT])
    for name in _NUMBERS:
        number = item.get(name)
        if isinstance(number, bool) or not isinstance(number, int | float):
            return None
        found[name] = number
    if found["direction"] not in ("in", "out"):
        return None
    found["source" if found["direction"] == "out" else "destination"] = reporter
    return found
