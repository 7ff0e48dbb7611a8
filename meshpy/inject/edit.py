"""Changes to the text of a stack file that leave every other byte as it is.

Each change is a span of the text and what stands there instead. Whole lines are the unit in block style;
in flow style (`{…}`) values are replaced between their marks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from meshpy.inject import emit
from meshpy.inject.goyaml import MappingNode, Node, ScalarNode, SequenceNode, entries

__all__ = ["Editor", "find"]


@dataclass(frozen=True, slots=True)
class _Change:
    start: int
    end: int
    text: str
    depth: int


def find(node: Node, name: str) -> tuple[Node, Node] | None:
    """The own entry of a mapping node; what comes by `<<` is not its own."""
    if isinstance(node, MappingNode):
        for key, key_node, value in entries(node):
            if key == name:
                return key_node, value
    return None


@dataclass(slots=True)
class Editor:
    """Collects changes of one text; positions are those of the unchanged text."""

    text: str
    newline: str
    changes: list[_Change] = field(default_factory=list)

    @classmethod
    def of(cls, text: str) -> Editor:
        """An editor that writes the line ends that the text has."""
        newline = "\r\n" if "\r\n" in text else "\n"
        return cls(text if text.endswith("\n") else text + newline, newline)

    def result(self) -> str:
        """The changed text. At one place, what is added comes before what is replaced, deeper first."""
        parts: list[str] = []
        at = 0
        for change in sorted(self.changes, key=lambda c: (c.start, c.end != c.start, -c.depth)):
            parts += (self.text[at : change.start], change.text)
            at = max(at, change.end)
        return "".join((*parts, self.text[at:]))

    def is_own(self, node: Node, key: Node) -> bool:
        """False when a value is an alias of a node that stands elsewhere."""
        return bool(node.start_mark.index >= key.end_mark.index and self._after_key(node, key))

    def _after_key(self, node: Node, key: Node) -> bool:
        between = self.text[key.end_mark.index : node.start_mark.index]
        return all(not line.split("#")[0].strip(" \t?:\r-") for line in between.split("\n"))

    def set(self, mapping: MappingNode, name: str, value: Any) -> None:
        """Give a key of a mapping a new value, in its place or at the end."""
        found = find(mapping, name)
        if mapping.flow_style:
            self._set_in_flow(mapping, name, value, found)
        elif found is None:
            self.append(mapping, name, value)
        else:
            start, end = self._entry_span(*found)
            self._replace(start, end, emit.block(name, value, self._column(mapping)), self._column(mapping))

    def append(self, mapping: MappingNode, name: str, value: Any) -> None:
        """Add an entry after the last one."""
        if mapping.flow_style:
            self._set_in_flow(mapping, name, value, None)
            return
        at = self._line_end(self._end(mapping, mapping.start_mark.index))
        column = self._column(mapping)
        self._replace(at, at, emit.block(name, value, column), column)

    def append_item(self, sequence: SequenceNode, value: Any) -> None:
        """Add an item to a block sequence that has one."""
        at = self._line_end(self._end(sequence, sequence.start_mark.index))
        dash = self._line_of(sequence.value[0].start_mark.index)
        column = len(dash) - len(dash.lstrip(" "))
        self._replace(at, at, [" " * column + "- " + emit.flow(value)], column)

    def remove(self, mapping: MappingNode, name: str) -> None:
        """Take an own entry of a block mapping away, comments inside it included."""
        found = find(mapping, name)
        if found is not None:
            self._replace(*self._entry_span(*found), [], self._column(mapping))

    def remove_item(self, sequence: SequenceNode, index: int) -> None:
        """Take an item of a block sequence away."""
        item = sequence.value[index]
        start = self._line_start(item.start_mark.index)
        self._replace(start, self._line_end(self._end(item, item.start_mark.index)), [], 0)

    def inline(self, start: int, end: int, value: Any) -> None:
        """Put a value where an alias of it stood."""
        self.changes.append(_Change(start, end, emit.flow(value), 0))

    def has_own_lines(self, sequence: SequenceNode) -> bool:
        """True when every item begins a line of its own, so that it can be removed alone."""
        if sequence.flow_style:
            return False
        return all(
            self._line_of(item.start_mark.index).lstrip(" ").startswith("- ")
            and item.start_mark.index >= sequence.start_mark.index
            for item in sequence.value
        )

    def _replace(self, start: int, end: int, lines: list[str], depth: int) -> None:
        text = "".join(line + self.newline for line in lines)
        self.changes.append(_Change(start, end, text, depth))

    def _set_in_flow(
        self, mapping: MappingNode, name: str, value: Any, found: tuple[Node, Node] | None
    ) -> None:
        if found is not None and self.is_own(found[1], found[0]):
            start, end = found[1].start_mark.index, found[1].end_mark.index
            text = emit.flow(value)
            self.changes.append(
                _Change(start, end, text if start > found[0].end_mark.index else f": {text}", 0)
            )
            return
        close = mapping.end_mark.index - 1
        if found is not None:
            key_end = found[0].end_mark.index
            rest = min(
                (k.start_mark.index for k, _ in mapping.value if k.start_mark.index > key_end), default=close
            )
            comma = ", " if rest != close else ""
            self.changes.append(_Change(key_end, rest, f": {emit.flow(value)}{comma}", 0))
            return
        inside = self.text[mapping.start_mark.index : close].rstrip()
        is_first = not any(change.start == change.end == close for change in self.changes)
        comma = "" if is_first and inside.endswith(("{", ",")) else ", "
        self.changes.append(
            _Change(close, close, f"{comma}{emit.key(name)}: {emit.flow(value)}", mapping.start_mark.column)
        )

    def _entry_span(self, key: Node, value: Node) -> tuple[int, int]:
        end = self._end(value, key.end_mark.index) if self.is_own(value, key) else key.end_mark.index
        return self._line_start(key.start_mark.index), self._line_end(max(end, key.end_mark.index))

    def _end(self, node: Node, floor: int) -> int:
        """Where the written value ends: block collections end with their last child."""
        if isinstance(node, ScalarNode):
            return max(int(node.end_mark.index), floor) if node.value != "" or node.style else floor
        if not isinstance(node, MappingNode | SequenceNode) or node.flow_style or not node.value:
            return max(int(node.end_mark.index), floor)
        last = node.value[-1]
        if isinstance(last, tuple):
            key, value = last
            floor = max(floor, int(key.end_mark.index))
            return self._end(value, floor) if self.is_own(value, key) else floor
        return (
            self._end(last, floor)
            if last.start_mark.index >= node.start_mark.index
            else self._last_dash(node, floor)
        )

    def _last_dash(self, node: Node, floor: int) -> int:
        """The last item is an alias: it ends before the sequence does."""
        return max(floor, len(self.text[: node.end_mark.index].rstrip()))

    def _column(self, mapping: MappingNode) -> int:
        return int(mapping.value[0][0].start_mark.column) if mapping.value else 0

    def _line_start(self, index: int) -> int:
        return self.text.rfind("\n", 0, index) + 1

    def _line_end(self, index: int) -> int:
        if index > 0 and self.text[index - 1] == "\n":
            return index
        end = self.text.find("\n", index)
        return len(self.text) if end < 0 else end + 1

    def _line_of(self, index: int) -> str:
        return self.text[self._line_start(index) : self._line_end(index)]
