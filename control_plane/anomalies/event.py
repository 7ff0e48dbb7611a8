"""Events: one for each thing that is unusual, open until it is usual again."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

__all__ = ["Event", "Events", "Kind"]

MAX_EVENTS = 1_000


class Kind(StrEnum):
    NEW_EDGE = "new_edge"
    NEW_IDENTITY = "new_identity"
    NEW_PATH_CLASS = "new_path_class"
    DENIED_BURST = "denied_burst"
    ERROR_SHIFT = "error_shift"
    LATENCY_SHIFT = "latency_shift"
    MESH_SLOW = "mesh_slow"
    RATE_SHIFT = "rate_shift"
    SILENT_SERVICE = "silent_service"


@dataclass(slots=True)
class Event:
    """Args:
    subject: what it is about: `source`, `destination`, `protocol`, `path`, as they apply.
    evidence: the figures that it rests on: expected, observed, of how many requests, in how many seconds.
    at_s, until_s: seconds since the epoch; an open event has no end.
    changed_s: when anything of it was new for the last time.
    """

    number: int
    kind: Kind
    subject: Mapping[str, str]
    evidence: dict[str, Any]
    text: str
    at_s: float
    until_s: float | None = None
    changed_s: float = 0.0

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.number,
            "kind": str(self.kind),
            "subject": dict(self.subject),
            "evidence": self.evidence,
            "text": self.text,
            "at": self.at_s,
            "until": self.until_s,
        }

    @classmethod
    def of_json(cls, kept: Mapping[str, Any], now_s: float) -> Event:
        """One that was kept; it is over if it was open, and opened again when it still holds."""
        until_s = now_s if kept["until"] is None else float(kept["until"])
        subject, evidence = dict(kept["subject"]), dict(kept["evidence"])
        kind, text = Kind(kept["kind"]), str(kept["text"])
        return cls(int(kept["id"]), kind, subject, evidence, text, float(kept["at"]), until_s)


@dataclass(slots=True)
class Events:
    """The last events; `told` is called for each new one."""

    told: Callable[[Event], None] = lambda _event: None
    counts: Counter[str] = field(default_factory=Counter)
    _kept: deque[Event] = field(default_factory=lambda: deque(maxlen=MAX_EVENTS))
    _open: dict[tuple[object, ...], Event] = field(default_factory=dict)
    newest: int = 0

    def resume(self, kept: Sequence[Mapping[str, Any]], now_s: float) -> None:
        """Show what was told before a restart, and count on; nobody is told it again."""
        self._kept.extend([Event.of_json(each, now_s) for each in kept])
        self.newest = max((event.number for event in self._kept), default=0)

    def raise_(
        self, kind: Kind, subject: Mapping[str, str], evidence: dict[str, Any], text: str, at_s: float
    ) -> None:
        """Open an event, or bring the evidence of the one that is open up to date."""
        key = (kind, *subject.values())
        known = self._open.get(key)
        if known is not None:
            known.evidence, known.changed_s = evidence, at_s
            return
        self.newest += 1
        event = Event(self.newest, kind, subject, evidence, text, at_s, changed_s=at_s)
        if len(self._open) < MAX_EVENTS:
            self._open[key] = event
        self._kept.append(event)
        self.counts[str(kind)] += 1
        self.told(event)

    def note(
        self, kind: Kind, subject: Mapping[str, str], evidence: dict[str, Any], text: str, at_s: float
    ) -> None:
        """An event that is over as it happens."""
        self.raise_(kind, subject, evidence, text, at_s)
        self.close(kind, subject, at_s)

    def close(self, kind: Kind, subject: Mapping[str, str], at_s: float) -> None:
        """It is usual again."""
        event = self._open.pop((kind, *subject.values()), None)
        if event is not None:
            event.until_s = event.changed_s = at_s

    def is_open(self, kind: Kind, subject: Mapping[str, str]) -> bool:
        return (kind, *subject.values()) in self._open

    def open_counts(self) -> Counter[str]:
        """How many are open, by kind."""
        return Counter(str(event.kind) for event in self._open.values())

    def after(
        self, number: int, kind: str = "", *, only_open: bool = False, changed_s: float = 0.0
    ) -> list[Event]:
        """Those after a number, oldest first.

        Args:
            changed_s: only those of which anything is new since then.
        """
        return [
            event
            for event in self._kept
            if event.number > number
            and kind in ("", event.kind)
            and (not only_open or event.until_s is None)
            and event.changed_s >= changed_s
        ]
