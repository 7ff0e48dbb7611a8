"""Metrics as Telemetry documents want them: families left out, labels dropped or added.

Only what is shown is changed: counting costs the same, and the control plane sees what it always sees. Series
that differ in nothing after a label is gone are added up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from meshpy.model.metrics import Distribution, Family, Labels, Number
from meshpy.model.telemetry import MetricFamily, MetricOverride

__all__ = ["MetricOverrides"]


class MetricOverrides:
    """Args:
    client, server: of the two reporters, `source` and `destination`.
    """

    __slots__ = ("_steps",)

    def __init__(self, client: Sequence[MetricOverride], server: Sequence[MetricOverride]) -> None:
        self._steps = {
            (family.value, reporter): steps
            for family in MetricFamily
            for reporter, all_steps in (("source", client), ("destination", server))
            if (steps := tuple(step for step in all_steps if step.family in (None, family)))
        }

    def applied(self, families: Iterable[Family]) -> Iterator[Family]:
        """Families as they are to be shown."""
        for family in families:
            name = family.name
            if (name, "source") in self._steps or (name, "destination") in self._steps:
                yield replace(family, samples=self._samples(family))
            else:
                yield family

    def _samples(self, family: Family) -> Sequence[Number] | Sequence[Distribution]:
        sums: dict[Labels, Number] = {}
        joined: dict[Labels, Distribution] = {}
        for sample in family.samples:
            labels = self._labels(family.name, dict(sample.labels))
            if labels is None:
                continue
            if isinstance(sample, Number):
                known = sums.get(labels)
                sums[labels] = Number(labels, sample.value + (known.value if known is not None else 0))
            else:
                other = joined.get(labels)
                joined[labels] = _added(other, sample) if other else sample._replace(labels=labels)
        return list(joined.values()) or list(sums.values())

    def _labels(self, family: str, labels: dict[str, str]) -> Labels | None:
        """The labels that a series gets; None when it is not shown."""
        is_off = False
        for step in self._steps.get((family, labels.get("reporter", "")), ()):
            is_off = is_off if step.is_off is None else step.is_off
            _retag(labels, step)
        return None if is_off else tuple(labels.items())


def _added(one: Distribution, other: Distribution) -> Distribution:
    """Series of one family have the same bounds."""
    counts = [a + b for a, b in zip(one.counts, other.counts, strict=True)]
    return one._replace(
        counts=counts, total=one.total + other.total, exemplars=one.exemplars or other.exemplars
    )


def _retag(labels: dict[str, str], step: MetricOverride) -> None:
    for tag in step.tags:
        if tag.value is None:
            labels.pop(tag.name, None)
        elif not tag.is_label:
            labels[tag.name] = tag.value
        elif tag.value in labels:
            labels[tag.name] = labels[tag.value]
