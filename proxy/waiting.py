"""An accepted connection of which something has to be known before it is anybody's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from proxy.net.listener import Accepted
from proxy.net.timers import Timer, Wheel

__all__ = ["Waiting"]


class Waiting(Accepted):
    """Waits, but not for ever; whoever knows enough calls `settle` and hands the connection over."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._timer: Timer | None = None

    def wait(
        self, transport: asyncio.BaseTransport, wheel: Wheel, within_s: float, on_late: Callable[[], None]
    ) -> None:
        """To be called in `connection_made`."""
        self._transport = cast("asyncio.Transport", transport)
        self._timer = wheel.after(within_s, on_late)

    def settle(self) -> None:
        """Nobody is late any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def connection_lost(self, exc: Exception | None) -> None:
        self.settle()
        super().connection_lost(exc)
