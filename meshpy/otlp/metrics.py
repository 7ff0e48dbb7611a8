"""Families as an ExportMetricsServiceRequest (opentelemetry/proto/collector/metrics/v1), cumulative."""

from __future__ import annotations

from collections.abc import Iterable

from meshpy.model.metrics import Distribution, Exemplar, Family, MetricKind, Number
from meshpy.otlp.resource import SCHEMA_URL, SCOPE, Resource, attributes
from meshpy.protobuf import double, fixed64, message, packed_doubles, packed_fixed64, text, varint

__all__ = ["encode_metrics"]

_CUMULATIVE = varint(2, 2)
_MONOTONIC = varint(3, 1)
_GAUGE, _SUM, _HISTOGRAM = 5, 7, 9


def encode_metrics(resource: Resource, families: Iterable[Family], *, since_ns: int, now_ns: int) -> bytes:
    """One request.

    Args:
        since_ns: since when the counters count; nanoseconds since the epoch, as `now_ns`.
    """
    schema = text(3, SCHEMA_URL)
    metrics = [message(2, *_metric(each, since_ns, now_ns)) for each in families if each.samples]
    return message(1, resource.encode(1), message(2, SCOPE, *metrics, schema), schema)


def _metric(family: Family, since_ns: int, now_ns: int) -> list[bytes]:
    head = [text(1, family.name), text(2, family.help), text(3, family.unit)]
    points = [message(1, *_point(sample, since_ns, now_ns)) for sample in family.samples]
    if family.kind is MetricKind.GAUGE:
        return [*head, message(_GAUGE, *points)]
    if family.kind is MetricKind.COUNTER:
        return [*head, message(_SUM, *points, _CUMULATIVE, _MONOTONIC)]
    return [*head, message(_HISTOGRAM, *points, _CUMULATIVE)]


def _point(sample: Number | Distribution, since_ns: int, now_ns: int) -> list[bytes]:
    times = [fixed64(2, since_ns), fixed64(3, now_ns)]
    if isinstance(sample, Number):
        return [*times, double(4, sample.value), *attributes(7, sample.labels)]
    exemplars = [message(8, *_exemplar(each)) for each in sample.exemplars if each is not None]
    return [
        *times,
        fixed64(4, sum(sample.counts)),
        double(5, sample.total),
        packed_fixed64(6, sample.counts),
        packed_doubles(7, sample.bounds),
        *exemplars,
        *attributes(9, sample.labels),
    ]


def _exemplar(exemplar: Exemplar) -> list[bytes]:
    return [
        fixed64(2, int(exemplar.at_s * 1e9)),
        double(3, exemplar.value),
        message(4, bytes.fromhex(exemplar.span_id)),
        message(5, bytes.fromhex(exemplar.trace_id)),
    ]
