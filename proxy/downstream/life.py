"""The life of an accepted connection that speaks HTTP: opened, watched by one timer, handed over or ended."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Final, cast

from proxy.net.listener import Accepted, Ticket
from proxy.net.timers import Timer
from proxy.sides import Role, Shared

if TYPE_CHECKING:
    from proxy.exchange import Exchange
    from proxy.recent import Alike

__all__ = ["HttpConnection"]

HEAD_TIMEOUT_S = 10.0
"""For a request head from its first byte; for the preface and a header block of HTTP/2 (slowloris)."""
STALL_S = 60.0
"""For content that does not come, and for an answer that its client does not read."""
IDLE_TIMEOUT_S = 590.0
CHECK_S = 2.0
_HIGH_WATER_BYTES: Final = 64 * 1024


class HttpConnection:
    """An `asyncio.Protocol` in all but name: a class of the loop's would cost its compiled twin the speed.

    Invariants: in `own.open` from `open` until `leave`; `is_last` once no further request is served.

    Args:
        memo: what was decided for the connection's requests; cleared with the configuration.
        alike: what the last exchange has in common with others.
        context: what the role knows of the caller.
        expiry: runs while the peer's certificate does.
    """

    def __init__(self, role: Role, shared: Shared) -> None:
        self.role = role
        self.own = shared
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)
        self.peer_address = ""
        self.local_address = ""
        self.memo: dict[object, object] = {}
        self.alike: Alike | None = None
        self.context: object = None
        self.is_last = False
        self.is_closed = False
        self.active_at = monotonic()
        self.ticket: Ticket | None = None
        self.expiry: Timer | None = None
        self._timer: Timer | None = None

    def check(self) -> None:
        """Look whether the peer is too slow; every CHECK_S."""
        raise NotImplementedError

    def recheck(self) -> None:
        """The configuration has changed."""
        raise NotImplementedError

    def begin_drain(self) -> None:
        """The process will end: tell the peer, where the protocol has a word for it."""
        raise NotImplementedError

    def drain(self) -> None:
        """Begin nothing new; end when idle."""
        raise NotImplementedError

    def shrink(self) -> None:
        """Memory is short: end with what is in progress."""
        raise NotImplementedError

    def exchanges(self) -> list[Exchange]:
        """Those in progress."""
        raise NotImplementedError

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop, or a door, gives the transport."""
        raise NotImplementedError

    def data_received(self, data: bytes) -> None:
        """The peer has sent bytes."""
        raise NotImplementedError

    def eof_received(self) -> bool:
        """The peer sends no more; False ends the connection."""
        return False

    def as_protocol(self) -> Accepted:
        """For the loop and the doors, which ask for the methods and not for the class."""
        return cast("Accepted", self)

    def open(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport; to be called first in `connection_made`."""
        self.transport = cast("asyncio.Transport", transport)
        self.transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES)
        self.peer_address = self.own.peer_of(transport)
        local = transport.get_extra_info("sockname")
        self.local_address = f"{local[0]}:{local[1]}" if local else ""
        self.own.open.add(self)
        self.check_again()
        self.role.name_peer(self)

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
        self.forget_expiry()
        if self.ticket is not None:
            self.ticket.release()

    def forget_expiry(self) -> None:
        """Whoever has ended must not be kept until its certificate has."""
        if self.expiry is not None:
            self.expiry.cancel()
            self.expiry = None

    def cut(self) -> None:
        """The peer may not speak any more."""
        self.transport.abort()

    def expire(self) -> None:
        """The peer's certificate has ended, and with it the connection."""
        if not self.is_closed:
            self.transport.abort()
