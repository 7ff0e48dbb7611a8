"""A sidecar's counters as metrics, under Istio's names where Istio has one.

Source: istio.io/latest/docs/reference/config/metrics. Stacks are namespaces, services are workloads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import chain

from meshpy.exposition import openmetrics, prometheus
from meshpy.model.metrics import Distribution, Exemplar, Family, Labels, MetricKind, Number, numbers
from proxy.telemetry import BOUNDS_MS, Edge, EdgeKey, Telemetry

__all__ = ["families", "openmetrics_text", "prometheus_text"]

_VERSION = "0.1.0"
_UNKNOWN = "unknown"
_SIZE_BITS = (0, 7, 10, 13, 16, 20, 24)
_SIZE_BOUNDS = tuple((1 << bits) - 1 for bits in _SIZE_BITS)
"""Bounds of the histograms of sizes in bytes: 0, 127, 1 KiB - 1, … 16 MiB - 1."""
_COUNTER, _GAUGE, _HISTOGRAM = MetricKind.COUNTER, MetricKind.GAUGE, MetricKind.HISTOGRAM

_TCP = (
    ("connections_opened", "opened", "Connections that were opened."),
    ("connections_closed", "closed", "Connections that ended."),
    ("sent_bytes", "bytes_sent", "Bytes sent to the caller."),
    ("received_bytes", "bytes_received", "Bytes received from the caller."),
)
_GAUGES = {
    "meshpy_certificate_expiration_timestamp_seconds": "When the sidecar's certificate ends.",
    "meshpy_config_revision": "The policy revision in force.",
    "meshpy_config_applied_timestamp_seconds": "When the configuration in force was applied.",
}


def prometheus_text(telemetry: Telemetry) -> str:
    """Text exposition format 0.0.4."""
    return prometheus(families(telemetry))


def openmetrics_text(telemetry: Telemetry) -> str:
    """OpenMetrics 1.0, with exemplars."""
    return openmetrics(families(telemetry))


def families(telemetry: Telemetry) -> Iterator[Family]:
    """Everything that is counted."""
    edges = list(telemetry.edges.values())
    named = [(edge, _labels(telemetry, edge.key)) for edge in edges]
    http = _http([(edge, labels) for edge, labels in named if edge.responses])
    tcp = _tcp([(edge, labels) for edge, labels in named if edge.key.protocol == "tcp"])
    yield from telemetry.overrides.applied(chain(http, tcp))
    yield from _own(telemetry)
    for source in telemetry.sources:
        yield from source()


def _labels(telemetry: Telemetry, key: EdgeKey) -> Labels:
    service = key.service or _UNKNOWN
    name, _, namespace = service.partition(".")
    return (
        ("reporter", "source" if key.direction == "outbound" else "destination"),
        *_side(telemetry, "source", key.source),
        *_side(telemetry, "destination", key.destination),
        ("destination_service", service),
        ("destination_service_name", name),
        ("destination_service_namespace", namespace or _UNKNOWN),
        ("request_protocol", key.protocol),
        ("connection_security_policy", "mutual_tls" if key.is_mtls else "none"),
    )


def _side(telemetry: Telemetry, side: str, service: str) -> Iterator[tuple[str, str]]:
    namespace, _, name = service.rpartition("/")
    labels: Mapping[str, str] = telemetry.labels.get(service, {})
    is_known = bool(namespace)
    spiffe_id = f"spiffe://{telemetry.trust_domain}/ns/{namespace}/sa/{name}" if is_known else _UNKNOWN
    yield f"{side}_workload", name or _UNKNOWN
    yield f"{side}_workload_namespace", namespace or _UNKNOWN
    yield f"{side}_principal", spiffe_id
    yield f"{side}_app", labels.get("app", name) or _UNKNOWN
    yield f"{side}_version", labels.get("version", _UNKNOWN)
    yield f"{side}_cluster", "swarm"
    yield f"{side}_canonical_service", name or _UNKNOWN
    yield f"{side}_canonical_revision", labels.get("version", "latest" if is_known else _UNKNOWN)


def _http(edges: list[tuple[Edge, Labels]]) -> Iterator[Family]:
    requests = [
        Number(
            (
                *labels,
                ("response_code", str(status)),
                ("response_flags", flags),
                ("grpc_response_status", grpc_status),
            ),
            count,
        )
        for edge, labels in edges
        for (status, flags, grpc_status), count in edge.responses.items()
    ]
    yield Family("istio_requests_total", _COUNTER, "Requests by answer.", requests, "{request}")
    durations = [
        Distribution(labels, BOUNDS_MS, tuple(edge.buckets), edge.sum_ms, _exemplars(edge))
        for edge, labels in edges
    ]
    name = "istio_request_duration_milliseconds"
    yield Family(name, _HISTOGRAM, "How long requests took.", durations, "ms")
    for direction in ("request", "response"):
        sizes = [_sizes(edge, labels, is_request=direction == "request") for edge, labels in edges]
        text = f"Sizes of the content of {direction}s."
        yield Family(f"istio_{direction}_bytes", _HISTOGRAM, text, sizes, "By")
    calls = [(edge, labels) for edge, labels in edges if edge.key.protocol == "grpc"]
    for direction in ("request", "response"):
        counts = [(labels, getattr(edge, f"{direction}_messages")) for edge, labels in calls]
        yield numbers(f"istio_{direction}_messages_total", _COUNTER, "Messages of gRPC.", counts)
    retries = [(labels, edge.retries) for edge, labels in edges]
    yield numbers("meshpy_retries_total", _COUNTER, "Tries beyond the first.", retries)
    recovered = [(labels, edge.recovered) for edge, labels in edges]
    text = "Requests that a further try saved."
    yield numbers("meshpy_recovered_by_retry_total", _COUNTER, text, recovered)


def _exemplars(edge: Edge) -> tuple[Exemplar | None, ...]:
    found = edge.exemplars
    return tuple(found.get(index) for index in range(len(edge.buckets))) if found else ()


def _sizes(edge: Edge, labels: Labels, *, is_request: bool) -> Distribution:
    """A size's number of bits is its bucket; those between two bounds are one."""
    counted = edge.request_sizes if is_request else edge.response_sizes
    counts, low = [], 0
    for bits in _SIZE_BITS:
        counts.append(sum(counted[low : bits + 1]))
        low = bits + 1
    counts.append(sum(counted[low:]))
    total = edge.bytes_received if is_request else edge.bytes_sent
    return Distribution(labels, _SIZE_BOUNDS, counts, total)


