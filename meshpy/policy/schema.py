"""JSON Schemas, made by the readers themselves: what a reader asks of its cursor is what the schema allows.

A probe stands in for the cursor. It answers every question with a harmless value and notes what was asked:
the keys of a mapping, the items of a list, the words of a choice, the bounds of a number. A reader may look
at a value before it decides what to ask, so many probes of other shapes and words explore the other ways, and
what all of them noted is laid together. A field that a reader learns is in its schema, one it refuses is not.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Collection, Iterator
from collections.abc import Mapping as MappingType
from typing import Any

from meshpy.errors import Place
from meshpy.policy.documents import Mapping, Node, Scalar, Sequence
from meshpy.policy.kinds import Meta
from meshpy.policy.policy_set import kind_versions, read_spec
from meshpy.policy.reader import Cursor, Fields, Refusal, Report

__all__ = ["DRAFT", "kinds", "schema_of", "schema_of_all", "schema_of_reader"]

DRAFT = "https://json-schema.org/draft/2020-12/schema"
_MAX_DEPTH = 40
_BATCH, _QUIET_BATCHES, _MOST_BATCHES = 50, 4, 60
"""A reader is asked until four batches in a row taught nothing. What is drawn is always the same."""
_TEXTS = ("x", "80", "/x", "10.0.0.0/8")
_LABELS = {"type": "object", "additionalProperties": {"type": "string"}}


class _Note:
    """What was asked at one place, over all probes."""

    __slots__ = ("choices", "closed", "items", "low_high", "never_empty", "open", "required", "types")

    def __init__(self) -> None:
        self.types: set[str] = set()
        self.closed: dict[str, _Note] = {}
        self.open: _Note | None = None
        self.items: _Note | None = None
        self.choices: dict[str, None] = {}
        self.low_high: tuple[float, float] | None = None
        self.required: list[set[str]] = []
        self.never_empty = True

    @property
    def size(self) -> int:
        """How much is known, here and below."""
        below = [*self.closed.values(), *(note for note in (self.open, self.items) if note is not None)]
        return len(self.types) + len(self.choices) + sum(1 + note.size for note in below)

    def schema(self) -> dict[str, Any]:
        """As JSON Schema; `{}` where nothing is known."""
        if not self.types:
            return {}
        kinds = self.types - {"string"} if self.choices else self.types
        forms = [self._form(kind) for kind in sorted(kinds)]
        return forms[0] if len(forms) == 1 else {"anyOf": forms}

    def _form(self, kind: str) -> dict[str, Any]:
        if kind == "object":
            return self._object()
        if kind == "array":
            items = self.items.schema() if self.items is not None else {}
            return {"type": "array", "items": items, **({"minItems": 1} if self.never_empty else {})}
        if kind in ("integer", "number") and self.low_high is not None:
            low, high = self.low_high
            return {"type": kind, "minimum": low, "maximum": high}
        if kind == "choice":
            return {"enum": list(self.choices)}
        return {"type": kind}

    def _object(self) -> dict[str, Any]:
        found: dict[str, Any] = {"type": "object"}
        if self.closed:
            found["properties"] = {name: note.schema() for name, note in self.closed.items()}
        rest = self.open.schema() if self.open is not None else False
        found["additionalProperties"] = rest
        if self.required and (needed := set.intersection(*self.required)):
            found["required"] = sorted(needed)
        return found


class _Probe(Cursor):
    """A cursor on nothing, at one place, in one of the ways to look at it."""

    __slots__ = ("depth", "note", "way")

    def __init__(self, note: _Note, key: str, way: int, depth: int = 0) -> None:
        super().__init__(_stand_in(_drawn(f"{key} node {way}", 12)), key, Report(""))
        if depth > _MAX_DEPTH:
            raise RecursionError(f"the reader of {key} asks without end")
        self.note, self.way, self.depth = note, way, depth

    def draw(self, what: str, count: int) -> int:
        return _drawn(f"{self.key} {what} {self.way}", count)

    def below(self, note: _Note, step: str) -> _Probe:
        return _Probe(note, f"{self.key}{step}", self.way, self.depth + 1)

    def problem(self, what: str, instead: str = "") -> None:
        """A stand-in is wrong most times, which says nothing."""

    @property
    def is_null(self) -> bool:
        return False

    def null_refused(self, name: Scalar | None = None) -> bool:  # noqa: ARG002 - the Cursor's signature
        return False

    def text(self) -> str:
        self.note.types.add("string")
        words = tuple(self.note.choices) or _TEXTS
        return words[self.draw("text", len(words))]

    def integer(self, low: int, high: int, *, quoted: bool = False) -> int:
        self.note.types.update(("integer", "string") if quoted else ("integer",))
        self.note.low_high = (low, high)
        return low

    def number(self, low: float, high: float) -> float:
        self.note.types.add("number")
        self.note.low_high = (low, high)
        return low

    def boolean(self) -> bool:
        self.note.types.add("boolean")
        return bool(self.draw("boolean", 2))

    def duration(self, low_s: float = 0.0) -> float:
        self.note.types.add("string")
        return low_s

    def choice(self, known: Collection[str]) -> str:
        self.note.types.add("choice")
        self.note.choices.update(dict.fromkeys(known))
        return list(known)[self.draw("text", len(known))]

    def items(self, *, empty: bool = False) -> list[Cursor]:
        self.note.types.add("array")
        self.note.never_empty &= not empty
        self.note.items = self.note.items or _Note()
        return [self.below(self.note.items, "[]")]

    def pairs(self) -> Iterator[tuple[str, Cursor]]:
        self.note.types.add("object")
        self.note.open = self.note.open or _Note()
        yield _TEXTS[self.draw("key", 2)], self.below(self.note.open, "[]")

    def fields(self, known: Collection[str], refused: MappingType[str, Refusal] | None = None) -> Fields:
        self.note.types.add("object")
        taken = tuple(name for name in known if not refused or name not in refused)
        for name in taken:
            self.note.closed.setdefault(name, _Note())
        return _ProbeFields(self, taken)


class _ProbeFields(Fields):
    """All known fields are there, or some of them; of alternatives one is."""

    __slots__ = ("needed", "probe")

    def __init__(self, probe: _Probe, known: tuple[str, ...]) -> None:
        closed = probe.note.closed
        is_whole = probe.draw("whole", 2) == 0
        found: dict[str, Cursor] = {
            name: probe.below(closed[name], f".{name}")
            for name in known
            if is_whole or probe.draw(f"has {name}", 2)
        }
        super().__init__(probe, found, is_written=True)
        self.probe = probe
        self.needed: set[str] = set()
        probe.note.required.append(self.needed)

    def required(self, name: str, example: str = "") -> Cursor | None:  # noqa: ARG002
        self.needed.add(name)
        return self.get(name)

    def only_one(self, *names: str) -> str:
        present = [name for name in names if name in self]
        chosen = present[self.probe.draw(" ".join(names), len(present))] if present else ""
        for name in present:
            if name != chosen:
                self.drop(name)
        return chosen


def _drawn(what: str, count: int) -> int:
    """A number below `count`; the checksum alone is linear, and its draws would depend on each other."""
    number = zlib.crc32(what.encode())
    for factor in (0x2C1B3C6D, 0x297A2D39):
        number = ((number ^ number >> 15) * factor) & 0xFFFFFFFF
    return (number ^ number >> 15) % count


def _stand_in(number: int) -> Node:
    """A scalar, a list or a mapping, for readers that look before they ask."""
    word = Scalar(_TEXTS[number % len(_TEXTS)], True, 1, 1)
    if number % 3 == 1:
        return Sequence((word,), 1, 1)
    return Mapping(((word, word),), 1, 1) if number % 3 == 2 else word


def schema_of_reader(read: Callable[[Cursor], object]) -> dict[str, Any]:
    """The schema of what a reader reads."""
    note = _Note()
    known = quiet = 0
    for batch in range(_MOST_BATCHES):
        _ask(read, note, range(batch * _BATCH, (batch + 1) * _BATCH))
        quiet = quiet + 1 if note.size == known else 0
        known = note.size
        if quiet == _QUIET_BATCHES:
            break
    return note.schema()


def _ask(read: Callable[[Cursor], object], note: _Note, ways: range) -> None:
    failed: Exception | None = None
    is_read = False
    for way in ways:
        try:
            read(_Probe(note, "", way))
            is_read = True
        except (ValueError, KeyError, IndexError, AttributeError, TypeError) as error:
            # a stand-in that no document could bring this far; the words of a choice are known the next time
            failed = error
    if not is_read and failed is not None:
        raise failed


def kinds() -> tuple[str, ...]:
    """Every kind that has a schema; two of one name by KIND.GROUP."""
    return tuple(kind_versions())


@functools.cache
def schema_of(kind: str) -> dict[str, Any]:
    """The schema of a whole document.

    Raises:
        KeyError: there is no such kind.
    """
    about = kind_versions()[kind]
    namespace = "default" if about.has_namespace else ""
    meta = Meta(kind, namespace, "x", Place())
    metadata: dict[str, Any] = {"name": {"type": "string"}, "labels": _LABELS, "annotations": _LABELS}
    if about.has_namespace:
        metadata["namespace"] = {"type": "string"}
    return {
        "title": kind,
        "type": "object",
        "properties": {
            "apiVersion": {"enum": list(about.versions)},
            "kind": {"const": kind.partition(".")[0]},
            "metadata": {
                "type": "object",
                "properties": metadata,
                "required": ["name"],
                "additionalProperties": False,
            },
            "spec": schema_of_reader(lambda cursor: read_spec(kind, meta, cursor)),
        },
        "required": ["apiVersion", "kind", "metadata", *(["spec"] if about.needs_spec else [])],
        "additionalProperties": False,
    }


def schema_of_all() -> dict[str, Any]:
    """One schema for any document, which an editor picks by `kind` and `apiVersion`."""
    found = {kind: schema_of(kind) for kind in kinds()}
    cases = [
        {
            "if": {"properties": {k: schema["properties"][k] for k in ("kind", "apiVersion")}},
            "then": {"$ref": f"#/$defs/{kind}"},
        }
        for kind, schema in found.items()
    ]
    names = sorted({kind.partition(".")[0] for kind in found})
    return {
        "$schema": DRAFT,
        "title": "meshpy policies",
        "type": "object",
        "properties": {"kind": {"enum": names}},
        "required": ["apiVersion", "kind"],
        "allOf": cases,
        "$defs": found,
    }
