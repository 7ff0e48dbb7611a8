"""Printed snapshots: what sidecars hold, by service, with a short history so that a delta has a base."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from meshpy.model.names import ServiceName
from meshpy.model.snapshot import Snapshot
from meshpy.wire import delta, encode, version_of

__all__ = ["Printed", "Shelf", "is_candidate", "printed"]

_CANDIDATE = "-canary"
HISTORY = 8
"""Versions of one service that a reconnecting sidecar can be brought forward from; older ones get all."""


@dataclass(frozen=True, slots=True, eq=False)
class Printed:
    """A snapshot as JSON-ready data; shared by all streams of its service, never changed."""

    version: str
    revision: int
    data: Mapping[str, Any]

    def at(self, revision: int) -> Printed:
        """The same content under another revision's number."""
        if revision == self.revision:
            return self
        version = f"{self.version.partition('-')[0]}-{revision}"
        return Printed(version, revision, {**self.data, "revision": revision, "version": version})

    def as_candidate(self) -> Printed:
        """The same content, named as what no store ever held."""
        version = self.version + _CANDIDATE
        return Printed(version, self.revision, {**self.data, "version": version})


def is_candidate(version: str) -> bool:
    """Whether a version is that of a canary's candidate, so that a store without it has lost nothing."""
    return version.endswith(_CANDIDATE)


def printed(snapshot: Snapshot) -> Printed:
    """Print a snapshot and give it the version of its content."""
    data = encode(snapshot)
    data["version"] = version_of(data)
    return Printed(data["version"], snapshot.revision, data)


@dataclass(slots=True)
class _Row:
    newest: Printed
    history: dict[str, Printed]
    frames: dict[tuple[str, str], str] = field(default_factory=dict)


class Shelf:
    """The newest snapshot of every service, and the candidates that only canaries get."""

    def __init__(self) -> None:
        self._rows: dict[ServiceName, _Row] = {}
        self._candidates: Mapping[ServiceName, Printed] = {}

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
            self._rows[name] = _Row(new, _remembered(row.history if row else {}, new))
        return changed

    def stage(self, candidates: Mapping[ServiceName, Printed]) -> None:
        """Hold these beside the newest ones, in the place of the candidates before; none ends it."""
        self._candidates = {name: each.as_candidate() for name, each in candidates.items()}
        for name, candidate in self._candidates.items():
            row = self._rows.get(name)
            if row is not None:
                row.history = _remembered(row.history, candidate)

    def newest(self, service: ServiceName, *, is_canary: bool = False) -> Printed | None:
        """What a sidecar of the service should hold; a canary's is the candidate where there is one."""
        if is_canary and service in self._candidates:
            return self._candidates[service]
        row = self._rows.get(service)
        return row.newest if row else None

    def known(self, service: ServiceName, version: str) -> Printed | None:
        """What this version was, if it is still remembered."""
        row = self._rows.get(service)
        return row.history.get(version) if row else None

    def items(self) -> Mapping[ServiceName, Printed]:
        """Every newest snapshot."""
        return {name: row.newest for name, row in self._rows.items()}

    def frame(self, service: ServiceName, held: str, target: Printed) -> str:
        """The message that brings a sidecar of `service` from the version it holds to `target`.

        Args:
            held: empty, or a version that is unknown by now, makes it the whole snapshot.
        """
        row = self._rows.get(service)
        if row is None:
            return _frame(None, target)
        base = row.history.get(held)
        key = (base.version if base else "", target.version)
        text = row.frames.get(key)
        if text is None:
            text = row.frames[key] = _frame(base, target)  # a few versions from a few others
        return text


def _remembered(history: Mapping[str, Printed], new: Printed) -> dict[str, Printed]:
    found = {version: item for version, item in history.items() if version != new.version}
    found[new.version] = new
    while len(found) > HISTORY:
        del found[next(iter(found))]
    return found


def _frame(base: Printed | None, target: Printed) -> str:
    message = {"type": "snapshot", "delta": delta(base.data if base else None, target.data)}
    return json.dumps(message, separators=(",", ":"), ensure_ascii=False)
