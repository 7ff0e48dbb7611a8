"""The metrics of several workers as one: what counts is added; of gauges, which all workers tell alike, the
greatest value holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeAlias, cast

from meshpy.model.metrics import Distribution, Exemplar, Family, Labels, MetricKind, Number

__all__ = ["merged", "packed", "unpacked"]

Sample: TypeAlias = Number | Distribution


def merged(pages: Iterable[Iterable[Family]]) -> list[Family]:
    """One family of each name, with one sample of each set of labels, in the order in which they came."""
    found: dict[str, Family] = {}
    samples: dict[str, dict[Labels, Sample]] = {}
    for family in (family for page in pages for family in page):
        found.setdefault(family.name, family)
        mine = samples.setdefault(family.name, {})
        for sample in family.samples:
            known = mine.get(sample.labels)
            mine[sample.labels] = sample if known is None else _joined(family.kind, known, sample)
    return [
        replace(family, samples=cast("Sequence[Number]", list(samples[name].values())))
        for name, family in found.items()
    ]


def _joined(kind: MetricKind, one: Sample, other: Sample) -> Sample:
    if isinstance(one, Distribution) and isinstance(other, Distribution):
        counts = [a + b for a, b in zip(one.counts, other.counts, strict=True)]
        exemplars = [a or b for a, b in zip(one.exemplars, other.exemplars, strict=False)]
        return one._replace(counts=counts, total=one.total + other.total, exemplars=exemplars)
    if isinstance(one, Number) and isinstance(other, Number):
        value = max(one.value, other.value) if kind is MetricKind.GAUGE else one.value + other.value
        return Number(one.labels, value)
    return one


def packed(families: Iterable[Family]) -> bytes:
    """For another worker of the same release."""
    return json.dumps(
        [(each.name, each.kind, each.help, each.unit, list(each.samples)) for each in families]
    ).encode()


def unpacked(data: bytes) -> list[Family]:
    """What `packed` made."""
    return [
        Family(name, MetricKind(kind), text, cast("Sequence[Number]", [*map(_sample, samples)]), unit)
        for name, kind, text, unit, samples in json.loads(data)
    ]


def _sample(values: list[object]) -> Sample:
    labels = cast("Labels", tuple((name, value) for name, value in cast("list[list[str]]", values[0])))
    if len(values) == len(Number._fields):
        return Number(labels, cast("float", values[1]))
    _, bounds, counts, total, exemplars = cast(
        "tuple[object, list[float], list[int], float, list[list[object] | None]]", values
    )
    shown = [
        None if each is None else Exemplar(*cast("tuple[str, str, float, float]", each)) for each in exemplars
    ]
    return Distribution(labels, bounds, counts, total, shown)
