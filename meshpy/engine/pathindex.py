"""An index over the matches of a virtual host: which rules can match a path, without asking all of them.

Exact paths are one look-up; prefixes are one look-up per distinct length; everything else (expressions,
templates, case ignored, no path) is always a candidate. Candidates keep the order of the rules, so that the
first match still wins. A virtual host of 1,000 routes then costs about as much as one of ten.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import merge

from meshpy.engine.match import spelled_path
from meshpy.model.match import Exact, Prefix, RequestMatch, SegmentPrefix

__all__ = ["PathIndex"]

_Ranks = tuple[int, ...]


class PathIndex:
    """Ranks (positions in order) of the matches that can hold for a path."""

    __slots__ = ("_always", "_exact", "_lengths", "_prefixes")

    def __init__(self, matches: Sequence[RequestMatch | None]) -> None:
        exact: dict[str, list[int]] = {}
        prefixes: dict[str, list[int]] = {}
        always: list[int] = []
        for rank, match in enumerate(matches):
            path = match.path if match is not None and not match.ignore_path_case else None
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

    def candidates(self, path: str) -> Iterator[int] | _Ranks:
        """Ranks in ascending order; a superset of the matches that hold."""
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
        return found[0] if len(found) == 1 else merge(*found)
