"""The report: figures and two plots, as one HTML page without anything from outside."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from meshpy.overhead.containers import Usage
from meshpy.overhead.load import Slice, quantile_ms

__all__ = ["QUANTILES", "Side", "figures", "in_ms", "page"]

QUANTILES = (0.5, 0.9, 0.99, 0.999)
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _BOTTOM = 640, 260, 64, 28, 28
_COLOURS = ("#2a78b8", "#c8553d")
_TITLE = "What the mesh costs"
_ABOUT_CURVE = (
    "Latency by percentile. Read the distance of the lines, not their height: the height is the machine's."
)
_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 46rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse }
td, th { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #8884 }
th:first-child, td:first-child { text-align: left }
svg { max-width: 100%; height: auto } svg text { fill: currentColor; font-size: 12px }
svg line { stroke: #8886 } figcaption { font-size: .9rem }
"""


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two: its title, what its slices came to, and what its tasks used meanwhile."""

    title: str
    url: str
    total: Slice
    slices: Sequence[Slice]
    usage: Usage | None = None

    @property
    def cpu_ms_per_request(self) -> float | None:
        """CPU of apps and sidecars on this node for each request; None when it is not known."""
        answered = self.total.answers.total()
        if self.usage is None or not answered:
            return None
        return (self.usage.apps_cpu_s + self.usage.sidecars_cpu_s) * 1000 / answered


def figures(side: Side) -> dict[str, object]:
    """The numbers of one side, as JSON has them."""
    found: dict[str, object] = {
        "url": side.url,
        "requests": side.total.answers.total(),
        "failed": side.total.failed,
        "late": side.total.late,
        "answers": dict(side.total.answers),
        "latency_ms": {
            f"p{share * 100:g}": _rounded(quantile_ms(side.total.took_ms, share)) for share in QUANTILES
        },
    }
    if side.usage is not None:
        used = side.usage
        found["cpu_ms_per_request"] = _rounded(side.cpu_ms_per_request or 0.0)
        found["memory_bytes"] = {"apps": used.apps_bytes, "sidecars": used.sidecars_bytes}
        found["containers"] = {"apps": used.apps, "sidecars": used.sidecars}
    return found


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 3)


def page(sides: Sequence[Side], about: Mapping[str, str]) -> str:
    """The whole page."""
    facts = "".join(f"<li>{html.escape(key)}: {html.escape(value)}</li>" for key, value in about.items())
    head = f'<meta charset="utf-8"><title>{_TITLE}</title><style>{_STYLE}</style>'
    body = f"<h1>{_TITLE}</h1><ul>{facts}</ul>{_table(sides)}"
    plots = (
        (_curve(sides), _ABOUT_CURVE),
        (_rounds(sides), "Median of each slice, in the order of the run."),
    )
    drawn = "".join(f"<figure>{plot}<figcaption>{text}</figcaption></figure>" for plot, text in plots)
    return f'<!doctype html><html lang="en">{head}{body}{drawn}</html>\n'


def _table(sides: Sequence[Side]) -> str:
    heads = "".join(f"<th>{html.escape(side.title)}</th>" for side in sides)
    rows = [
        _row(f"p{share * 100:g} ms", [in_ms(side.total.took_ms, share) for side in sides])
        for share in QUANTILES
    ]
    rows.append(_row("requests", [f"{side.total.answers.total()}" for side in sides]))
    rows.append(_row("failed", [f"{side.total.failed}" for side in sides]))
    if any(side.usage is not None for side in sides):
        cpu = [side.cpu_ms_per_request for side in sides]
        rows.append(_row("CPU a request", ["-" if each is None else f"{each:.2f} ms" for each in cpu]))
        for name in ("apps", "sidecars"):
            sizes = [getattr(side.usage, f"{name}_bytes", None) for side in sides]
            rows.append(_row(f"memory of {name}", [_mib(each) for each in sizes]))
    return f"<table><tr><th></th>{heads}</tr>{''.join(rows)}</table>"


def in_ms(took_ms: Sequence[float], share: float) -> str:
    """A quantile for people; `-` when nothing was answered."""
    value = quantile_ms(took_ms, share)
    return "-" if math.isnan(value) else f"{value:.2f}"


def _row(name: str, cells: Sequence[str]) -> str:
    return f"<tr><td>{name}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _mib(count: int | None) -> str:
    return "-" if count is None else f"{count / 2**20:.0f} MiB"


def _curve(sides: Sequence[Side]) -> str:
    """Latency over percentiles, these on a scale of nines so that the tail has room."""
    shares = [0.0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999]
    places = [-math.log10(1 - share) for share in shares]
    lines = [[quantile_ms(side.total.took_ms, share) for share in shares] for side in sides]
    marks = [
        (place, f"p{share * 100:g}")
        for place, share in zip(places, shares, strict=True)
        if share in (0.5, 0.9, 0.99, 0.999)
    ]
    return _plot(places, lines, marks, [side.title for side in sides])


def _rounds(sides: Sequence[Side]) -> str:
    count = max(len(side.slices) for side in sides)
    lines = [[quantile_ms(each.took_ms, 0.5) for each in side.slices] for side in sides]
    places = [float(turn) for turn in range(count)]
    marks = [(place, str(int(place) + 1)) for place in places]
    return _plot(places, lines, marks, [side.title for side in sides])


def _plot(
    places: Sequence[float],
    lines: Sequence[Sequence[float]],
    marks: Sequence[tuple[float, str]],
    titles: Sequence[str],
) -> str:
    known = [value for line in lines for value in line if not math.isnan(value)]
    top = max(known, default=1.0) * 1.05 or 1.0
    width = (places[-1] - places[0]) or 1.0

    def x(place: float) -> float:
        return _LEFT + (place - places[0]) / width * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - value / top * (_HEIGHT - _BOTTOM - 24)

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="latency in milliseconds">']
    for step in range(5):
        value = top * step / 4
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.3g} ms</text>')
    for place, text in marks:
        parts.append(
            f'<text x="{x(place):.1f}" y="{_HEIGHT - 8}" text-anchor="middle">{html.escape(text)}</text>'
        )
    for number, (line, title) in enumerate(zip(lines, titles, strict=True)):
        dots = [f"{x(p):.1f},{y(v):.1f}" for p, v in zip(places, line, strict=False) if not math.isnan(v)]
        colour = _COLOURS[number % len(_COLOURS)]
        parts.append(
            f'<polyline points="{" ".join(dots)}" fill="none" stroke="{colour}" stroke-width="2.5"/>'
        )
        at = f'x="{_LEFT + 12 + number * 160}" y="14"'
        parts.append(f'<text {at} style="fill: {colour}">■ {html.escape(title)}</text>')
    return "".join([*parts, "</svg>"])
