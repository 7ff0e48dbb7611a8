"""Traffic by edge, as its two ends counted it, and the figures that operators see of it.

Both ends of a call report it. The caller's sidecar saw what the caller got (retries and time on the wire
included), so its figures are shown where there are any; a denial counts once, whichever side made it.
Replicas tell each other what their sidecars counted: the sum is what one replica would have seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from control_plane.rollout import Figures
from meshpy.model.tap import TapFilter

__all__ = [
    "WINDOW_S",
    "Counts",
    "EdgeKey",
    "Seen",
    "Traffic",
    "added",
    "edges",
    "quantile_ms",
    "stat",
    "traffic_from",
    "traffic_told",
]

WINDOW_S = 10
MAX_SCALES = 4
"""Distinct histogram bounds of one edge: sidecars of an older version may use others."""


@dataclass(frozen=True, slots=True, order=True)
class EdgeKey:
    source: str
    destination: str
    protocol: str


@dataclass(slots=True)
class Counts:
    """One sum of records."""

    plain: Counter[str] = field(default_factory=Counter)
    responses: Counter[str] = field(default_factory=Counter)
    denied: Counter[str] = field(default_factory=Counter)
    latency: dict[tuple[float, ...], list[int]] = field(default_factory=dict)

    @property
    def figures(self) -> Figures:
        """What a rollout is judged by; an opaque connection counts as a request."""
        denied = self.denied.total()
        errors = sum(count for status, count in self.responses.items() if status.startswith("5"))
        return Figures(max(self.plain["requests"] or self.plain["connections"], denied), denied, errors)

    def add(self, other: Counts) -> None:
        _sum(self.plain, other.plain)
        _sum(self.responses, other.responses)
        _sum(self.denied, other.denied)
        for bounds, counts in other.latency.items():
            if bounds not in self.latency and len(self.latency) >= MAX_SCALES:
                continue
            held = self.latency.setdefault(bounds, [0] * len(counts))
            for index, count in enumerate(counts):
                held[index] += count

    def take_away(self, other: Counts) -> None:
        """Undo `add`."""
        _take_away(self.plain, other.plain)
        _take_away(self.responses, other.responses)
        _take_away(self.denied, other.denied)
        for bounds, counts in other.latency.items():
            held = self.latency.get(bounds)
            if held is None:
                continue
            for index, count in enumerate(counts):
                held[index] = max(0, held[index] - count)  # of a scale too many it was never added
            if not any(held):
                del self.latency[bounds]


def _sum(held: Counter[str], more: Counter[str]) -> None:
    """`Counter.update`, which asks what it was given each time: half of the time of `/v1/status`."""
    get = held.get
    for name, count in more.items():
        held[name] = get(name, 0) + count


def _take_away(held: Counter[str], gone: Counter[str]) -> None:
    for name, count in gone.items():
        held[name] -= count
        if not held[name]:
            del held[name]


@dataclass(frozen=True, slots=True)
class Seen:
    """What one end counted: since the start, and in the window."""

    total: Counts
    window: Counts


Traffic: TypeAlias = Mapping[EdgeKey, Mapping[str, Seen]]
"""By edge and direction."""


def edges(traffic: Traffic) -> list[dict[str, Any]]:
    """Every edge as `/v1/status` shows it, ordered by its names."""
    return [_shown(key, sides) for key, sides in sorted(traffic.items())]


def stat(traffic: Traffic, by: str, wanted: TapFilter) -> list[dict[str, Any]]:
    """The window's figures, a row for each service or namespace that was called, or for each edge."""
    rows: dict[tuple[str, ...], list[tuple[Counts, int]]] = {}
    for key, sides in traffic.items():
        if wanted.is_between(key.source, key.destination):
            side = sides.get("outbound") or sides["inbound"]
            denied = max(each.window.denied.total() for each in sides.values())
            name = key.destination if by == "service" else key.destination.rpartition("/")[0]
            row = (name,) if by != "edge" else (key.source, key.destination, key.protocol)
            rows.setdefault(row, []).append((side.window, denied))
    return [_row(by, row, parts) for row, parts in sorted(rows.items())]


def added(parts: Iterable[Traffic]) -> Traffic:
    """What several replicas saw, together; of one it is what it saw."""
    several = list(parts)
    if len(several) == 1:
        return several[0]
    found: dict[EdgeKey, dict[str, Seen]] = {}
    for key, sides in (item for part in several for item in part.items()):
        for direction, seen in sides.items():
            held = found.setdefault(key, {}).setdefault(direction, Seen(Counts(), Counts()))
            held.total.add(seen.total)
            held.window.add(seen.window)
    return found


