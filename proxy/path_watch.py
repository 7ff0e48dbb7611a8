"""Classes of paths that the app was asked for, for the control plane's baseline.

A look takes a bounded sample of what ended since the last one, so it costs the same at any rate; a class that
is rare at a very high rate is met later.
"""

from __future__ import annotations

from itertools import islice

from proxy.recent import Recent
from proxy.records import class_of

__all__ = ["PathWatch"]

MAX_CLASSES = 500
MAX_LOOKED = 200
MAX_TOLD = 100


class PathWatch:
    """Each class is told once a stream; after MAX_CLASSES no more are."""

    __slots__ = ("_looked_at", "_seen", "_untold")

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], list[object]] = {}
        self._untold: list[list[object]] = []
        self._looked_at = 0.0

    def restart(self) -> None:
        """Whoever listens knows nothing yet."""
        self._untold = list(self._seen.values())

    def look(self, recent: Recent, now: float) -> None:
        """Look at what ended since the last time."""
        since, self._looked_at = self._looked_at, now
        for seen in islice(recent.newest(), MAX_LOOKED):
            if seen.ended_at <= since:
                return
            if seen.is_client or not seen.method:
                continue
            key = (seen.method[:20], class_of(seen))
            if key in self._seen or len(self._seen) >= MAX_CLASSES:
                continue
            self._seen[key] = [*key, seen.edge.key.source, seen.status]
            self._untold.append(self._seen[key])

    def take(self) -> list[list[object]]:
        """What was not told yet: method, class, who asked, status."""
        told, self._untold = self._untold[:MAX_TOLD], self._untold[MAX_TOLD:]
        return told
