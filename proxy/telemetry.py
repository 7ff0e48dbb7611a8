"""Counters: flat numbers on the hot path, and the stream's records of them; `series` shows them as metrics.

Hot file: counting one exchange costs one dictionary look-up and a few additions. Label sets are bounded: what
comes from requests (methods, paths, hosts) is never a label, and beyond MAX_EDGES all others are counted as
one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from meshpy.model.metrics import Exemplar, Family
from proxy.admitted import Admitted
from proxy.decide.grpc import FAILURES
from proxy.metric_overrides import MetricOverrides

__all__ = ["BOUNDS_MS", "Edge", "EdgeKey", "Telemetry", "bucket_of"]

BOUNDS_MS = (0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000)
MAX_EDGES = 1000
MAX_VERDICTS = 1000
MAX_MIRRORS = 1000
_UNKNOWN = "unknown"
_SIZE_BITS = 31
_GRPC_FAILURES = frozenset(map(str, FAILURES))


class EdgeKey(NamedTuple):
    """Who speaks to whom, as this sidecar sees it. Services are `namespace/name`, empty when unknown."""

    direction: str
    source: str
    destination: str
    service: str
    protocol: str
    is_mtls: bool


def bucket_of(duration_ms: float) -> int:
    """The first of BOUNDS_MS that is no less, by comparisons alone: most requests are quick."""
    if duration_ms <= 5:
        return 0 if duration_ms <= 0.5 else 1 if duration_ms <= 1 else 2 if duration_ms <= 2.5 else 3
    index = 4
    while index < len(BOUNDS_MS) and duration_ms > BOUNDS_MS[index]:
        index += 1
    return index


class Answered:
    """How many requests of an edge were answered alike."""

    __slots__ = ("count", "flags", "grpc_status", "status")

    def __init__(self, status: int, flags: str, grpc_status: str) -> None:
        self.status = status
        self.flags = flags
        self.grpc_status = grpc_status
        self.count = 0


class Edge:
    """The numbers of one edge; they only grow."""

    __slots__ = (
        "_answered",
        "_last",
        "buckets",
        "bytes_received",
        "bytes_sent",
        "closed",
        "denied",
        "exemplars",
        "key",
        "opened",
        "recovered",
        "request_messages",
        "request_sizes",
        "response_messages",
        "response_sizes",
        "retries",
        "sum_ms",
    )

    def __init__(self, key: EdgeKey) -> None:
        self.key = key
        self._answered: dict[tuple[int, str, str], Answered] = {}
        self._last = Answered(-1, "", "")
        self.request_messages = self.response_messages = 0
        self.request_sizes = [0] * (_SIZE_BITS + 1)
        self.response_sizes = [0] * (_SIZE_BITS + 1)
        self.denied: dict[str, int] = {}
        self.exemplars: dict[int, Exemplar] = {}
        """By bucket of the durations: the last request whose span was kept."""
        self.buckets = [0] * (len(BOUNDS_MS) + 1)
        self.sum_ms = 0.0
        self.retries = 0
        self.recovered = 0
        self.opened = 0
        self.closed = 0
        self.bytes_sent = 0
        self.bytes_received = 0

    def http(
        self, status: int, flags: str, duration_ms: float, received: int, sent: int, grpc_status: str = ""
    ) -> None:
        """Count an exchange."""
        last = self._last
        if last.status != status or last.flags != flags or last.grpc_status != grpc_status:
            last = self._last = self._of_answer(status, flags, grpc_status)
        last.count += 1
        self.buckets[bucket_of(duration_ms)] += 1
        self.sum_ms += duration_ms
        self.bytes_received += received
        self.bytes_sent += sent
        # A size's number of bits is its bucket: no search, no table.
        self.request_sizes[min(received.bit_length(), _SIZE_BITS)] += 1
        self.response_sizes[min(sent.bit_length(), _SIZE_BITS)] += 1

    def _of_answer(self, status: int, flags: str, grpc_status: str) -> Answered:
        """Where answers like this one are counted."""
        key = (status, flags, grpc_status)
        found = self._answered.get(key)
        if found is None:
            found = self._answered[key] = Answered(status, flags, grpc_status)
        return found

    @property
    def responses(self) -> dict[tuple[int, str, str], int]:
        """Requests by status, response flags and status of gRPC."""
        return {key: each.count for key, each in list(self._answered.items())}

    def remember(self, trace: bytes, duration_ms: float, at_s: float) -> None:
        """Keep a request as the example of its bucket.

        Args:
            trace: its traceparent.
        """
        ids = trace.decode("latin-1")
        found = Exemplar(ids[3:35], ids[36:52], duration_ms, at_s)
        self.exemplars[bucket_of(duration_ms)] = found

    def deny(self, policy: str) -> None:
        """Count a denial by the policy that made it."""
        self.denied[policy] = self.denied.get(policy, 0) + 1


class Telemetry:
    """All counters of a process.

    Args:
        workload: `namespace/name` of the app.
        labels: of the app; `version` and `app` are shown.
    """

    def __init__(self, trust_domain: str = "", labels: Mapping[str, Mapping[str, str]] | None = None) -> None:
        self.trust_domain = trust_domain
        self.labels: Mapping[str, Mapping[str, str]] = labels or {}
        self.edges: dict[EdgeKey, Edge] = {}
        self.verdicts: dict[tuple[str, str, str, bool], int] = {}
        self.limited: dict[tuple[str, str], int] = {}
        self.refused_handshakes: dict[str, int] = {}
        self.mirrors: dict[tuple[str, str], int] = {}
        self.gauges: dict[str, float] = {}
        self.overrides = MetricOverrides((), ())
        self.admitted = Admitted()
        self.sources: list[Callable[[], Iterable[Family]]] = []
        """Families of parts that count for themselves."""
        self._reported: dict[EdgeKey, dict[str, object]] = {}

    def edge(self, key: EdgeKey) -> Edge:
        """The numbers of an edge."""
        edge = self.edges.get(key)
        if edge is None:
            if len(self.edges) >= MAX_EDGES:
                key = EdgeKey(key.direction, "", "", _UNKNOWN, key.protocol, key.is_mtls)
                edge = self.edges.get(key)
            if edge is None:
                edge = self.edges[key] = Edge(key)
        return edge

    def verdict(self, stage: str, policy: str, rule: str, *, allowed: bool) -> None:
        """Count a decision by who made it."""
        key = (stage, policy, rule, allowed)
        count = self.verdicts.get(key)
        if count is None and len(self.verdicts) >= MAX_VERDICTS:
            key = (stage, _UNKNOWN, "", allowed)
            count = self.verdicts.get(key)
        self.verdicts[key] = (count or 0) + 1

    def limit(self, policy: str, rule: str) -> None:
        """Count a request that was refused for coming too fast."""
        key = (policy, rule)
        self.limited[key] = self.limited.get(key, 0) + 1

    def refused(self, reason: str) -> None:
        """Count a handshake or peer that was refused."""
        if reason not in self.refused_handshakes and len(self.refused_handshakes) >= 100:
            reason = _UNKNOWN
        self.refused_handshakes[reason] = self.refused_handshakes.get(reason, 0) + 1

    def mirrored(self, host: str, outcome: str) -> None:
        """Count a copy of a request by its destination and what became of it."""
        key = (host, outcome)
        if key not in self.mirrors and len(self.mirrors) >= MAX_MIRRORS:
            key = (_UNKNOWN, outcome)
        self.mirrors[key] = self.mirrors.get(key, 0) + 1

    # -- the stream's records

    def take_records(self) -> list[dict[str, object]]:
        """What was counted since the last call, one record per edge that moved (CONTRACT: stats)."""
        records = []
        for key, edge in self.edges.items():
            now = _totals(edge)
            before = self._reported.get(key)
            self._reported[key] = now
            change = _minus(now, before) if before is not None else now
            if _is_moved(change):
                records.append(_record(key, change))
        return records


def _totals(edge: Edge) -> dict[str, object]:
    responses: dict[str, int] = {}
    failed = 0
    for (status, _, grpc_status), count in edge.responses.items():
        responses[str(status)] = responses.get(str(status), 0) + count
        if status >= 500 or status == 0 or grpc_status in _GRPC_FAILURES:
            failed += count
    requests = sum(responses.values())
    denied = sum(edge.denied.values())
    return {
        "requests": requests,
        "success": max(0, requests - failed - (denied if requests else 0)),
        "responses": responses,
        "denied": dict(edge.denied),
        "retries": edge.retries,
        "recovered_by_retry": edge.recovered,
        "latency_counts": list(edge.buckets),
        "connections": edge.opened,
        "bytes_sent": edge.bytes_sent,
        "bytes_received": edge.bytes_received,
    }


def _minus(now: dict[str, object], before: dict[str, object]) -> dict[str, object]:
    change: dict[str, object] = {}
    for name, value in now.items():
        old = before[name]
        if isinstance(value, dict) and isinstance(old, dict):
            change[name] = {
                key: count - old.get(key, 0) for key, count in value.items() if count != old.get(key, 0)
            }
        elif isinstance(value, list) and isinstance(old, list):
            change[name] = [a - b for a, b in zip(value, old, strict=True)]
        elif isinstance(value, int) and isinstance(old, int):
            change[name] = value - old
    return change


def _is_moved(change: dict[str, object]) -> bool:
    return any(any(value) if isinstance(value, list) else bool(value) for value in change.values())


def _record(key: EdgeKey, change: dict[str, object]) -> dict[str, object]:
    counted = {name: value for name, value in change.items() if name != "latency_counts"}
    return {
        "direction": key.direction,
        "source": key.source,
        "destination": key.destination or key.service,
        "protocol": key.protocol,
        "mtls": key.is_mtls,
        **counted,
        "latency_ms": {"bounds": list(BOUNDS_MS), "counts": change["latency_counts"]},
    }
