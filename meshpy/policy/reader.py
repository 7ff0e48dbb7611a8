"""The cursor by which every kind is read: typed, strict, and it collects problems instead of stopping.

A getter that meets a wrong value notes a `Problem` and returns a harmless stand-in; `policy_set.load` throws
everything away when there is any problem, so a stand-in never decides. Null is refused: in these kinds an
absent condition widens a rule, and `from:` with nothing behind it is a slip far more often than a wish.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator
from collections.abc import Mapping as MappingType
from dataclasses import dataclass, field
from typing import TypeAlias

from meshpy.errors import Place, Problem
from meshpy.policy.documents import Mapping, Node, Scalar, Sequence

__all__ = ["NOT_YET", "Cursor", "Fields", "Refusal", "Report", "duration_s", "no_meaning", "suggestion"]

Refusal: TypeAlias = tuple[str, str]
"""Why a known field is not taken, and what to write instead."""

NOT_YET: Refusal = ("is not supported yet by meshpy", "remove it")

_NULL = re.compile(r"|~|null|Null|NULL")
_INTEGER = re.compile(r"[-+]?[0-9]{1,18}")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_OTHER_NUMBER = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_BOOLEAN = re.compile(r"true|True|TRUE|false|False|FALSE")
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:ns|us|µs|ms|s|m|h)")
_UNIT_S = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_LONGEST_S = 315_576_000_000.0
"""google.protobuf.Duration's limit, ten thousand years."""


def no_meaning(why: str, instead: str = "remove it") -> Refusal:
    """A refusal of a field that Swarm has nothing for."""
    return f"has no meaning on Swarm: {why}", instead


def suggestion(word: str, known: Collection[str]) -> str:
    """What to write instead of an unknown word: the nearest known one, and all of them."""
    listed = f"known here: {', '.join(known)}" if known else "nothing is known here"
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'? {listed}" if near else listed


def duration_s(text: str) -> float | None:
    """Read `2s`, `1.5s`, `100ms`, `1h30m` (Go's form, without a sign); None when it is none."""
    if text == "0":
        return 0.0
    total, at = 0.0, 0
    while at < len(text):
        found = _DURATION.match(text, at)
        if found is None:
            return None
        part = found.group()
        unit = part.lstrip("0123456789.")
        total += float(part[: -len(unit)]) * _UNIT_S[unit]
        at = found.end()
    return total if text and total <= _LONGEST_S else None


@dataclass(slots=True)
class Report:
    """The problems of one file, in the order they are met."""

    file: str
    problems: list[Problem] = field(default_factory=list)


