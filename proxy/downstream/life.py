"""The life of an accepted connection that speaks HTTP: opened, watched by one timer, handed over or ended."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import cast

from proxy.net.listener import Accepted
from proxy.net.timers import Timer
from proxy.sides import Role, Shared

__all__ = ["HttpConnection"]

HEAD_TIMEOUT_S = 10.0
"""For a request head from its first byte; for the preface and a header block of HTTP/2 (slowloris)."""
STALL_S = 60.0
"""For content that does not come, and for an answer that its client does not read."""
IDLE_TIMEOUT_S = 590.0
CHECK_S = 2.0
_HIGH_WATER_BYTES = 256 * 1024


class HttpConnection(Accepted):
    """Invariants: in `own.open` from `open` until `leave`; `is_last` once no further request is served."""

    def __init__(self, role: Role, shared: Shared) -> None:
        self.role = role
        self.own = shared
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)
        self.peer_address = ""
        self.local_address = ""
        self.memo: dict[object, object] = {}
        self.context: object = None
        self.is_last = False
        self.is_closed = False
        self.active_at = monotonic()
        self._timer: Timer | None = None

    def check(self) -> None:
        """Look whether the peer is too slow; every CHECK_S."""
        raise NotImplementedError

    def open(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport; to be called first in `connection_made`."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES)
        self.peer_address = self.own.peer_of(transport)
        local = transport.get_extra_info("sockname")
        self.local_address = f"{local[0]}:{local[1]}" if local else ""
        self.own.open.add(self)  # type: ignore[arg-type] # each protocol's class is a ClientConnection
        self.check_again()
        self.role.name_peer(self)  # type: ignore[arg-type]

    def check_again(self) -> None:
        """Have `check` called once more."""
        self._timer = self.own.wheel.after(CHECK_S, self.check)

    def leave(self) -> None:
        """Watch over it no more: it has ended, or somebody else goes on with it."""
        self.own.open.discard(self)
        if self._timer is not None:
            self._timer.cancel()

    def close_books(self) -> None:
        """The connection has ended."""
        self.is_closed = True
        self.leave()
        if self.ticket is not None:
            self.ticket.release()

    def cut(self) -> None:
        """The peer may not speak any more."""
        self.transport.abort()

    def expire(self) -> None:
        """The peer's certificate has ended, and with it the connection."""
        if not self.is_closed:
            self.transport.abort()
