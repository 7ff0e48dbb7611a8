"""Work in bounded pieces: after each, the loop has its turn."""

from __future__ import annotations

import asyncio
from time import monotonic

__all__ = ["TURN_S", "Turns"]

TURN_S = 0.001
"""Of work at once; what one item takes comes on top."""


class Turns:
    """Work of one owner, item by item."""

    __slots__ = ("_begun_at",)

    def __init__(self) -> None:
        self._begun_at = monotonic()

    async def rest(self) -> None:
        """Let others work, when this turn has lasted long enough."""
        if monotonic() - self._begun_at >= TURN_S:
            await asyncio.sleep(0)
            self._begun_at = monotonic()