class Cursor:
    """A node together with its dotted key."""

    __slots__ = ("key", "node", "report")

    def __init__(self, node: Node, key: str, report: Report) -> None:
        self.node, self.key, self.report = node, key, report

    @property
    def place(self) -> Place:
        return Place(self.report.file, self.node.line, self.node.column, self.key)

    def problem(self, what: str, instead: str = "") -> None:
        self.report.problems.append(Problem(self.place, what, instead))

    @property
    def is_null(self) -> bool:
        node = self.node
        return isinstance(node, Scalar) and node.plain and _NULL.fullmatch(node.text) is not None

    def text(self) -> str:
        """A string. What YAML reads as a number, a boolean or null must be quoted to be one."""
        node = self.node
        if not isinstance(node, Scalar):
            self.problem(f"a string is needed, not {_shape(node)}", "write one word or a quoted string")
            return ""
        if node.plain and (kind := _other_type(node.text)):
            self.problem(f"a string is needed, {node.text} is {kind}", f'quote it: "{node.text}"')
        return node.text

    def integer(self, low: int, high: int, *, quoted: bool = False) -> int:
        """Read a whole number; `quoted` where the kind's own documentation writes it as a string."""
        node = self.node
        is_plain = isinstance(node, Scalar) and (node.plain or quoted)
        if not isinstance(node, Scalar) or not is_plain or not _INTEGER.fullmatch(node.text):
            self.problem(f"a whole number is needed, not {_shape(node)}", f"write {low} to {high}, unquoted")
            return low
        if _LEADING_ZERO.fullmatch(node.text):
            self.problem(f"{node.text} is octal to some readers and decimal to others", "drop the leading 0")
        value = int(node.text)
        if not low <= value <= high:
            self.problem(f"{value} is out of range", f"write {low} to {high}")
            return low
        return value

    def number(self, low: float, high: float) -> float:
        node = self.node
        if not isinstance(node, Scalar) or not node.plain or not _NUMBER.fullmatch(node.text):
            self.problem(f"a number is needed, not {_shape(node)}", f"write {low:g} to {high:g}, unquoted")
            return low
        value = float(node.text)
        if not low <= value <= high:
            self.problem(f"{node.text} is out of range", f"write {low:g} to {high:g}")
            return low
        return value

    def boolean(self) -> bool:
        node = self.node
        if not isinstance(node, Scalar) or not node.plain or not _BOOLEAN.fullmatch(node.text):
            self.problem(f"true or false is needed, not {_shape(node)}", "write true or false, unquoted")
            return False
        return node.text.lower() == "true"

    def duration(self, low_s: float = 0.0) -> float:
        node = self.node
        value = duration_s(node.text) if isinstance(node, Scalar) else None
        if value is None:
            what = f"a duration is needed, not {_shape(node)}"
            self.problem(what, 'write "2s", "1.5s", "100ms" or "1h30m"')
            return low_s
        if value < low_s:
            self.problem(f"{self.text()} is too short", f"write {low_s * 1000:g}ms or more")
        return value

    def choice(self, known: Collection[str]) -> str:
        value = self.text()
        if value not in known:
            self.problem(f"{value!r} is not one of the values", suggestion(value, known))
        return value

    def items(self, *, empty: bool = False) -> list[Cursor]:
        """The items of a list; an empty one is a problem unless `empty`, because it would mean 'any'."""
        if not isinstance(self.node, Sequence):
            self.problem(f"a list is needed, not {_shape(self.node)}", "write each item on a line with '- '")
            return []
        if not self.node.items and not empty:
            self.problem("the list is empty", "write an item, or remove the key")
        found = [Cursor(n, f"{self.key}[{i}]", self.report) for i, n in enumerate(self.node.items)]
        return [item for item in found if not item.null_refused()]

    def pairs(self) -> Iterator[tuple[str, Cursor]]:
        """The entries of a mapping whose keys are the user's own."""
        if not isinstance(self.node, Mapping):
            self.problem(f"a mapping is needed, not {_shape(self.node)}", "write `key: value` lines")
            return
        for name, value in self.node.entries:
            cursor = Cursor(value, f"{self.key}[{name.text}]", self.report)
            if not cursor.null_refused(name):
                yield name.text, cursor

    def labels(self) -> dict[str, str]:
        return {name: value.text() for name, value in self.pairs()}

    def fields(self, known: Collection[str], refused: MappingType[str, Refusal] | None = None) -> Fields:
        """The entries of a mapping whose keys the kind defines; all others are problems."""
        found: dict[str, Cursor] = {}
        if not isinstance(self.node, Mapping):
            self.problem(f"a mapping is needed, not {_shape(self.node)}", f"known here: {', '.join(known)}")
            return Fields(self, found)
        for name, value in self.node.entries:
            key = f"{self.key}.{name.text}" if self.key else name.text
            at_name = Cursor(name, key, self.report)
            if refused and name.text in refused:
                what, instead = refused[name.text]
                at_name.problem(f"`{name.text}` {what}", instead)
            elif name.text not in known:
                at_name.problem(f"the key {name.text!r} is unknown", suggestion(name.text, known))
            elif not (cursor := Cursor(value, key, self.report)).null_refused(name):
                found[name.text] = cursor
        return Fields(self, found, is_written=bool(self.node.entries))

    def null_refused(self, name: Scalar | None = None) -> bool:
        """Note a null, at its key: an absent value stands wherever the next token does."""
        if not self.is_null:
            return False
        at = Cursor(name, self.key, self.report) if name is not None else self
        at.problem("has no value", "write a value, or remove the key")
        return True


class Fields:
    """The known fields of one mapping that are there and not null; false when nothing was written."""

    __slots__ = ("_found", "_is_written", "at")

    def __init__(self, at: Cursor, found: dict[str, Cursor], *, is_written: bool = False) -> None:
        self.at, self._found, self._is_written = at, found, is_written

    def __contains__(self, name: str) -> bool:
        return name in self._found

    def __bool__(self) -> bool:
        return self._is_written

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def get(self, name: str) -> Cursor | None:
        return self._found.get(name)

    def drop(self, name: str) -> None:
        """Take a field as not written."""
        self._found.pop(name, None)

    def required(self, name: str, example: str = "") -> Cursor | None:
        if name not in self._found:
            self.at.problem(f"`{name}` is missing", f"write {example or name + ': …'}")
        return self._found.get(name)

    def text(self, name: str, default: str = "") -> str:
        cursor = self._found.get(name)
        return default if cursor is None else cursor.text()

    def integer(self, name: str, low: int, high: int) -> int | None:
        cursor = self._found.get(name)
        return None if cursor is None else cursor.integer(low, high)

    def duration(self, name: str, low_s: float = 0.0) -> float | None:
        cursor = self._found.get(name)
        return None if cursor is None else cursor.duration(low_s)

    def boolean(self, name: str, default: bool = False) -> bool:
        cursor = self._found.get(name)
        return default if cursor is None else cursor.boolean()

    def items(self, name: str, *, empty: bool = False) -> list[Cursor]:
        cursor = self._found.get(name)
        return [] if cursor is None else cursor.items(empty=empty)

    def labels(self, name: str) -> dict[str, str]:
        cursor = self._found.get(name)
        return {} if cursor is None else cursor.labels()

    def only_one(self, *names: str) -> str:
        """The one of `names` that is there, empty when none is; a second one is a problem."""
        present = [name for name in names if name in self._found]
        for name in present[1:]:
            self._found[name].problem(f"`{name}` cannot stand next to `{present[0]}`", "keep one of them")
        return present[0] if present else ""


def _shape(node: Node) -> str:
    if isinstance(node, Mapping):
        return "a mapping"
    if isinstance(node, Sequence):
        return "a list"
    return repr(node.text) if node.plain else f"the string {node.text!r}"


def _other_type(text: str) -> str:
    if _NULL.fullmatch(text):
        return "null"
    if _BOOLEAN.fullmatch(text):
        return "a boolean"
    if _NUMBER.fullmatch(text) or _OTHER_NUMBER.fullmatch(text):
        return "a number"
    return ""
