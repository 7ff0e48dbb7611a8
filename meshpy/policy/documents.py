"""YAML text -> trees of nodes that know their place. Nothing of a kind's meaning is known here.

The parser's events are folded into frozen nodes without recursion, so that depth, size and aliases are
bounded before a tree exists (THREATS §3.6). Scalars keep their text; `reader` decides what they mean, by the
rules of YAML 1.2: `yes`, `22:22` and `010` never turn into something else on the way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from meshpy.errors import DocumentError, Place, Problem

__all__ = ["MAX_BYTES", "MAX_DEPTH", "MAX_NODES", "Mapping", "Node", "Scalar", "Sequence", "Tree", "parse"]

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 100
MAX_NODES = 50_000
"""Nodes of one file, those that an alias repeats counted each time."""

_STRING_TAG = "tag:yaml.org,2002:str"


@dataclass(frozen=True, slots=True, eq=False)
class Scalar:
    """A leaf; not `plain` when it was quoted or a block: then it is a string whatever it looks like."""

    text: str
    plain: bool
    line: int
    column: int


@dataclass(frozen=True, slots=True, eq=False)
class Sequence:
    items: tuple[Node, ...]
    line: int
    column: int


@dataclass(frozen=True, slots=True, eq=False)
class Mapping:
    """Entries in the order of the text, merge keys (`<<`) resolved; keys are unique."""

    entries: tuple[tuple[Scalar, Node], ...]
    line: int
    column: int


Node: TypeAlias = Scalar | Sequence | Mapping


@dataclass(frozen=True, slots=True)
class Tree:
    """One document: its root, and the text that yields it again; `line` is where that text begins."""

    root: Node
    text: str
    line: int


class _Refused(Exception):  # noqa: N818 - leaves this module as DocumentError only
    def __init__(self, line: int, column: int, what: str, instead: str = "") -> None:
        super().__init__(what)
        self.line, self.column, self.what, self.instead = line, column, what, instead


def parse(text: str, file: str, first_line: int = 1) -> tuple[Tree, ...]:
    """Read every document of a file; empty ones are left out.

    Args:
        first_line: the line of the user's file on which `text` begins.

    Raises:
        DocumentError: it is no YAML, or too large, too deep, or has a duplicate key.
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise _error(file, 0, 0, "is not UTF-8", "save the file as UTF-8") from None
    if size > MAX_BYTES:
        raise _error(file, 0, 0, f"has {size} bytes, at most {MAX_BYTES} are read", "split the file")
    try:
        return tuple(_Builder(text, first_line).documents())
    except _Refused as refused:
        raise _error(file, refused.line, refused.column, refused.what, refused.instead) from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + first_line, mark.column + 1) if mark else (0, 0)
        what = " ".join(str(error.problem or error.context or "it cannot be read").split())
        raise _error(file, line, column, f"is not YAML: {what}", "correct the syntax here") from None
    except (YAMLError, ValueError, IndexError, AttributeError, TypeError) as error:
        # the reader refuses control characters with YAMLError; broken escapes and directives escape the
        # scanner as plain Python errors
        what = " ".join(str(error).split())[:200]
        raise _error(file, 0, 0, f"is not YAML: {what}", "correct the syntax") from None
    except RecursionError:
        raise _error(file, 0, 0, "is nested too deep", f"at most {MAX_DEPTH} levels are read") from None


def _error(file: str, line: int, column: int, what: str, instead: str) -> DocumentError:
    return DocumentError((Problem(Place(file, line, column), what, instead),))


@dataclass(slots=True)
class _Frame:
    """A collection that is being read; `children` of a mapping are keys and values in turn."""

    is_mapping: bool
    line: int
    column: int
    anchor: str | None
    children: list[Node]
    size: int = 1


