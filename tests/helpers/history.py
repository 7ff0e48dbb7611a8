"""Judging the history of a register that decides requests: was a decision in force at every instant?

Every request tells, by its answer, which of two rules judged it. Around a change from old to new there must
be one instant before which all were judged by the old rule and after which all were by the new one: no
request that began after the answer of one by the new rule may be judged by the old one (linearizability of
one write). Where for a while neither was in force, or both alternate, there is no such instant.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Seen", "gaps", "settled_after"]


@dataclass(frozen=True, slots=True)
class Seen:
    """One request: when it began and was answered, and by which revision it was judged."""

    begin: float
    end: float
    revision: int


def gaps(seen: Iterable[Seen], old: int, new: int) -> list[Seen]:
    """The requests for which there is no such instant: neither judged by `old` in time nor by `new`."""
    judged = sorted(seen, key=lambda each: each.begin)
    first_new = min((each.end for each in judged if each.revision == new), default=float("inf"))
    return [
        each
        for each in judged
        if each.revision not in (old, new) or (each.revision == old and each.begin > first_new)
    ]


def settled_after(seen: Iterable[Seen], began: float, new: int) -> float | None:
    """Seconds from the change to the first request from which on all are judged by `new`; None: never."""
    judged = sorted((each for each in seen if each.begin >= began), key=lambda each: each.begin)
    others = [each.begin for each in judged if each.revision != new]
    last_other = max(others, default=began)
    following = [each.begin for each in judged if each.revision == new and each.begin > last_other]
    return min(following) - began if following else None
