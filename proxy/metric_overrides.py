"""Metrics as Telemetry documents want them: families left out, labels dropped or added.

Only what is shown is changed: counting costs the same, and the control plane sees what it always sees. Series
that differ in nothing after a label is gone are added up.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from meshpy.model.telemetry import MetricFamily, MetricOverride

__all__ = ["MetricOverrides"]

_SAMPLE = re.compile(r"([a-z_]+)\{(.*)\} (\S+)")
_LABEL = re.compile(r'([A-Za-z0-9_]+)="((?:[^"\\]|\\.)*)"')


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

    def applied(self, lines: Iterable[str]) -> Iterator[str]:
        """Lines of Prometheus' text format, families one after the other, as they are to be shown."""
        if not self._steps:
            yield from lines
            return
        sums: dict[str, int | float] = {}
        family = ""
        for line in lines:
            if line.startswith("#"):
                yield from _shown(sums)
                sums.clear()
                family = line.split(" ")[2]
                yield line
            elif (family, "source") in self._steps or (family, "destination") in self._steps:
                self._add(family, line, sums)
            else:
                yield line
        yield from _shown(sums)

    def _add(self, family: str, line: str, sums: dict[str, int | float]) -> None:
        sample = _SAMPLE.fullmatch(line)
        if sample is None:
            return
        labels: dict[str, str] = dict(_LABEL.findall(sample[2]))
        is_off = False
        for step in self._steps.get((family, labels.get("reporter", "")), ()):
            is_off = is_off if step.is_off is None else step.is_off
            _retag(labels, step)
        if is_off:
            return
        told = ",".join(f'{key}="{value}"' for key, value in labels.items())
        name = f"{sample[1]}{{{told}}}"
        sums[name] = sums.get(name, 0) + (float(sample[3]) if "." in sample[3] else int(sample[3]))


def _retag(labels: dict[str, str], step: MetricOverride) -> None:
    for tag in step.tags:
        if tag.value is None:
            labels.pop(tag.name, None)
        elif not tag.is_label:
            labels[tag.name] = tag.value
        elif tag.value in labels:
            labels[tag.name] = labels[tag.value]


def _shown(sums: dict[str, int | float]) -> Iterator[str]:
    for name, value in sums.items():
        yield f"{name} {value}" if isinstance(value, int) else f"{name} {value:.3f}"
