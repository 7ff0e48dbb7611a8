"""Calico's selector language: text -> frozen expression -> verdict on labels.

Source: docs.tigera.io "Selectors"; the corner cases (absent labels, trailing commas, empty sets, what may
touch what) are those of libcalico-go's tokenizer and parser.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias, assert_never

__all__ = [
    "All",
    "And",
    "Compare",
    "Global",
    "Has",
    "Member",
    "Not",
    "Or",
    "Selector",
    "SelectorError",
    "matches",
    "parse_selector",
    "picks_global",
    "show",
]

MAX_CHARACTERS = 1024
MAX_NESTING = 50


@dataclass(frozen=True, slots=True)
class All:
    """`all()`"""


@dataclass(frozen=True, slots=True)
class Global:
    """`global()`: what belongs to no namespace, which on Swarm only a GlobalNetworkSet does."""


@dataclass(frozen=True, slots=True)
class Has:
    key: str


@dataclass(frozen=True, slots=True)
class Compare:
    """`operator`: `==`, `!=`, `contains`, `starts with`, `ends with`; `!=` also holds without the label."""

    key: str
    operator: str
    value: str


@dataclass(frozen=True, slots=True)
class Member:
    """`in` (the label is there and its value listed), or `not in` when `negated` (also without the label)."""

    key: str
    values: frozenset[str]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Not:
    operand: Selector


@dataclass(frozen=True, slots=True)
class And:
    operands: tuple[Selector, ...]


@dataclass(frozen=True, slots=True)
class Or:
    operands: tuple[Selector, ...]


Selector: TypeAlias = All | Global | Has | Compare | Member | Not | And | Or


class SelectorError(ValueError):
    """A selector cannot be read.

    Args:
        column: 1-based, inside the selector's text.
        instead: what to write.
    """

    def __init__(self, column: int, what: str, instead: str) -> None:
        super().__init__(what)
        self.column, self.what, self.instead = column, what, instead


def matches(selector: Selector, labels: Mapping[str, str]) -> bool:
    """Judge labels by a selector."""
    match selector:
        case All():
            return True
        case Global():
            return False
        case Has(key):
            return key in labels
        case Compare():
            return _compare(selector, labels)
        case Member(key, values, negated):
            return (labels.get(key) in values) is not negated
        case Not(operand):
            return not matches(operand, labels)
        case And(operands):
            return all(matches(operand, labels) for operand in operands)
        case Or(operands):
            return any(matches(operand, labels) for operand in operands)
    assert_never(selector)


def picks_global(selector: Selector) -> bool:
    """Whether a namespaceSelector means what belongs to no namespace: by `global()` only, as Calico says."""
    match selector:
        case Global():
            return True
        case And(operands):
            return all(picks_global(operand) for operand in operands)
        case Or(operands):
            return any(picks_global(operand) for operand in operands)
        case _:
            return False


def _compare(term: Compare, labels: Mapping[str, str]) -> bool:
    value = labels.get(term.key)
    if term.operator == "!=":
        return value != term.value
    if value is None:
        return False
    if term.operator == "==":
        return value == term.value
    if term.operator == "contains":
        return term.value in value
    if term.operator == "starts with":
        return value.startswith(term.value)
    return value.endswith(term.value)


def show(selector: Selector) -> str:
    """Print a selector so that `parse_selector` reads it back as the same expression."""
    match selector:
        case All():
            return "all()"
        case Global():
            return "global()"
        case Has(key):
            return f"has({key})"
        case Compare(key, operator, value):
            return f"{key} {operator} {_quoted(value)}"
        case Member(key, values, negated):
            listed = ", ".join(_quoted(value) for value in sorted(values))
            return f"{key} {'not in' if negated else 'in'} {{{listed}}}"
        case Not(operand):
            return f"!({show(operand)})"
        case And(operands):
            return " && ".join(f"({show(operand)})" for operand in operands)
        case Or(operands):
            return " || ".join(f"({show(operand)})" for operand in operands)
    assert_never(selector)


def _quoted(value: str) -> str:
    return f'"{value}"' if "'" in value else f"'{value}'"


_KEY = r"[a-zA-Z0-9_./-]{1,512}"
_SPACE = re.compile(r"[ \t\r\n]*")
_TERMS = (
    ("has", re.compile(rf"has\(\s*({_KEY})\s*\)")),
    ("all", re.compile(r"all\(\s*\)")),
    ("global", re.compile(r"global\(\s*\)")),
    ("key", re.compile(rf"({_KEY})")),
)
_OPERATORS = (
    ("==", re.compile(r"==")),
    ("!=", re.compile(r"!=")),
    ("contains", re.compile(r"contains")),
    ("starts with", re.compile(r"starts\s*with")),
    ("ends with", re.compile(r"ends\s*with")),
    ("not in", re.compile(r"not\s*in\b")),
    ("in", re.compile(r"in\b")),
)
_STRING = re.compile(r"'([^']*)'|\"([^\"]*)\"")
_TERM_FORMS = "a term such as all(), has(key), key == 'value' or key in {'a', 'b'}"


def parse_selector(text: str, *, allow_global: bool = False) -> Selector:
    """Read a selector; the empty one is `all()`.

    Raises:
        SelectorError: with the column and what to write.
    """
    if len(text) > MAX_CHARACTERS:
        what = f"the selector has {len(text)} characters, Calico takes {MAX_CHARACTERS}"
        raise SelectorError(MAX_CHARACTERS, what, "write a shorter one")
    parser = _Parser(text, allow_global)
    if parser.at_end():
        return All()
    selector = parser.either(0)
    if not parser.at_end():
        raise parser.error(f"{parser.rest()} cannot stand here", "join terms with && or ||")
    return selector


class _Parser:
    def __init__(self, text: str, allow_global: bool) -> None:
        self._text = text
        self._at = 0
        self._allow_global = allow_global

    def at_end(self) -> bool:
        self._skip()
        return self._at >= len(self._text)

    def rest(self) -> str:
        return repr(self._text[self._at : self._at + 12]) if self._at < len(self._text) else "the end"

    def error(self, what: str, instead: str) -> SelectorError:
        return SelectorError(self._at + 1, what, instead)

    def either(self, depth: int) -> Selector:
        operands = [self._both(depth)]
        while self._take("||"):
            operands.append(self._both(depth))
        return operands[0] if len(operands) == 1 else Or(tuple(operands))

    def _both(self, depth: int) -> Selector:
        operands = [self._negatable(depth)]
        while self._take("&&"):
            operands.append(self._negatable(depth))
        return operands[0] if len(operands) == 1 else And(tuple(operands))

    def _negatable(self, depth: int) -> Selector:
        negated = False
        while self._take("!"):
            negated = not negated
        operand = self._group(depth) if self._take("(") else self._term()
        return Not(operand) if negated else operand

    def _group(self, depth: int) -> Selector:
        if depth >= MAX_NESTING:
            raise self.error(f"is nested deeper than {MAX_NESTING} parentheses", "write it flatter")
        inner = self.either(depth + 1)
        if not self._take(")"):
            raise self.error(f"{self.rest()} where a ) is needed", "close the parenthesis with )")
        return inner

    def _term(self) -> Selector:
        self._skip()
        for name, pattern in _TERMS:
            found = pattern.match(self._text, self._at)
            if found is None:
                continue
            if name == "global" and not self._allow_global:
                raise self.error("global() stands in namespaceSelector only", "write all()")
            self._at = found.end()
            if name == "key":
                return self._operation(found.group(1))
            return Has(found.group(1)) if name == "has" else All() if name == "all" else Global()
        raise self.error(f"{self.rest()} is no term", f"write {_TERM_FORMS}")

    def _operation(self, key: str) -> Selector:
        self._skip()
        for name, pattern in _OPERATORS:
            found = pattern.match(self._text, self._at)
            if found is None:
                continue
            self._at = found.end()
            if name in ("in", "not in"):
                return Member(key, self._values(), name == "not in")
            return Compare(key, name, self._string())
        known = ", ".join(name for name, _ in _OPERATORS)
        instead = f"write {key} followed by one of {known}; or has({key})"
        raise self.error(f"{self.rest()} after {key!r} is no operator", instead)

    def _string(self) -> str:
        self._skip()
        found = _STRING.match(self._text, self._at)
        if found is None:
            raise self.error(f"{self.rest()} is no quoted value", "write the value in quotes: 'value'")
        self._at = found.end()
        return found.group(1) if found.group(1) is not None else found.group(2)

    def _values(self) -> frozenset[str]:
        if not self._take("{"):
            raise self.error(f"{self.rest()} where a set is needed", "write {'a', 'b'}")
        values: list[str] = []
        while not self._take("}"):
            values.append(self._string())
            if not self._take(",") and not self._peek("}"):
                raise self.error(f"{self.rest()} inside the set", "separate values by , and end with }")
        return frozenset(values)

    def _peek(self, token: str) -> bool:
        self._skip()
        return self._text.startswith(token, self._at)

    def _take(self, token: str) -> bool:
        if not self._peek(token):
            return False
        self._at += len(token)
        return True

    def _skip(self) -> None:
        found = _SPACE.match(self._text, self._at)
        if found is not None:
            self._at = found.end()
