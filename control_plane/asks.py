"""What all sidecars are asked at once: numbered frames, so that each stream sends those it has not sent."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

__all__ = ["Asks"]

MAX_FRAMES = 256


class Asks:
    """`changed` wakes the streams. A stream that was away has missed what was asked meanwhile."""

    def __init__(self) -> None:
        self._frames: deque[str] = deque(maxlen=MAX_FRAMES)
        self.newest = 0
        self.changed: Callable[[], None] = lambda: None

    def ask(self, frame: str) -> None:
        """Have every connected sidecar asked."""
        self._frames.append(frame)
        self.newest += 1
        self.changed()

    def since(self, number: int) -> list[str]:
        """What was asked after that number; of very much the newest."""
        missed = min(self.newest - number, len(self._frames))
        return list(self._frames)[len(self._frames) - missed :]
