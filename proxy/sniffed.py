"""A connection to a port declared `auto`: its first bytes tell what it becomes, or that none come does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from proxy.http.sniff import Spoken, spoken
from proxy.net.listener import Accepted
from proxy.sides import Shared
from proxy.waiting import Waiting

__all__ = ["SNIFF_TIMEOUT_S", "Sniffed"]

SNIFF_TIMEOUT_S = 1.0
"""A client that says nothing for so long waits for its server to begin: opaque (Linkerd 10 s)."""


class Sniffed(Waiting):
    """Args:
    become: makes the protocol that the connection has from then on.
    """

    def __init__(self, shared: Shared, become: Callable[[Spoken, asyncio.BaseTransport], Accepted]) -> None:
        super().__init__()
        self._shared = shared
        self._become = become
        self._first = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.wait(transport, self._shared.wheel, SNIFF_TIMEOUT_S, lambda: self._go_on(Spoken.OPAQUE))

    def data_received(self, data: bytes) -> None:
        self._first += data
        found = spoken(self._first)
        if found is not None:
            self._go_on(found)

    def eof_received(self) -> bool | None:
        self._go_on(Spoken.OPAQUE)
        return cast("asyncio.Protocol", self._transport.get_protocol()).eof_received()

    def _go_on(self, found: Spoken) -> None:
        self.settle()
        if not self._transport.is_closing():
            self.hand_over(self._transport, self._become(found, self._transport), self._first)
