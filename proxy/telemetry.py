"""Counters: flat numbers on the hot path, Prometheus text under Istio's names and stream records from them.

Hot file: counting one exchange costs one dictionary look-up and a few additions. Label sets are bounded: what
comes from requests (methods, paths, hosts) is never a label, and beyond MAX_EDGES all others are counted as
one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import NamedTuple

from proxy.decide.grpc import FAILURES
from proxy.metric_overrides import MetricOverrides

__all__ = ["BOUNDS_MS", "Edge", "EdgeKey", "Telemetry"]

BOUNDS_MS = (0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000)
MAX_EDGES = 1000
MAX_VERDICTS = 1000
_VERSION = "0.1.0"
MAX_MIRRORS = 1000
_UNKNOWN = "unknown"
_SIZE_BITS = 31
_SIZE_BOUNDS = tuple((1 << bits) - 1 for bits in (0, 7, 10, 13, 16, 20, 24))
"""Bounds of the exported histograms of sizes in bytes: 0, 127, 1 KiB - 1, … 16 MiB - 1."""
_GRPC_FAILURES = frozenset(map(str, FAILURES))


class EdgeKey(NamedTuple):
    """Who speaks to whom, as this sidecar sees it. Services are `namespace/name`, empty when unknown."""

    direction: str
    source: str
    destination: str
    service: str
    protocol: str
    is_mtls: bool


class Edge:
    """The numbers of one edge; they only grow."""

    __slots__ = (
        "buckets",
        "bytes_received",
        "bytes_sent",
        "closed",
        "denied",
        "key",
        "opened",
        "recovered",
        "request_messages",
        "request_sizes",
        "response_messages",
        "response_sizes",
        "responses",
        "retries",
        "sum_ms",
    )

    def __init__(self, key: EdgeKey) -> None:
        self.key = key
        self.responses: dict[tuple[int, str, str], int] = {}
        self.request_messages = self.response_messages = 0
        self.request_sizes = [0] * (_SIZE_BITS + 1)
        self.response_sizes = [0] * (_SIZE_BITS + 1)
        self.denied: dict[str, int] = {}
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
        key = (status, flags, grpc_status)
        responses = self.responses
        responses[key] = responses.get(key, 0) + 1
        self.buckets[bisect_left(BOUNDS_MS, duration_ms)] += 1
        self.sum_ms += duration_ms
        self.bytes_received += received
        self.bytes_sent += sent
        # A size's number of bits is its bucket: no search, no table.
        self.request_sizes[min(received.bit_length(), _SIZE_BITS)] += 1
        self.response_sizes[min(sent.bit_length(), _SIZE_BITS)] += 1

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
        self.sources: list[Callable[[], Iterable[str]]] = []
        """Lines of parts that count for themselves."""
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

    # -- Prometheus

    def prometheus(self) -> str:
        """Text exposition format 0.0.4."""
        standard = self.overrides.applied(chain(self._http_lines(), self._tcp_lines()))
        return "\n".join((*standard, *self._own_lines(), *self._others())) + "\n"

    def _others(self) -> Iterator[str]:
        for source in self.sources:
            yield from source()

    def _labels(self, key: EdgeKey) -> str:
        parts = {"reporter": "source" if key.direction == "outbound" else "destination"}
        parts.update(self._side("source", key.source))
        parts.update(self._side("destination", key.destination))
        service = key.service or _UNKNOWN
        name, _, namespace = service.partition(".")
        parts["destination_service"] = service
        parts["destination_service_name"] = name
        parts["destination_service_namespace"] = namespace or _UNKNOWN
        parts["request_protocol"] = key.protocol
        parts["connection_security_policy"] = "mutual_tls" if key.is_mtls else "none"
        return ",".join(f'{name}="{_escaped(value)}"' for name, value in parts.items())

    def _side(self, side: str, service: str) -> dict[str, str]:
        namespace, _, name = service.rpartition("/")
        labels = self.labels.get(service, {})
        is_known = bool(namespace)
        return {
            f"{side}_workload": name or _UNKNOWN,
            f"{side}_workload_namespace": namespace or _UNKNOWN,
            f"{side}_principal": (
                f"spiffe://{self.trust_domain}/ns/{namespace}/sa/{name}" if is_known else _UNKNOWN
            ),
            f"{side}_app": labels.get("app", name) or _UNKNOWN,
            f"{side}_version": labels.get("version", _UNKNOWN),
            f"{side}_cluster": "swarm",
            f"{side}_canonical_service": name or _UNKNOWN,
            f"{side}_canonical_revision": labels.get("version", "latest" if is_known else _UNKNOWN),
        }

    def _http_lines(self) -> Iterator[str]:
        edges = [edge for edge in self.edges.values() if edge.responses]
        yield "# TYPE istio_requests_total counter"
        for edge in edges:
            labels = self._labels(edge.key)
            for (status, flags, grpc_status), count in edge.responses.items():
                yield (
                    f'istio_requests_total{{{labels},response_code="{status}",response_flags="{flags}",'
                    f'grpc_response_status="{grpc_status}"}} {count}'
                )
        yield "# TYPE istio_request_duration_milliseconds histogram"
        for edge in edges:
            labels = self._labels(edge.key)
            total = 0
            for bound, count in zip((*BOUNDS_MS, "+Inf"), edge.buckets, strict=True):
                total += count
                yield f'istio_request_duration_milliseconds_bucket{{{labels},le="{bound}"}} {total}'
            yield f"istio_request_duration_milliseconds_sum{{{labels}}} {edge.sum_ms:.3f}"
            yield f"istio_request_duration_milliseconds_count{{{labels}}} {total}"
        for direction in ("request", "response"):
            yield f"# TYPE istio_{direction}_bytes histogram"
            for edge in edges:
                labels = self._labels(edge.key)
                is_request = direction == "request"
                sizes = edge.request_sizes if is_request else edge.response_sizes
                name = f"istio_{direction}_bytes"
                for bound in _SIZE_BOUNDS:
                    total = sum(sizes[: bound.bit_length() + 1])
                    yield f'{name}_bucket{{{labels},le="{bound}"}} {total}'
                yield f'{name}_bucket{{{labels},le="+Inf"}} {sum(sizes)}'
                yield f"{name}_sum{{{labels}}} {edge.bytes_received if is_request else edge.bytes_sent}"
                yield f"{name}_count{{{labels}}} {sum(sizes)}"
        for direction in ("request", "response"):
            yield f"# TYPE istio_{direction}_messages_total counter"
            for edge in edges:
                if edge.key.protocol == "grpc":
                    count = edge.request_messages if direction == "request" else edge.response_messages
                    yield f"istio_{direction}_messages_total{{{self._labels(edge.key)}}} {count}"
        yield "# TYPE meshpy_retries_total counter"
        for edge in edges:
            yield f"meshpy_retries_total{{{self._labels(edge.key)}}} {edge.retries}"
        yield "# TYPE meshpy_recovered_by_retry_total counter"
        for edge in edges:
            yield f"meshpy_recovered_by_retry_total{{{self._labels(edge.key)}}} {edge.recovered}"

    def _tcp_lines(self) -> Iterator[str]:
        edges = [edge for edge in self.edges.values() if edge.key.protocol == "tcp"]
        for name, field in (
            ("connections_opened", "opened"),
            ("connections_closed", "closed"),
            ("sent_bytes", "bytes_sent"),
            ("received_bytes", "bytes_received"),
        ):
            yield f"# TYPE istio_tcp_{name}_total counter"
            for edge in edges:
                yield f"istio_tcp_{name}_total{{{self._labels(edge.key)}}} {getattr(edge, field)}"

    def _own_lines(self) -> Iterator[str]:
        yield "# TYPE istio_build gauge"  # what Istio's dashboards ask the versions from
        yield f'istio_build{{component="meshpy-proxy",tag="{_VERSION}"}} 1'
        yield "# TYPE meshpy_authz_decisions_total counter"
        for (stage, policy, rule, allowed), count in self.verdicts.items():
            action = "allow" if allowed else "deny"
            yield (
                f'meshpy_authz_decisions_total{{stage="{stage}",policy="{_escaped(policy)}",rule="{_escaped(rule)}",'
                f'action="{action}"}} {count}'
            )
        yield "# TYPE meshpy_rate_limited_total counter"
        for (policy, rule), count in self.limited.items():
            yield f'meshpy_rate_limited_total{{policy="{_escaped(policy)}",rule="{_escaped(rule)}"}} {count}'
        yield "# TYPE meshpy_refused_connections_total counter"
        for reason, count in self.refused_handshakes.items():
            yield f'meshpy_refused_connections_total{{reason="{_escaped(reason)}"}} {count}'
        yield "# TYPE meshpy_mirrored_requests_total counter"
        for (host, outcome), count in self.mirrors.items():
            labels = f'destination_service="{_escaped(host)}",outcome="{outcome}"'
            yield f"meshpy_mirrored_requests_total{{{labels}}} {count}"
        for name, value in self.gauges.items():
            yield f"# TYPE {name.partition('{')[0]} gauge"
            yield f"{name} {value:.15g}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


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
