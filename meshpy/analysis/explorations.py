"""All flows of a comparison explored within one bound: small ones first, large ones with what is left.

A flow with more classes than it may have keeps those that were judged: each is exact by itself. That others
were not is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from meshpy.analysis.flow import Flow
from meshpy.analysis.probe import MOST_CELLS, Cell, Remembered, TooManyClasses, explore
from meshpy.analysis.space import Space
from meshpy.engine.explain import Explanation

__all__ = ["MOST_CLASSES", "Answers", "Explorations", "Found"]

MOST_CLASSES = 300_000
"""Of a whole comparison, unless more are asked for: about half a minute of CPU."""
_SMALL = 5_000
"""Classes that every flow may have before any has more."""
_MORE = "(policy diff --classes)"

Answers = tuple[Explanation, Explanation]


@dataclass(frozen=True, slots=True)
class Found:
    """Args:
    cells: of those that were judged the ones that were kept.
    unproved: what could not be cut into cells.
    left: why cells are missing; empty when all are there.
    """

    cells: tuple[Cell[Answers], ...]
    judged: int
    unproved: tuple[str, ...]
    left: str = ""


class Explorations:
    """Explorations by flow; flows that are alike are explored once.

    Args:
        most: classes that may be judged in all.
        keep: which cells are wanted.
    """

    def __init__(
        self, most: int, keep: Callable[[Sequence[Cell[Answers]]], tuple[Cell[Answers], ...]]
    ) -> None:
        self._most = most
        self._keep = keep
        self._spent = 0

    def of(
        self, every: Sequence[Flow], progress: Callable[[int, int], None]
    ) -> Iterator[tuple[Flow, Space, Found]]:
        """Each flow with its space and what was found, in their order."""
        known: list[tuple[Flow, Space, Found]] = []
        alike: dict[tuple[str, int], list[int]] = {}
        same: list[int] = []
        for number, flow in enumerate(every):
            there = alike.setdefault((flow.host, flow.port), [])
            first = next(
                (i for i in there if flow.alike is not None and flow.alike == known[i][0].alike), None
            )
            if first is None:
                progress(number, self._spent)
                space = flow.space()
                first = len(known)
                there.append(first)
                known.append((flow, space, self._explored(flow, space, _SMALL)))
            same.append(first)
        for number, (flow, space, found) in enumerate(known):
            if found.left and self._spent < self._most:
                progress(len(every), self._spent)
                known[number] = (flow, space, self._explored(flow, space, MOST_CELLS))
        for flow, number in zip(every, same, strict=True):
            yield flow, *known[number][1:]

    def _explored(self, flow: Flow, space: Space, most: int) -> Found:
        most = min(most, self._most - self._spent)
        if most <= 0:
            why = f"not compared, as {self._most:,} classes were judged before {_MORE}"
            return Found((), 0, tuple(space.unproved), why)
        old, new = Remembered(space, flow.old), Remembered(space, flow.new)
        left = ""
        try:
            cells = explore(space, lambda probe: (old(probe), new(probe)), most)
        except TooManyClasses as error:
            cells = list(error.cells)
            left = f"of more than {most:,} classes of requests the others were not compared {_MORE}"
        self._spent += len(cells)
        return Found(self._keep(cells), len(cells), tuple(space.unproved), left)
