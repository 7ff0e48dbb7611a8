"""Paths seen -> path templates, never wider than what was seen calls for, with the evidence.

A segment becomes `{*}` only where the values seen at that place, below one parent and among paths of one
length, are identifiers by their form (numbers, UUIDs, hashes), or share what follows and are too many to be
words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Template", "templates_of"]

_IDENTIFIER = re.compile(
    r"\d+"
    r"|[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
    r"|(?=[0-9a-fA-F]*\d)(?=[0-9]*[a-fA-F])[0-9a-fA-F]{8,}"
    r"|[0-9A-HJKMNP-TV-Z]{26}"
)
_ANY = "{*}"
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Template:
    """A path of a policy.

    Args:
        paths: how many different ones it stands for.
        merged: for each `{*}`, how many values and a few of them; empty for an exact path.
    """

    text: str
    paths: int
    merged: tuple[str, ...] = ()


def templates_of(paths: Iterable[str], *, many: int = 10) -> list[Template]:
    """Generalise paths.

    Args:
        many: so many different values at one place, or more, are taken for identifiers whatever their form.
    """
    found: list[Template] = []
    by_length: dict[int, list[tuple[str, ...]]] = {}
    for path in dict.fromkeys(paths):
        segments = tuple(path.split("/")[1:])
        by_length.setdefault(len(segments), []).append(segments)
    for length in sorted(by_length):
        found += _merged((), by_length[length], (), many)
    return sorted(found, key=lambda template: template.text)


def _merged(
    prefix: tuple[str, ...], rests: list[tuple[str, ...]], evidence: tuple[str, ...], many: int
) -> list[Template]:
    """Templates of paths that begin alike, place by place."""
    if not rests[0]:
        return [Template("/" + "/".join(prefix), len(rests), evidence)]
    groups: dict[str, list[tuple[str, ...]]] = {}
    for rest in rests:
        groups.setdefault(rest[0], []).append(rest[1:])
    variable = {word for word in groups if _IDENTIFIER.fullmatch(word) or "*" in word}
    if prefix:
        variable |= _too_many({word: rests for word, rests in groups.items() if word}, many)
    found: list[Template] = []
    for word, members in groups.items():
        if word not in variable:
            found += _merged((*prefix, word), members, evidence, many)
    if variable:
        below = [rest for word in groups if word in variable for rest in groups[word]]
        shown = ", ".join(sorted(variable)[:_SHOWN]) + (", …" if len(variable) > _SHOWN else "")
        place = "/" + "/".join((*prefix, _ANY))
        merged = (*evidence, f"{place}: {len(variable)} value{'s' * (len(variable) != 1)} ({shown})")
        found += _merged((*prefix, _ANY), below, merged, many)
    return found


def _too_many(groups: dict[str, list[tuple[str, ...]]], many: int) -> set[str]:
    """Values that share what follows them, and are too many for words; never at the first place of a path."""
    if len(groups) < many:
        return set()
    alike: dict[frozenset[str], set[str]] = {}
    for word, rests in groups.items():
        shape = frozenset(template.text for template in _merged((), rests, (), many))
        alike.setdefault(shape, set()).add(word)
    return {word for words in alike.values() if len(words) >= many for word in words}
