"""The classes of paths that a service was asked for; those that come after the learning are told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["PathClass", "PathClasses", "read_classes"]

MAX_OF_SERVICE = 500
MAX_SERVICES = 5_000
MAX_CLASSES = 100_000
MAX_MESSAGE = 200
MAX_TEXT = 160


class PathClass(NamedTuple):
    """Args: status: of the request that brought it; source: who sent that."""

    method: str
    path: str
    source: str
    status: int


@dataclass(slots=True)
class PathClasses:
    """`overflow` counts classes of services that have too many to be watched."""

    _known: dict[str, set[tuple[str, str]]] = field(default_factory=dict)
    overflow: int = 0
    _count: int = 0

    def add(self, service: str, found: PathClass) -> bool:
        """Whether it is new, of a service that can be watched."""
        known = self._known.get(service)
        if known is None:
            if len(self._known) >= MAX_SERVICES:
                self.overflow += 1
                return False
            known = self._known[service] = set()
        key = (found.method, found.path)
        if key in known:
            return False
        if len(known) >= MAX_OF_SERVICE or self._count >= MAX_CLASSES:
            self.overflow += 1
            return False
        known.add(key)
        self._count += 1
        return True

    def count(self) -> int:
        return self._count

    def to_rows(self) -> dict[str, list[tuple[str, str]]]:
        """By service, as they are kept."""
        return {service: list(known) for service, known in self._known.items()}

    def resume(self, rows: Mapping[str, Sequence[Sequence[str]]]) -> None:
        """Know what was kept."""
        found = [
            (str(service), PathClass(str(method), str(path), "", 0))
            for service, known in rows.items()
            for method, path in known
        ]
        for service, each in found:
            self.add(service, each)


def read_classes(value: object) -> Iterator[PathClass]:
    """The classes of a `paths` message; what is malformed is passed over."""
    for item in value[:MAX_MESSAGE] if isinstance(value, list) else ():
        if not isinstance(item, list) or len(item) != 4:
            continue
        method, path, source, status = item
        texts = (method, path, source)
        if not all(isinstance(each, str) and len(each) <= MAX_TEXT for each in texts):
            continue
        if isinstance(status, int) and 0 <= status < 1000:
            yield PathClass(_printable(method), _printable(path), _printable(source), status)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)
