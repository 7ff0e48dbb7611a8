"""What `check` hands back."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from meshpy.errors import Place, Problem

__all__ = ["Findings", "Notes", "listed"]


@dataclass(frozen=True, slots=True)
class Findings:
    """Errors: nothing is to be applied. Warnings: it works, and is perhaps not what was meant."""

    errors: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


class Notes:
    """Collects findings in order, each once."""

    def __init__(self, *, strict: bool) -> None:
        self._strict = strict
        self._errors: dict[Problem, None] = {}
        self._warnings: dict[Problem, None] = {}

    def error(self, place: Place, what: str, instead: str = "") -> None:
        self._errors[Problem(place, what, instead)] = None

    def warning(self, place: Place, what: str, instead: str = "") -> None:
        self._warnings[Problem(place, what, instead)] = None

    def missing(self, place: Place, what: str, instead: str, *, expected: bool) -> None:
        """Something that the inventory has not: an error where stacks are known, unless not strict."""
        if expected and self._strict:
            self.error(place, what, instead)
        else:
            self.warning(place, what, instead)

    def findings(self) -> Findings:
        return Findings(tuple(self._errors), tuple(self._warnings))


def listed(words: Collection[str]) -> str:
    """`known are a, b, …`, cut where a list helps nobody."""
    known = sorted(words)
    shown = ", ".join(known[:12])
    return f"known are {shown}{', …' if len(known) > 12 else ''}" if known else "none is known"
