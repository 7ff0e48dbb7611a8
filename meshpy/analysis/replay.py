"""Recorded traffic through a candidate: what would have been allowed or refused otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from meshpy.analysis.recording import TOKEN, Entry, Recorded, Recording
from meshpy.engine.explain import Explanation, at_sidecar
from meshpy.engine.prepared import Prepared
from meshpy.model.names import ServiceName
from meshpy.model.snapshot import Snapshot

__all__ = ["Replay", "Row", "replay"]


@dataclass(slots=True)
class Row:
    """Requests of one edge that changed alike.

    Args:
        change: `newly allowed`, `newly denied`, or `uncertain`.
        by: who decides now; for `uncertain` what the log does not hold.
    """

    source: str
    destination: str
    port: int
    change: str
    by: str
    count: int = 0
    example: str = ""

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in type(self).__slots__}


@dataclass(slots=True)
class Replay:
    """`judged` is how many entries were asked again; the rest of them stayed as they were."""

    judged: int = 0
    rows: dict[tuple[object, ...], Row] = field(default_factory=dict)

    @property
    def changed(self) -> int:
        return sum(row.count for row in self.rows.values() if row.change != "uncertain")


def replay(recording: Recording, candidate: Mapping[ServiceName, Snapshot]) -> Replay:
    """Judge every entry again; what was said then is in the log."""
    side = Prepared(candidate, with_steps=False)
    found = Replay()
    for entry in recording.entries:
        found.judged += 1
        answer, unknown = _asked(side, entry)
        changed = answer.verdict.allowed is not entry.allowed
        if unknown:
            change, by = "uncertain", f"{', '.join(unknown)} (not in the log)"
        elif changed:
            verdict = answer.verdict
            change = "newly allowed" if verdict.allowed else "newly denied"
            by = " ".join(part for part in (verdict.policy, verdict.rule) if part) or verdict.stage
        else:
            continue
        key = (entry.caller, entry.destination, entry.port, change, by)
        row = found.rows.get(key)
        if row is None:
            shown = f"{entry.method} {entry.path}".strip()
            row = found.rows[key] = Row(
                entry.caller, str(entry.destination), entry.port, change, by, 0, shown
            )
        row.count += 1
    return found


def _asked(side: Prepared, entry: Entry) -> tuple[Explanation, tuple[str, ...]]:
    """The candidate's verdict, and what it asked for that the log does not hold."""
    request = Recorded(entry) if entry.method else None
    answer = at_sidecar(side, entry.destination, entry.port, entry.peer, request)
    unknown = dict(request.unknown) if request is not None else {}
    if not side[entry.destination].jwt:
        unknown.pop(TOKEN, None)
    return answer, tuple(unknown)
