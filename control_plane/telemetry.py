"""Traffic as sidecars report it, summed per edge: totals since the start, and rates over a sliding window.

Both ends of a call report it. The caller's sidecar saw what the caller got (retries and time on the wire
included), so its figures are shown where there are any; a denial counts once, whichever side made it.
Everything is bounded: edges, window, label texts.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from control_plane.anomalies.baseline import Window
from control_plane.errors import BadRequest
from control_plane.rollout import Figures
from control_plane.traffic import WINDOW_S, Counts, EdgeKey, Seen, Traffic
from meshpy.model.names import ServiceName

__all__ = ["Telemetry"]

MAX_EDGES = 10_000
MAX_RECORDS = 2_000
MAX_KEYS = 64
"""Distinct response codes or policies of one record; a mesh of sane size has a handful."""
MAX_TEXT = 256
COUNTERS = (
    "requests",
    "success",
    "retries",
    "recovered_by_retry",
    "connections",
    "bytes_sent",
    "bytes_received",
)
DIRECTIONS = ("outbound", "inbound")


@dataclass(slots=True)
class Side:
    """What one end of an edge reported: everything, and the window, kept as its seconds come and go."""

    total: Counts = field(default_factory=Counts)
    seconds: deque[tuple[int, Counts]] = field(default_factory=deque)
    _window: Counts = field(default_factory=Counts)

    def add(self, counts: Counts, second: int) -> None:
        self.total.add(counts)
        if not self.seconds or self.seconds[-1][0] != second:
            self.seconds.append((second, Counts()))
        self.seconds[-1][1].add(counts)
        self._window.add(counts)
        self.trim(second)

    def trim(self, second: int) -> None:
        while self.seconds and self.seconds[0][0] <= second - WINDOW_S:
            self._window.take_away(self.seconds.popleft()[1])

    def window(self, second: int) -> Counts:
        """What the last seconds had; to be read at once."""
        self.trim(second)
        return self._window


class Telemetry:
    """All edges of the mesh."""

    def __init__(self) -> None:
        self._edges: dict[EdgeKey, dict[str, Side]] = {}
        self.dropped = 0

    def record(self, reporter: ServiceName, records: object, now_s: float) -> Figures:
        """Add what a sidecar counted since its last report; it speaks for its own side of an edge only.

        A record that is malformed, or of others' traffic, is dropped and counted as dropped.

        Returns:
            The sum of what was counted.

        Raises:
            BadRequest: the report is not a list of records; nothing of it was counted.
        """
        if not isinstance(records, list) or len(records) > MAX_RECORDS:
            self.dropped += 1
            raise BadRequest(f"stats: a list of at most {MAX_RECORDS} records is needed")
        figures = Figures()
        for item in records:
            try:
                key, direction, counts = _parsed(item, str(reporter))
            except BadRequest:
                self.dropped += 1
                continue
            side = self._side(key, direction)
            if side is None:
                self.dropped += 1
            else:
                side.add(counts, int(now_s))
                figures += counts.figures
        return figures

    def recent(self, services: Collection[ServiceName], now_s: float) -> Figures:
        """What the sidecars of these services saw in the window of the last ten seconds."""
        names = {str(name) for name in services}
        figures = Figures()
        for key, sides in self._edges.items():
            for direction, own in (("outbound", key.source), ("inbound", key.destination)):
                if own in names and direction in sides:
                    figures += sides[direction].window(int(now_s)).figures
        return figures

    def traffic(self, now_s: float) -> Traffic:
        """What every edge carried, as each of its ends counted it."""
        second = int(now_s)
        return {
            key: {direction: Seen(side.total, side.window(second)) for direction, side in sides.items()}
            for key, sides in self._edges.items()
        }

    def windows(self, now_s: float) -> list[tuple[EdgeKey, Window]]:
        """The window of every edge, for the watch over what is usual."""
        return [(key, _window(sides, int(now_s))) for key, sides in list(self._edges.items())]

    def _side(self, key: EdgeKey, direction: str) -> Side | None:
        sides = self._edges.get(key)
        if sides is None:
            if len(self._edges) >= MAX_EDGES:
                return None
            sides = self._edges[key] = {}
        return sides.setdefault(direction, Side())


def _window(sides: Mapping[str, Side], second: int) -> Window:
    seen = {direction: side.window(second) for direction, side in sides.items()}
    counts = seen.get("outbound") or seen["inbound"]
    denied = max(each.denied.total() for each in seen.values())
    plain = counts.plain
    requests = plain["requests"] or plain["connections"]
    errors = max(0, plain["requests"] - plain["success"] - counts.denied.total())
    bounds, buckets = next(iter(counts.latency.items()), ((), [requests]))
    return Window(requests, errors, denied, bounds, tuple(buckets))


def _parsed(item: object, reporter: str) -> tuple[EdgeKey, str, Counts]:
    if not isinstance(item, dict):
        raise BadRequest("stats: a record is an object")
    direction = item.get("direction")
    source, destination, protocol = (_text(item.get(name)) for name in ("source", "destination", "protocol"))
    own = source if direction == "outbound" else destination
    # a sidecar whose own table of edges is full reports the rest without names
    if direction not in DIRECTIONS or own not in (reporter, ""):
        raise BadRequest(f"stats: {reporter} reports its own outbound and inbound traffic only")
    key = EdgeKey(
        reporter if direction == "outbound" else source,
        reporter if direction == "inbound" else destination,
        protocol,
    )
    counts = Counts(
        plain=Counter({name: _count(item.get(name, 0)) for name in COUNTERS}),
        responses=_counter(item.get("responses")),
        denied=_counter(item.get("denied")),
        latency=_histogram(item.get("latency_ms")),
    )
    if item.get("mtls") is True:
        counts.plain["mtls"] = counts.plain["requests"] or counts.plain["connections"]
    return key, str(direction), counts


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT or not value.isprintable():
        raise BadRequest(f"stats: names are printable texts of at most {MAX_TEXT} characters")
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
        raise BadRequest("stats: counts are whole numbers from 0")
    return value


def _counter(value: object) -> Counter[str]:
    if value is None:
        return Counter()
    if not isinstance(value, dict) or len(value) > MAX_KEYS:
        raise BadRequest(f"stats: at most {MAX_KEYS} counts by name are needed")
    return Counter({_text(name): _count(count) for name, count in value.items()})


def _histogram(value: object) -> dict[tuple[float, ...], list[int]]:
    if value is None:
        return {}
    bounds = value.get("bounds") if isinstance(value, dict) else None
    counts = value.get("counts") if isinstance(value, dict) else None
    if not isinstance(bounds, list) or not isinstance(counts, list) or not 0 < len(bounds) <= MAX_KEYS:
        raise BadRequest(f"stats: latency_ms is {{bounds, counts}} with 1 to {MAX_KEYS} bounds")
    numbers = all(isinstance(b, int | float) and not isinstance(b, bool) and 0 < b < 2**53 for b in bounds)
    if not numbers or bounds != sorted(set(bounds)) or len(counts) not in (len(bounds), len(bounds) + 1):
        raise BadRequest("stats: bounds rise, and counts has one entry a bound, and one for what is above")
    return {
        tuple(float(b) for b in bounds): [_count(count) for count in counts]
        + [0] * (len(bounds) + 1 - len(counts))
    }
