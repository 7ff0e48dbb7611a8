"""Questions about the last requests of the mesh: every sidecar is asked, the answers are put together."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from control_plane.asks import Asks
from control_plane.errors import RateLimited
from control_plane.taps import read_record
from control_plane.traffic import quantile_ms
from meshpy.model.names import ServiceName
from meshpy.model.tap import TapFilter

__all__ = ["Looks"]

MAX_OPEN = 16
MAX_GROUPS = 20_000
MAX_RECORDS = 20_000
WITHIN_S = 2.0
MAX_BOUNDS = 64
_SUMS = ("count", "errors", "denied")


@dataclass(slots=True, eq=False)
class _Look:
    """One question, and what came so far."""

    expected: int
    is_complete: asyncio.Event = field(default_factory=asyncio.Event)
    answered: int = 0
    records: list[dict[str, Any]] = field(default_factory=list)
    groups: dict[tuple[str, ...], dict[str, Any]] = field(default_factory=dict)


class Looks:
    """Args:
    connected: how many sidecars are connected now.
    """

    def __init__(self, asks: Asks, connected: Callable[[], int]) -> None:
        self._asks, self.connected = asks, connected
        self._open: dict[int, _Look] = {}
        self._number = 0

    async def lines(self, wanted: TapFilter, limit: int, since_s: float) -> tuple[list[dict[str, Any]], int]:
        """The newest requests, oldest first, and how many sidecars did not answer in time."""
        look = await self._ask({"limit": limit}, wanted, since_s)
        records = sorted(look.records, key=lambda record: float(record["at"]))
        return records[-limit:], max(0, look.expected - look.answered)

    async def groups(self, wanted: TapFilter, by: str, since_s: float) -> tuple[list[dict[str, Any]], int]:
        """Figures by route or class of path, and how many sidecars did not answer in time."""
        look = await self._ask({"by": by}, wanted, since_s)
        shown = [_shown(group) for group in look.groups.values()]
        shown.sort(key=lambda group: (-group["count"], group["source"], group["destination"], group["name"]))
        return shown, max(0, look.expected - look.answered)

    async def _ask(self, question: Mapping[str, object], wanted: TapFilter, since_s: float) -> _Look:
        if len(self._open) >= MAX_OPEN:
            raise RateLimited(1.0)
        self._number += 1
        number, look = self._number, _Look(self.connected())
        frame = {"type": "look", "id": number, "filter": wanted.to_json(), "since_s": since_s, **question}
        self._open[number] = look
        try:
            if look.expected:
                self._asks.ask(json.dumps(frame))
                async with asyncio.timeout(WITHIN_S):
                    await look.is_complete.wait()
        except TimeoutError:
            pass
        finally:
            del self._open[number]
        return look

    def take(self, reporter: ServiceName, message: Mapping[str, Any]) -> None:
        """A sidecar's answer; what is malformed in it is passed over, what comes late too."""
        number = message.get("id")
        look = self._open.get(number) if isinstance(number, int) else None
        if look is None:
            return
        look.answered += 1
        records, groups = message.get("records"), message.get("groups")
        for item in records if isinstance(records, list) else ():
            found = read_record(item, str(reporter))
            if found is not None and len(look.records) < MAX_RECORDS:
                look.records.append(found)
        bounds = _bounds(message.get("bounds_ms"))
        for item in groups if isinstance(groups, list) and bounds else ():
            group = _read_group(item, str(reporter), bounds)
            if group is not None:
                _add(look.groups, group)
        if look.answered >= look.expected:
            look.is_complete.set()


def _bounds(value: object) -> tuple[float, ...]:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_BOUNDS:
        return ()
    return tuple(
        float(each) for each in value if isinstance(each, int | float) and not isinstance(each, bool)
    )


def _read_group(item: object, reporter: str, bounds: tuple[float, ...]) -> dict[str, Any] | None:
    """A group is a record without a moment, with sums."""
    if not isinstance(item, dict):
        return None
    texts = {
        name: item.get(name) for name in ("direction", "source", "destination", "protocol", "method", "name")
    }
    numbers = {name: item.get(name) for name in (*_SUMS, "best_ms", "worst_ms", "last_ms")}
    counts = item.get("counts")
    if not all(isinstance(each, str) for each in texts.values()) or not isinstance(counts, list):
        return None
    if not all(isinstance(each, int | float) for each in (*numbers.values(), *counts)):
        return None
    if len(counts) != len(bounds) + 1 or texts["direction"] not in ("in", "out"):
        return None
    shown = {
        name: "".join(c if c.isprintable() else " " for c in str(text)[:512]) for name, text in texts.items()
    }
    shown["source" if shown["direction"] == "out" else "destination"] = reporter
    return {
        **shown,
        **numbers,
        "mtls": item.get("mtls") is True,
        "latency": {bounds: [int(c) for c in counts]},
    }


def _add(groups: dict[tuple[str, ...], dict[str, Any]], group: dict[str, Any]) -> None:
    """Replicas of one service say the same of different requests."""
    key = tuple(group[name] for name in ("direction", "source", "destination", "method", "name"))
    known = groups.get(key)
    if known is None:
        if len(groups) < MAX_GROUPS:
            groups[key] = group
        return
    for name in _SUMS:
        known[name] += group[name]
    known["best_ms"] = min(known["best_ms"], group["best_ms"])
    known["worst_ms"] = max(known["worst_ms"], group["worst_ms"])
    known["mtls"] = known["mtls"] and group["mtls"]
    for bounds, counts in group["latency"].items():
        held = known["latency"].setdefault(bounds, [0] * len(counts))
        for index, count in enumerate(counts):
            held[index] += count


def _shown(group: dict[str, Any]) -> dict[str, Any]:
    latency = group.pop("latency")
    good = group["count"] - group["errors"]
    return {
        **group,
        "success_ratio": round(good / group["count"], 6) if group["count"] else 1.0,
        "p50_ms": quantile_ms(latency, 0.5),
        "p95_ms": quantile_ms(latency, 0.95),
        "p99_ms": quantile_ms(latency, 0.99),
    }
