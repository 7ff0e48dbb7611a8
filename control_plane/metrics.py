"""The control plane's own metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from control_plane.anomalies.event import Kind
from control_plane.parts import Parts
from control_plane.streams import SyncState
from meshpy.model.metrics import Family, MetricKind, numbers

__all__ = ["families"]

_PREFIX = "meshpy_control_plane_"
_COUNTER, _GAUGE = MetricKind.COUNTER, MetricKind.GAUGE


def families(parts: Parts) -> Iterator[Family]:
    """What is counted, as of now."""
    states = Counter(str(state) for _, state in parts.distribution.states())
    by_state = [
        ((("state", str(state)),), states[state]) for state in SyncState if state != SyncState.DISCONNECTED
    ]
    yield numbers(f"{_PREFIX}sidecars", _GAUGE, "Connected sidecars by state.", by_state)
    for kind, name, text, value in _plain(parts):
        yield numbers(_PREFIX + name, kind, text, [((), value)])
    watch = parts.watch
    told, still = watch.events.counts, watch.events.open_counts()
    kinds = [(("kind", str(kind)),) for kind in Kind]
    text = "Unusual things that were told."
    yield numbers("meshpy_anomaly_events_total", _COUNTER, text, [(each, told[each[0][1]]) for each in kinds])
    text = "Unusual things that go on."
    yield numbers("meshpy_anomalies_open", _GAUGE, text, [(each, still[each[0][1]]) for each in kinds])
    if parts.export.spans is not None or parts.export.metrics is not None:
        yield _exported(parts)


def _plain(parts: Parts) -> Iterator[tuple[MetricKind, str, str, float]]:
    registry, traces = parts.registry, parts.reports.traces
    yield _GAUGE, "revision", "The newest policy revision.", registry.revision.number
    yield _GAUGE, "services", "Services that discovery sees.", len(registry.view.inventory.services)
    yield _GAUGE, "compile_seconds", "How long the last compile took.", round(registry.compile_s, 6)
    problems = len(registry.problems) + len(parts.store.problems)
    yield _GAUGE, "compile_problems", "Problems of the last compile and of the store.", problems
    failures = parts.discovery.health.failures
    yield _COUNTER, "discovery_failures_total", "Looks at the Swarm that failed.", failures
    age_s = parts.discovery.health.age_s
    yield (
        _GAUGE,
        "discovery_age_seconds",
        "Since the last good look; -1: none.",
        -1 if age_s is None else age_s,
    )
    distribution = parts.distribution
    yield _COUNTER, "pushes_total", "Snapshots and deltas sent to sidecars.", distribution.pushed
    yield _COUNTER, "push_characters_total", "What they took.", distribution.pushed_bytes
    yield _COUNTER, "acks_total", "Snapshots that sidecars took.", distribution.answered["ack"]
    yield _COUNTER, "nacks_total", "Snapshots that sidecars refused.", distribution.answered["nack"]
    unknown = distribution.unknown_frames
    yield _COUNTER, "unknown_frames_total", "Messages of newer sidecars that are not known.", unknown
    yield _COUNTER, "certificates_issued_total", "Certificates issued.", parts.audit.issued
    yield _COUNTER, "certificates_refused_total", "Requests for certificates refused.", parts.audit.refused
    dropped = parts.reports.telemetry.dropped
    yield _COUNTER, "stats_dropped_total", "Records of sidecars that were not kept.", dropped
    yield _GAUGE, "traces", "Traces in the store.", len(traces)
    yield _GAUGE, "trace_bytes", "About the memory that they take.", traces.size_bytes
    yield _COUNTER, "spans_dropped_total", "Spans that were malformed or came twice.", traces.dropped
    skipped = parts.reports.recall.skipped
    yield _COUNTER, "recalls_skipped_total", "Traces that were not made whole, of a storm.", skipped


def _exported(parts: Parts) -> Family:
    export = parts.export
    kinds = (("traces", export.spans), ("metrics", export.metrics))
    samples = [
        ((("signal", signal), ("outcome", outcome)), getattr(each.counts, outcome))
        for signal, each in kinds
        if each is not None
        for outcome in ("sent", "dropped", "failed", "rejected")
    ]
    text = "Spans and metrics for the collector, by what became of them."
    return numbers("meshpy_otlp_items_total", _COUNTER, text, samples)