def _tcp(edges: list[tuple[Edge, Labels]]) -> Iterator[Family]:
    for name, field, text in _TCP:
        counts = [(labels, getattr(edge, field)) for edge, labels in edges]
        yield numbers(f"istio_tcp_{name}_total", _COUNTER, text, counts)


def _own(telemetry: Telemetry) -> Iterator[Family]:
    # What Istio's dashboards ask the versions from.
    build: Labels = (("component", "meshpy-proxy"), ("tag", _VERSION))
    yield numbers("istio_build", _GAUGE, "The version that runs.", [(build, 1)])
    decisions = [
        (
            (
                ("stage", stage),
                ("policy", policy),
                ("rule", rule),
                ("action", "allow" if allowed else "deny"),
            ),
            n,
        )
        for (stage, policy, rule, allowed), n in list(telemetry.verdicts.items())
    ]
    yield numbers("meshpy_authz_decisions_total", _COUNTER, "Decisions that name a policy.", decisions)
    limited = [
        ((("policy", policy), ("rule", rule)), n) for (policy, rule), n in list(telemetry.limited.items())
    ]
    yield numbers("meshpy_rate_limited_total", _COUNTER, "Requests answered with 429.", limited)
    refused = [((("reason", reason),), n) for reason, n in list(telemetry.refused_handshakes.items())]
    yield numbers("meshpy_refused_connections_total", _COUNTER, "Handshakes and peers refused.", refused)
    mirrored = [
        ((("destination_service", host), ("outcome", outcome)), n)
        for (host, outcome), n in list(telemetry.mirrors.items())
    ]
    yield numbers("meshpy_mirrored_requests_total", _COUNTER, "Copies sent to mirrors.", mirrored)
    yield from (
        numbers(name, _GAUGE, _GAUGES.get(name, ""), [((), value)])
        for name, value in list(telemetry.gauges.items())
    )
