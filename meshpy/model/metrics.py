"""Metrics as values: families of samples, which Prometheus text, OpenMetrics and OTLP are printed from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, TypeAlias

__all__ = ["Distribution", "Exemplar", "Family", "Labels", "MetricKind", "Number", "numbers"]

Labels: TypeAlias = tuple[tuple[str, str], ...]


class MetricKind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Exemplar(NamedTuple):
    """One measurement of a bucket, and the trace that it belongs to; `at_s` of the wall clock."""

    trace_id: str
    span_id: str
    value: float
    at_s: float


class Number(NamedTuple):
    """A sample of a counter or gauge."""

    labels: Labels
    value: float


class Distribution(NamedTuple):
    """A sample of a histogram.

    Args:
        counts: one a bound, not summed up, and one for what is above the last bound.
        exemplars: as many as counts, or none.
    """

    labels: Labels
    bounds: Sequence[float]
    counts: Sequence[int]
    total: float
    exemplars: Sequence[Exemplar | None] = ()


@dataclass(frozen=True, slots=True)
class Family:
    """One metric. A counter's name ends with `_total`.

    Args:
        unit: UCUM, as OTLP has it; the name of a Prometheus unit is part of the metric's name.
    """

    name: str
    kind: MetricKind
    help: str
    samples: Sequence[Number] | Sequence[Distribution]
    unit: str = ""


def numbers(name: str, kind: MetricKind, text: str, samples: Iterable[tuple[Labels, float]]) -> Family:
    """A family of plain numbers."""
    return Family(name, kind, text, [Number(labels, value) for labels, value in samples])
