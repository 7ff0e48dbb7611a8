"""A stack file: its text, what docker reads in it, and where each key stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from meshpy.errors import DocumentError, Place, Problem
from meshpy.inject.goyaml import MappingNode, Node, ScalarNode, SequenceNode, compose, construct, entries

__all__ = ["Path", "StackFile"]

Path: TypeAlias = Sequence[str | int]
BOM = "\ufeff"


@dataclass(frozen=True, slots=True)
class StackFile:
    """The parsed file.

    Args:
        text: what follows a byte order mark, which YAML readers and docker skip.
        value: the root mapping by go-yaml's rules, merges applied, `${…}` as written.
    """

    text: str
    file: str
    root: MappingNode
    value: Mapping[str, Any]

    @classmethod
    def parse(cls, text: str, file: str = "-") -> StackFile:
        """Read a stack file.

        Raises:
            DocumentError: no YAML, more than one document, duplicate keys, or no mapping.
        """
        body = text.removeprefix(BOM)
        root = compose(body, file)
        if not isinstance(root, MappingNode):
            raise DocumentError(
                [Problem(Place(file, 1), "a stack file is a mapping", "begin with `services:`")]
            )
        return cls(body, file, root, construct(root, file))

    def get(self, path: Path) -> Any:
        """The value at a path; None when a step of it is missing."""
        value: Any = self.value
        for step in path:
            try:
                value = value[step]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def problem(self, path: Path, what: str, instead: str = "") -> Problem:
        """A problem at the key of a path."""
        return Problem(self.place(path), what, instead)

    def line(self, path: Path) -> int:
        """The line of a key, 0 when it is not in the file."""
        return self.place(path).line

    def place(self, path: Path) -> Place:
        """Where the last step of a path that exists is written; merged keys are found at their anchor."""
        node: Node = self.root
        spot: Node | None = None
        for step in path:
            found = _step(node, step)
            if found is None:
                break
            spot, node = found
        dotted = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(
            "."
        )
        if spot is None:
            return Place(self.file, 0, 0, dotted)
        return Place(self.file, spot.start_mark.line + 1, spot.start_mark.column + 1, dotted)


def _step(node: Node, step: str | int) -> tuple[Node, Node] | None:
    """The node that names a step (key or item) and the node below it."""
    if isinstance(step, int):
        if isinstance(node, SequenceNode) and step < len(node.value):
            return node.value[step], node.value[step]
        return None
    if not isinstance(node, MappingNode):
        return None
    merges: list[Node] = []
    for name, key, value in entries(node):
        if name == step:
            return key, value
        if name == "<<" and not isinstance(value, ScalarNode):
            merges += value.value if isinstance(value, SequenceNode) else [value]
    return next((found for merge in merges if (found := _step(merge, step))), None)