class _Builder:
    def __init__(self, text: str, first_line: int) -> None:
        self._text = text
        self._first_line = first_line
        self._frames: list[_Frame] = []
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._nodes = 0
        self._root: Node | None = None

    def documents(self) -> Iterator[Tree]:
        start = 0
        # bounded: every event consumes text, and the text is bounded
        for event in YAML(typ="safe", pure=True).parse(self._text):
            name = type(event).__name__
            if name == "DocumentStartEvent":
                self._anchors.clear()
                self._root = None
                # the first line keeps its indentation, or the text would not read again
                begin = self._text.rfind("\n", 0, event.start_mark.index) + 1
                start = event.end_mark.index if event.explicit else begin
            elif name == "DocumentEndEvent":
                if self._root is not None and not _is_empty(self._root):
                    text = self._text[start : event.start_mark.index]
                    yield Tree(self._root, text, self._first_line + self._text.count("\n", 0, start))
            else:
                self._take(name, event)

    def _take(self, name: str, event: Any) -> None:
        if name in ("MappingStartEvent", "SequenceStartEvent"):
            self._open(name == "MappingStartEvent", event)
        elif name in ("MappingEndEvent", "SequenceEndEvent"):
            self._close()
        elif name == "ScalarEvent":
            line, column = self._spot(event)
            plain = event.style is None and not self._tagged(event)
            self._place(Scalar(event.value, plain, line, column), event.anchor, 1)
        elif name == "AliasEvent":
            self._alias(event)

    def _spot(self, event: Any) -> tuple[int, int]:
        return event.start_mark.line + self._first_line, event.start_mark.column + 1

    def _tagged(self, event: Any) -> bool:
        """True for an explicit string tag; every other tag is refused."""
        tag = str(event.tag) if event.tag is not None else ""
        if not tag:
            return False
        if tag in ("!", _STRING_TAG):
            return True
        raise _Refused(*self._spot(event), f"the tag {tag!r} is not read", "remove the tag")

    def _open(self, is_mapping: bool, event: Any) -> None:
        line, column = self._spot(event)
        if self._tagged(event):
            raise _Refused(line, column, "a collection cannot be tagged as a string", "remove the tag")
        if len(self._frames) >= MAX_DEPTH:
            raise _Refused(line, column, f"is nested deeper than {MAX_DEPTH} levels", "flatten the document")
        self._frames.append(_Frame(is_mapping, line, column, event.anchor, []))

    def _close(self) -> None:
        frame = self._frames.pop()
        node: Node
        if frame.is_mapping:
            node = Mapping(_entries(frame.children), frame.line, frame.column)
        else:
            node = Sequence(tuple(frame.children), frame.line, frame.column)
        self._place(node, frame.anchor, frame.size, counted=frame.size - 1)

    def _alias(self, event: Any) -> None:
        found = self._anchors.get(event.anchor)
        if found is None:
            what = f"*{event.anchor} names no anchor, or one around itself"
            raise _Refused(*self._spot(event), what, f"put &{event.anchor} on an earlier value")
        node, size = found
        self._place(node, None, size)

    def _place(self, node: Node, anchor: str | None, size: int, counted: int = 0) -> None:
        """Hand a finished node to its parent; `counted` of its `size` nodes were counted before."""
        self._nodes += size - counted
        if self._nodes > MAX_NODES:
            what = f"has more than {MAX_NODES} values (aliases repeated)"
            raise _Refused(node.line, node.column, what, "split the file or write less through aliases")
        if anchor:
            self._anchors[anchor] = (node, size)
        if self._frames:
            self._frames[-1].children.append(node)
            self._frames[-1].size += size
        else:
            self._root = node


def _is_empty(root: Node) -> bool:
    return isinstance(root, Scalar) and root.plain and root.text == ""


def _entries(children: list[Node]) -> tuple[tuple[Scalar, Node], ...]:
    own: dict[str, tuple[Scalar, Node]] = {}
    merged: dict[str, tuple[Scalar, Node]] = {}
    for key, value in zip(children[::2], children[1::2], strict=True):
        if not isinstance(key, Scalar):
            raise _Refused(key.line, key.column, "a key must be a word, not a collection")
        if key.plain and key.text == "<<":
            for entry in _merged(key, value):
                merged.setdefault(entry[0].text, entry)
            continue
        earlier = own.get(key.text)
        if earlier is not None:
            what = f"the key {key.text!r} is written twice, first on line {earlier[0].line}"
            raise _Refused(key.line, key.column, what, "remove one of them")
        own[key.text] = (key, value)
    return tuple({**merged, **own}.values())


def _merged(key: Scalar, value: Node) -> Iterator[tuple[Scalar, Node]]:
    """The entries of a merge key; the first of several mappings wins (YAML merge type)."""
    for source in value.items if isinstance(value, Sequence) else (value,):
        if not isinstance(source, Mapping):
            raise _Refused(key.line, key.column, "a merge key needs a mapping", "write <<: *anchor")
        yield from source.entries
