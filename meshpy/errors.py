"""Floor 0: the errors a user can cause, each with its place and its remedy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["DocumentError", "MeshpyError", "Place", "Problem"]


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where something stands in a file the user wrote.

    Args:
        file: the path as the user named it, `-` for standard input.
        line: 1-based; 0 when the whole file is meant.
        column: 1-based; 0 when the whole line is meant.
        key: the dotted path of the key, `spec.http[0].retries.attempts`.
    """

    file: str = ""
    line: int = 0
    column: int = 0
    key: str = ""

    def __str__(self) -> str:
        spot = ":".join(str(part) for part in (self.file or "-", self.line, self.column) if part)
        return f"{spot}: {self.key}" if self.key else spot


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong: where, what, and what to write instead."""

    place: Place
    what: str
    instead: str = ""

    def __str__(self) -> str:
        text = f"{self.place}: {self.what}"
        return f"{text}; {self.instead}" if self.instead else text

    def to_json(self) -> dict[str, object]:
        """The shape of `-o json` and of problem+json `errors[]`."""
        return {
            "file": self.place.file,
            "line": self.place.line,
            "column": self.place.column,
            "key": self.place.key,
            "message": self.what,
            "instead": self.instead,
        }


class MeshpyError(Exception):
    """A failure that is told to the user as it stands, without a traceback."""


class DocumentError(MeshpyError):
    """A document is refused; every problem found is named, none is applied."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))
