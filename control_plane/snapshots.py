"""Printed snapshots: what sidecars hold, by service, with a short history so that a delta has a base."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from meshpy.model.names import ServiceName
from meshpy.model.snapshot import Snapshot
from meshpy.wire import delta, encode, version_of

__all__ = ["Printed", "Shelf", "printed"]

HISTORY = 8
"""Versions of one service that a reconnecting sidecar can be brought forward from; older ones get all."""


@dataclass(frozen=True, slots=True, eq=False)
class Printed:
    """A snapshot as JSON-ready data; shared by all streams of its service, never changed."""

    version: str
    revision: int
    data: Mapping[str, Any]


def printed(snapshot: Snapshot) -> Printed:
    """Print a snapshot and give it the version of its content."""
    data = encode(snapshot)
    data["version"] = version_of(data)
    return Printed(data["version"], snapshot.revision, data)


@dataclass(slots=True)
class _Row:
    newest: Printed
    history: dict[str, Printed]
    frames: dict[str, str] = field(default_factory=dict)


class Shelf:
    """The newest snapshot of every service."""

    def __init__(self) -> None:
        self._rows: dict[ServiceName, _Row] = {}

    def replace(self, snapshots: Mapping[ServiceName, Printed]) -> set[ServiceName]:
        """Put a whole new set in place.

        Returns:
            The services whose snapshot is another one now, those included that have none any more.
        """
        changed = {name for name in self._rows if name not in snapshots}
        for name in changed:
            del self._rows[name]
        for name, new in snapshots.items():
            row = self._rows.get(name)
            if row is not None and row.newest.version == new.version:
                continue
            changed.add(name)
            history = dict(row.history) if row else {}
            history[new.version] = new
            while len(history) > HISTORY:
                del history[next(iter(history))]
            self._rows[name] = _Row(new, history)
        return changed

    def newest(self, service: ServiceName) -> Printed | None:
        row = self._rows.get(service)
        return row.newest if row else None

    def known(self, service: ServiceName, version: str) -> Printed | None:
        """What this version was, if it is still remembered."""
        row = self._rows.get(service)
        return row.history.get(version) if row else None

    def items(self) -> Mapping[ServiceName, Printed]:
        """Every newest snapshot."""
        return {name: row.newest for name, row in self._rows.items()}

    def frame(self, service: ServiceName, held: str) -> str | None:
        """The message that brings a sidecar from the version it holds to the newest one.

        Args:
            held: empty, or a version that is unknown by now, makes it the whole snapshot.

        Returns:
            JSON text, None when there is no snapshot for the service.
        """
        row = self._rows.get(service)
        if row is None:
            return None
        base = row.history.get(held)
        key = base.version if base else ""
        text = row.frames.get(key)
        if text is None:
            change = delta(base.data if base else None, row.newest.data)
            message = {"type": "snapshot", "delta": change}
            text = json.dumps(message, separators=(",", ":"), ensure_ascii=False)
            row.frames[key] = text  # at most one per version in the history
        return text
