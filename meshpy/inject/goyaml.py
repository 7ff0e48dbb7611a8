"""What YAML means to docker: go-yaml v3's rules on the node graph, with the place of every key.

Docker reads a stack file with go-yaml v3 into untyped maps. Its rules differ from YAML 1.1 and from YAML 1.2:
`yes` and `22:22` are strings, `010` is 8, `1e3` is 1000, a key written twice is an error (go-yaml resolve.go,
decode.go).
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, ReusedAnchorWarning, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.tokens import AliasToken

from meshpy.errors import DocumentError, Place, Problem

__all__ = [
    "MappingNode",
    "Node",
    "ScalarNode",
    "SequenceNode",
    "aliases_in",
    "compose",
    "construct",
    "entries",
    "key_text",
]

TRUE = frozenset({"true", "True", "TRUE"})
FALSE = frozenset({"false", "False", "FALSE"})
NULL = frozenset({"", "~", "null", "Null", "NULL"})
INT = re.compile(r"[-+]?(?:0[xX][0-9a-fA-F]+|0[oO]?[0-7]+|0[bB][01]+|[1-9][0-9]*|0)")
FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
TAGGED = re.compile(r"(?:&\S+\s+)?!")
MERGE = "<<"
MAX_NODES = 200_000
"""More nodes than this after all aliases were followed is a bomb, not a stack; go-yaml has such a limit."""


def compose(text: str, file: str) -> Node:
    """Read the one document of a stack file as a node graph.

    Raises:
        DocumentError: it is no YAML, is empty, or holds more than one document.
    """
    yaml = YAML(typ="safe", pure=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ReusedAnchorWarning)
            nodes = list(yaml.compose_all(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        what = " ".join(part for part in (error.context, error.problem) if part)
        raise DocumentError([Problem(Place(file, line, column), f"no valid YAML: {what}")]) from error
    except (YAMLError, RecursionError, ValueError) as error:
        raise DocumentError(
            [Problem(Place(file), f"no valid YAML: {str(error) or 'nested too deep'}")]
        ) from error
    if not nodes or nodes[0] is None:
        raise DocumentError([Problem(Place(file), "the file is empty", "write a stack with `services:`")])
    if len(nodes) > 1:
        mark = nodes[1].start_mark
        what = "a second YAML document; docker reads the first one only"
        raise DocumentError(
            [Problem(Place(file, mark.line + 1, 1), what, "put each stack into a file of its own")]
        )
    root: Node = nodes[0]
    return root


def aliases_in(text: str) -> Iterator[tuple[int, int, str]]:
    """Start, end and name of every `*alias` of the text."""
    for token in YAML(typ="safe", pure=True).scan(text):
        if isinstance(token, AliasToken):
            yield token.start_mark.index, token.end_mark.index, token.value


def key_text(node: Node) -> str:
    """A mapping key as docker sees it: always a string."""
    return str(node.value) if isinstance(node, ScalarNode) else ""


def entries(node: MappingNode) -> Iterator[tuple[str, Node, Node]]:
    """Own entries of a mapping: name, key node, value node; `<<` among them."""
    for key, value in node.value:
        yield key_text(key), key, value


def construct(root: Node, file: str) -> Any:
    """The value of a node graph: dict, list, str, int, float, bool, None.

    Raises:
        DocumentError: duplicate keys, keys that are no scalars, merges of something else than mappings,
            or aliases that blow up.
    """
    builder = _Builder(file)
    value = builder.build(root, ())
    if builder.problems:
        raise DocumentError(builder.problems)
    return value


class _Builder:
    __slots__ = ("count", "file", "problems")

    def __init__(self, file: str) -> None:
        self.file = file
        self.problems: list[Problem] = []
        self.count = 0

    def build(self, node: Node, path: tuple[Node, ...]) -> Any:
        self.count += 1
        if self.count > MAX_NODES:
            raise DocumentError(
                [self._problem(node, "", "the aliases of this file expand to too many nodes")]
            )
        if node in path:
            raise DocumentError([self._problem(node, "", f"the anchor &{node.anchor} contains itself")])
        if isinstance(node, MappingNode):
            return self._mapping(node, (*path, node))
        if isinstance(node, SequenceNode):
            return [self.build(item, (*path, node)) for item in node.value]
        return _scalar(node)

    def _mapping(self, node: MappingNode, path: tuple[Node, ...]) -> dict[str, Any]:
        own: dict[str, Any] = {}
        lines: dict[str, int] = {}
        merged: dict[str, Any] = {}
        for name, key, value in entries(node):
            if not isinstance(key, ScalarNode):
                self.problems.append(self._problem(key, "", "a key must be a word, not a list or a mapping"))
            elif name in lines:
                what = f"the key `{name}` stands twice in one mapping, first in line {lines[name]}"
                self.problems.append(
                    self._problem(key, name, what, "remove one of the two, docker refuses both")
                )
            elif name == MERGE and key.style is None:
                lines[name] = key.start_mark.line + 1
                merged = self._merge(value, path)
            else:
                lines[name] = key.start_mark.line + 1
                own[name] = self.build(value, path)
        return {**merged, **own}

    def _merge(self, node: Node, path: tuple[Node, ...]) -> dict[str, Any]:
        sources = node.value if isinstance(node, SequenceNode) else [node]
        merged: dict[str, Any] = {}
        for source in sources:
            if not isinstance(source, MappingNode):
                self.problems.append(self._problem(source, MERGE, "only mappings can be merged with `<<`"))
                continue
            for name, value in self.build(source, path).items():
                merged.setdefault(name, value)
        return merged

    def _problem(self, node: Node, key: str, what: str, instead: str = "") -> Problem:
        mark = node.start_mark
        return Problem(Place(self.file, mark.line + 1, mark.column + 1, key), what, instead)


def _scalar(node: Node) -> Any:
    text = str(node.value)
    if not isinstance(node, ScalarNode) or node.style is not None or not _is_implicit(node):
        return text
    return plain_scalar(text)


def _is_implicit(node: Node) -> bool:
    """False for `!!str 80`: a tag stands before the scalar, perhaps after an anchor."""
    mark = node.start_mark
    return TAGGED.match(mark.buffer, mark.index) is None


def plain_scalar(text: str) -> Any:
    """The value of an unquoted scalar, by go-yaml v3's resolve()."""
    if text in NULL:
        return None
    if text in TRUE or text in FALSE:
        return text in TRUE
    plain = text.replace("_", "")
    if plain and plain[0] in "+-.0123456789":
        if INT.fullmatch(plain):
            return _integer(plain)
        if FLOAT.fullmatch(plain):
            return _number(float(plain))
    return text


def _integer(text: str) -> int:
    sign, digits = (-1, text[1:]) if text[0] == "-" else (1, text.lstrip("+"))
    lower = digits.lower()
    for prefix, base in (("0x", 16), ("0b", 2), ("0o", 8)):
        if lower.startswith(prefix):
            return sign * int(lower[2:], base)
    octal = len(digits) > 1 and digits[0] == "0"
    return sign * int(digits, 8 if octal else 10)


def _number(value: float) -> float | int:
    """JSON numbers of docker's schema: a float without a fraction counts as an integer."""
    return int(value) if value == int(value) and abs(value) < 2**53 else value
