"""An index over the paths of rules: which of them can match a path, without asking all of them.

Exact paths are one look-up; prefixes are one look-up per distinct length; everything else (expressions,
templates, case ignored, no path) is always a candidate. Candidates keep the order of the rules, so that the
first match still wins. A virtual host of 1,000 routes then costs about as much as one of ten, and so do the
rules of a policy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import merge
from itertools import chain

from meshpy.engine.match import spelled_path
from meshpy.model.match import Exact, Prefix, RequestMatch, SegmentPrefix, StringMatch

__all__ = ["LINEAR_UP_TO", "PathIndex"]

LINEAR_UP_TO = 8
"""So few are asked one after the other: the index would cost more."""

_Ranks = tuple[int, ...]
_SORTED_UP_TO = 16
"""So few candidates are sorted at once; of more the first ones are enough most times."""


class PathIndex:
    """Ranks (positions in order) of the matches that can hold for a path."""

    __slots__ = ("_always", "_exact", "_lengths", "_prefixes")

    def __init__(self, paths: Sequence[Sequence[StringMatch | None]]) -> None:
        """`paths` of each rule, of which any may hold; None is a path that only the rule itself can judge."""
        exact: dict[str, list[int]] = {}
        prefixes: dict[str, list[int]] = {}
        always: list[int] = []
        for rank, path in ((rank, path) for rank, each in enumerate(paths) for path in each):
            match path:
                case Exact(value=value):
                    exact.setdefault(spelled_path(value), []).append(rank)
                case Prefix(value=value):
                    prefixes.setdefault(spelled_path(value), []).append(rank)
                case SegmentPrefix(value=value):
                    prefixes.setdefault(spelled_path(value).rstrip("/"), []).append(rank)
                case _:
                    always.append(rank)
        self._exact = {path: tuple(ranks) for path, ranks in exact.items()}
        self._prefixes = {path: tuple(ranks) for path, ranks in prefixes.items()}
        self._lengths = tuple(sorted({len(path) for path in prefixes}))
        self._always = tuple(always)

    @classmethod
    def of_matches(cls, matches: Sequence[RequestMatch | None]) -> PathIndex:
        """The index of route matches."""
        return cls([(m.path if m is not None and not m.ignore_path_case else None,) for m in matches])

    def candidates(self, path: str) -> Iterable[int]:
        """Ranks in ascending order, perhaps repeated; a superset of the matches that hold."""
        found: list[_Ranks] = [self._always] if self._always else []
        if (ranks := self._exact.get(path)) is not None:
            found.append(ranks)
        prefixes = self._prefixes
        for length in self._lengths:
            if length > len(path):
                break
            if (ranks := prefixes.get(path[:length])) is not None:
                found.append(ranks)
        if not found:
            return ()
        if len(found) == 1:
            return found[0]
        if sum(map(len, found)) <= _SORTED_UP_TO:
            return sorted(chain.from_iterable(found))
        return merge(*found)
