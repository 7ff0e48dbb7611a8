"""What sidecars hold, for questions: snapshots read from their print when a question comes to them.

A mesh of a thousand services takes a second to read whole; most questions are about two of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from control_plane.snapshots import Printed
from meshpy.model.names import ServiceName
from meshpy.model.snapshot import Snapshot
from meshpy.wire import decode

__all__ = ["InForce"]


class InForce(Mapping[ServiceName, Snapshot]):
    """Args:
    printed: the newest snapshots, or those that other policies would make.
    beside: what is the same there is read once.
    """

    def __init__(self, printed: Mapping[ServiceName, Printed], beside: InForce | None = None) -> None:
        self._printed, self._beside = printed, beside
        self._read: dict[ServiceName, Snapshot] = {}

    def __getitem__(self, service: ServiceName) -> Snapshot:
        found = self._read.get(service)
        if found is None:
            mine, beside = self._printed[service], self._beside
            is_same = beside is not None and beside._printed.get(service) is mine
            found = beside[service] if beside is not None and is_same else decode(Snapshot, mine.data)
            self._read[service] = found
        return found

    def __contains__(self, service: object) -> bool:
        return service in self._printed

    def __iter__(self) -> Iterator[ServiceName]:
        return iter(self._printed)

    def __len__(self) -> int:
        return len(self._printed)

    def speaking_of(self, hosts: Collection[str]) -> list[ServiceName]:
        """The services among whose routes one of these words stands; the others need not be read."""
        return [name for name, each in self._printed.items() if _holds(each.data.get("outbound"), hosts)]


def _holds(data: object, words: Collection[str]) -> bool:
    if isinstance(data, str):
        return data.lower() in words
    if isinstance(data, Mapping):
        return any(_holds(each, words) for each in data.values())
    return isinstance(data, list) and any(_holds(each, words) for each in data)
