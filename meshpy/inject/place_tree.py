"""Parts of a stack file as the trees that policies are read from, each node with its place in the file."""

from __future__ import annotations

from typing import Any

from meshpy.inject.goyaml import MappingNode, Node, ScalarNode, SequenceNode, entries
from meshpy.inject.stackfile import Path, StackFile
from meshpy.policy.documents import Mapping, Scalar, Sequence
from meshpy.policy.documents import Node as Tree
from meshpy.policy.reader import Cursor, Report

__all__ = ["cursor_at", "plain", "scalar_cursor", "source_of"]


def cursor_at(stack: StackFile, path: Path, report: Report) -> Cursor | None:
    """A cursor on what stands at a path; None when nothing does."""
    node = _node_at(stack.root, path)
    return None if node is None else Cursor(_tree(node), ".".join(map(str, path)), report)


def scalar_cursor(stack: StackFile, path: Path, text: str, report: Report) -> Cursor:
    """A cursor on a label's value, a number where it looks like one."""
    place = stack.place(path)
    return Cursor(Scalar(text, text.isdecimal(), place.line, place.column), place.key, report)


def _node_at(root: Node, path: Path) -> Node | None:
    node: Node = root
    for step in path:
        found = _below(node, step)
        if found is None:
            return None
        node = found
    return node


def _below(node: Node, step: str | int) -> Node | None:
    if isinstance(node, SequenceNode) and isinstance(step, int):
        return node.value[step] if step < len(node.value) else None
    if not isinstance(node, MappingNode):
        return None
    return next((value for name, value in _resolved(node) if name.value == step), None)


def _resolved(node: MappingNode) -> list[tuple[ScalarNode, Node]]:
    """Entries with merge keys followed; the mapping's own come first."""
    own: dict[str, tuple[ScalarNode, Node]] = {}
    merged: dict[str, tuple[ScalarNode, Node]] = {}
    for name, key, value in entries(node):
        if name == "<<":
            for source in value.value if isinstance(value, SequenceNode) else (value,):
                if isinstance(source, MappingNode):
                    for found in _resolved(source):
                        merged.setdefault(str(found[0].value), found)
        elif isinstance(key, ScalarNode):
            own[name] = (key, value)
    return list({**merged, **own}.values())


def _tree(node: Node) -> Tree:
    """The stack file's reader has bounded depth, size and aliases before."""
    line, column = node.start_mark.line + 1, node.start_mark.column + 1
    if isinstance(node, ScalarNode):
        return Scalar(str(node.value), node.style is None, line, column)
    if isinstance(node, SequenceNode):
        return Sequence(tuple(_tree(item) for item in node.value), line, column)
    if not isinstance(node, MappingNode):
        raise TypeError(node)
    pairs = ((_tree(key), _tree(value)) for key, value in _resolved(node))
    return Mapping(tuple((key, value) for key, value in pairs if isinstance(key, Scalar)), line, column)


def plain(tree: Tree) -> Any:
    """The value of a tree as JSON has it; what may be a number or a boolean is one when it is unquoted."""
    if isinstance(tree, Mapping):
        return {key.text: plain(value) for key, value in tree.entries}
    if isinstance(tree, Sequence):
        return [plain(item) for item in tree.items]
    if tree.plain and tree.text.isascii() and tree.text.isdecimal() and not tree.text.startswith("0"):
        return int(tree.text)
    if tree.plain and tree.text in ("true", "false"):
        return tree.text == "true"
    return tree.text


def source_of(stack: StackFile, path: Path) -> tuple[str, int]:
    """The text of a block at a path, every column kept, and the line it begins on."""
    node = _node_at(stack.root, path)
    if node is None:
        return "", 0
    start, end = node.start_mark, node.end_mark
    return " " * start.column + stack.text[start.index : end.index], start.line + 1
