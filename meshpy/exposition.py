"""Prometheus' text format 0.0.4 and OpenMetrics 1.0, printed from families.

They differ: OpenMetrics names a counter without `_total`, carries exemplars and ends with `# EOF`.
Sources: prometheus.io/docs/instrumenting/exposition_formats, OpenMetrics 1.0 §4.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from meshpy.model.metrics import Distribution, Exemplar, Family, Labels, MetricKind

__all__ = ["OPENMETRICS", "PROMETHEUS", "openmetrics", "prometheus", "wants_openmetrics"]

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def wants_openmetrics(accept: str) -> bool:
    """Whether who asks prefers OpenMetrics 1.0; Prometheus names what it takes with its weight."""
    weights = {"application/openmetrics-text": 0.0, "text/plain": 0.0}
    for item in accept.split(","):
        kind, *parameters = (part.strip() for part in item.split(";"))
        pairs = dict(each.partition("=")[::2] for each in parameters)
        if kind not in weights or pairs.get("version", "1.0.0") not in ("1.0.0", "0.0.4"):
            continue
        try:
            weights[kind] = max(weights[kind], float(pairs.get("q", "1")))
        except ValueError:
            continue
    return weights["application/openmetrics-text"] > weights["text/plain"]


def prometheus(families: Iterable[Family]) -> str:
    """Text exposition format 0.0.4."""
    return "".join(line for family in families for line in _family(family, is_open=False))


def openmetrics(families: Iterable[Family]) -> str:
    """OpenMetrics 1.0, with exemplars."""
    return "".join(line for family in families for line in _family(family, is_open=True)) + "# EOF\n"


def _family(family: Family, *, is_open: bool) -> Iterator[str]:
    name = family.name
    shown = name.removesuffix("_total") if is_open and family.kind is MetricKind.COUNTER else name
    if family.help:
        yield f"# HELP {shown} {_escaped_help(family.help)}\n"
    yield f"# TYPE {shown} {family.kind}\n"
    for sample in family.samples:
        if isinstance(sample, Distribution):
            yield from _distribution(name, sample, is_open=is_open)
        else:
            yield f"{name}{_braced(_joined(sample.labels))} {_number(sample.value)}\n"


def _distribution(name: str, sample: Distribution, *, is_open: bool) -> Iterator[str]:
    labels = _joined(sample.labels)
    before, total = f"{labels}," if labels else "", 0
    bounds = [*map(_bound if is_open else _number, sample.bounds), "+Inf"]
    for index, (bound, count) in enumerate(zip(bounds, sample.counts, strict=True)):
        total += count
        exemplar = sample.exemplars[index] if is_open and sample.exemplars else None
        yield f'{name}_bucket{{{before}le="{bound}"}} {total}{_exemplar(exemplar)}\n'
    yield f"{name}_sum{_braced(labels)} {_number(round(sample.total, 3))}\n"
    yield f"{name}_count{_braced(labels)} {total}\n"


def _exemplar(exemplar: Exemplar | None) -> str:
    if exemplar is None:
        return ""
    ids = f'trace_id="{exemplar.trace_id}",span_id="{exemplar.span_id}"'
    return f" # {{{ids}}} {_number(round(exemplar.value, 3))} {exemplar.at_s:.3f}"


def _joined(labels: Labels) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels)


def _braced(labels: str) -> str:
    return f"{{{labels}}}" if labels else ""


def _number(value: float) -> str:
    return f"{value:.15g}"


def _bound(value: float) -> str:
    """OpenMetrics §6.2.1: bounds are floats."""
    text = _number(value)
    return text if "." in text or "e" in text else f"{text}.0"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _escaped_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")