def traffic_told(traffic: Traffic) -> list[dict[str, Any]]:
    """As JSON, for another replica."""
    return [
        {
            "edge": [key.source, key.destination, key.protocol],
            "direction": direction,
            "total": _told(seen.total),
            "window": _told(seen.window),
        }
        for key, sides in traffic.items()
        for direction, seen in sides.items()
    ]


def traffic_from(told: Iterable[Mapping[str, Any]]) -> Traffic:
    """What another replica told."""
    return added(
        {EdgeKey(*each["edge"]): {each["direction"]: Seen(_counts(each["total"]), _counts(each["window"]))}}
        for each in told
    )


def _told(counts: Counts) -> dict[str, Any]:
    latency = [[list(bounds), buckets] for bounds, buckets in counts.latency.items()]
    named = {"plain": counts.plain, "responses": counts.responses, "denied": counts.denied}
    return {**named, "latency": latency}


def _counts(told: Mapping[str, Any]) -> Counts:
    latency = {tuple(bounds): list(buckets) for bounds, buckets in told["latency"]}
    return Counts(Counter(told["plain"]), Counter(told["responses"]), Counter(told["denied"]), latency)


def _shown(key: EdgeKey, sides: Mapping[str, Seen]) -> dict[str, Any]:
    side = sides.get("outbound") or sides["inbound"]
    total, window = side.total, side.window
    requests = total.plain["requests"]
    carried = requests or total.plain["connections"]
    denied = Counter[str]()
    for each in sides.values():
        denied |= each.total.denied
    return {
        "source": key.source,
        "destination": key.destination,
        "protocol": key.protocol,
        "rps": round(window.plain["requests"] / WINDOW_S, 3),
        "success_ratio": _ratio(total.plain["success"] + total.denied.total(), requests),
        "window_success_ratio": _ratio(
            window.plain["success"] + window.denied.total(), window.plain["requests"]
        ),
        "p50_ms": quantile_ms(window.latency, 0.5),
        "p99_ms": quantile_ms(window.latency, 0.99),
        "mtls_ratio": round(total.plain["mtls"] / carried, 6) if carried else 1.0,
        "requests": requests,
        "denied": dict(sorted(denied.items())),
        "retries": total.plain["retries"],
        "recovered_by_retry": total.plain["recovered_by_retry"],
        "responses": dict(sorted(total.responses.items())),
        "connections": total.plain["connections"],
        "bytes_sent": total.plain["bytes_sent"],
        "bytes_received": total.plain["bytes_received"],
    }


def _row(by: str, names: tuple[str, ...], parts: Iterable[tuple[Counts, int]]) -> dict[str, Any]:
    total, denied = Counts(), 0
    for counts, denials in parts:
        total.add(counts)
        denied += denials
    plain = total.plain
    carried = plain["requests"] or plain["connections"]
    named = dict(zip(("source", "destination", "protocol"), names, strict=True)) if by == "edge" else {}
    return {
        "name": names[0] if by != "edge" else " ".join(names),
        **named,
        "rps": round(plain["requests"] / WINDOW_S, 3),
        "success_ratio": _ratio(plain["success"] + total.denied.total(), plain["requests"]),
        "p50_ms": quantile_ms(total.latency, 0.5),
        "p95_ms": quantile_ms(total.latency, 0.95),
        "p99_ms": quantile_ms(total.latency, 0.99),
        "mtls_ratio": round(plain["mtls"] / carried, 6) if carried else 1.0,
        "denied": denied,
        "tcp_connections": plain["connections"],
    }


def _ratio(good: int, requests: int) -> float:
    """A denied request is no failure: it is what the policies say."""
    return round(min(1.0, good / requests), 6) if requests else 1.0


def quantile_ms(latency: Mapping[tuple[float, ...], Sequence[int]], share: float) -> float | None:
    """The `share` quantile of histograms, linear inside a bucket as Prometheus does; None without samples.

    What lies above the last bound counts as the last bound.
    """
    buckets: list[tuple[float, float, int]] = []
    for bounds, counts in latency.items():
        lows = (0.0, *bounds)
        buckets.extend(
            (min(bounds[min(i, len(bounds) - 1)], lows[i]), bounds[min(i, len(bounds) - 1)], count)
            for i, count in enumerate(counts)
            if count
        )
    buckets.sort()
    wanted = share * sum(count for *_, count in buckets)
    for low, high, count in buckets:
        if count >= wanted:
            return round(low + (high - low) * wanted / count, 3)
        wanted -= count
    return round(buckets[-1][1], 3) if buckets else None
