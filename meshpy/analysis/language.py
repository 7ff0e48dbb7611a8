"""Languages as trees: what matches of the model and RE2 expressions mean, before they become automata.

Characters are code points below 256 (header values are Latin-1, everything else ASCII) and one sign more,
`MARK`, that no text holds: it separates the parts of a structured text such as host and port.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias, assert_never

from meshpy.model.match import Exact, PathTemplate, Prefix, Present, Regex, SegmentPrefix, StringMatch, Suffix

__all__ = [
    "ALL",
    "ANY",
    "EMPTY",
    "MARK",
    "Anchor",
    "Chars",
    "Either",
    "Language",
    "Repeat",
    "Then",
    "Unsupported",
    "chars",
    "either",
    "language_of",
    "literal",
    "opt",
    "plus",
    "star",
    "then",
]

MARK = 256
ALL = (1 << 256) - 1
"""Every character, without the mark."""

_TEMPLATE_PART = re.compile(r"(\{\*\*\}|\{\*\})")


class Unsupported(Exception):  # noqa: N818 - a matcher that has no automaton; it never leaves this package
    """The language cannot be built; the message says why."""


@dataclass(frozen=True, slots=True)
class Chars:
    """One character of the set; bit n is code point n."""

    mask: int


@dataclass(frozen=True, slots=True)
class Then:
    parts: tuple[Language, ...]


@dataclass(frozen=True, slots=True)
class Either:
    parts: tuple[Language, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """`low` to `high` times; None is any number."""

    inner: Language
    low: int
    high: int | None


@dataclass(frozen=True, slots=True)
class Anchor:
    """The begin (`^`) or the end (`$`) of the text."""

    at_start: bool


Language: TypeAlias = Chars | Then | Either | Repeat | Anchor

EMPTY = Then(())
"""The empty text."""

ANY = Repeat(Chars(ALL), 0, None)


def chars(text: str) -> Chars:
    """One of the characters; `a-z` is a range."""
    mask, at = 0, 0
    while at < len(text):
        first = last = ord(text[at])
        if text[at + 1 : at + 2] == "-" and at + 2 < len(text):
            last, at = ord(text[at + 2]), at + 2
        for code in range(first, last + 1):
            mask |= 1 << code
        at += 1
    return Chars(mask)


def then(*parts: Language | str) -> Language:
    return Then(tuple(literal(part) if isinstance(part, str) else part for part in parts))


def star(inner: Language) -> Language:
    return Repeat(inner, 0, None)


def plus(inner: Language) -> Language:
    return Repeat(inner, 1, None)


def opt(inner: Language) -> Language:
    return Repeat(inner, 0, 1)


def literal(text: str, *, fold: bool = False) -> Language:
    """The text itself; with `fold` in any case of its letters, as `str.lower` compares."""
    return Then(tuple(Chars(_mask(char, fold=fold)) for char in text))


@functools.cache
def _mask(char: str, *, fold: bool) -> int:
    if not fold:
        return 1 << ord(char) if ord(char) < MARK else 0
    wanted = char.lower()
    return sum(1 << code for code in range(MARK) if chr(code).lower() == wanted)


def language_of(match: StringMatch, *, fold: bool = False) -> Language:
    """The texts for which `engine.match.compile_string(match, ignore_case=fold)` holds.

    Raises:
        Unsupported: an expression that `regex.parse` does not take.
    """
    match match:
        case Exact(value=value):
            return literal(value, fold=fold)
        case Prefix(value=value):
            return then(literal(value, fold=fold), ANY)
        case Suffix(value=value):
            return then(ANY, literal(value, fold=fold))
        case SegmentPrefix(value=value):
            whole = value.removesuffix("/")
            return Either((literal(whole, fold=fold), then(literal(whole + "/", fold=fold), ANY)))
        case Present():
            return then(Chars(ALL), ANY)
        case PathTemplate(value=value):
            return _template(value, fold=fold)
        case Regex(value=value):
            from meshpy.analysis.regex import parse  # noqa: PLC0415 - it builds on this module

            return parse(value, ignore_case=fold)
        case _:  # pragma: no cover
            assert_never(match)


def _template(template: str, *, fold: bool) -> Language:
    segment = Chars(ALL & ~(1 << ord("/")))
    words: dict[str, Language] = {"{*}": plus(segment), "{**}": star(Chars(ALL & ~(1 << ord("\n"))))}
    parts = _TEMPLATE_PART.split(template)
    return Then(tuple(words.get(part) or literal(part, fold=fold) for part in parts if part))


def either(parts: Iterable[Language]) -> Language:
    """The union; of nothing: no text at all."""
    return Either(tuple(parts))
