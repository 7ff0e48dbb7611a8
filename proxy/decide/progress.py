"""Whether something still moves: seen from time to time, without a note of each step."""

from __future__ import annotations

__all__ = ["Progress"]


class Progress:
    """What was seen last, and since when it is the same."""

    __slots__ = ("_seen", "_since")

    def __init__(self) -> None:
        self._seen: object = None
        self._since = 0.0

    def still_s(self, seen: object, now: float) -> float:
        """Seconds for which it has been as it is now, as far as was looked."""
        if seen != self._seen:
            self._seen = seen
            self._since = now
        return now - self._since
