"""The seam around an exchange: what it sees of the side that asks and of the side that answers.

An exchange knows heads, content and ends; how they look on the wire is its sides' affair. HTTP/1.1 is one
implementation: `downstream.h1.Downstream` (a connection serves one exchange at a time) and
`net.connection.UpstreamConnection`.
"""

from __future__ import annotations

import asyncio
import math
import weakref
from collections.abc import Callable, Collection
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from proxy.decide.headers import Ids
from proxy.http.events import Header, Headers
from proxy.http.head import RequestHead, ResponseHead
from proxy.net.connection import UpstreamSide
from proxy.net.timers import Wheel
from proxy.plan import Plan, Reply

if TYPE_CHECKING:
    from proxy.consult import Consultation
    from proxy.downstream.life import HttpConnection
    from proxy.exchange import Exchange
    from proxy.tunnel import Splice

__all__ = ["DownstreamSide", "Role", "Shared"]


class DownstreamSide(Protocol):
    """Who asked, as an exchange sees it.

    Response parts are gathered until `flush_response`, so that head and content leave in one write.
    """

    own: Shared

    @property
    def connection(self) -> HttpConnection:
        """The connection that it belongs to."""

    @property
    def held_bytes(self) -> int:
        """What waits to be read by the client."""

    tells_not_sent: bool

    takes_whole: bool
    """Whether `send_whole` may be called."""

    def pause_request(self) -> None:
        """Take no more content from the client for now."""

    def resume_request(self) -> None:
        """Content is wanted again."""

    def send_interim(self, head: ResponseHead) -> None:
        """A 1xx head."""

    def send_head(
        self, exchange: Exchange, head: ResponseHead, extra: Headers, drop: Collection[bytes]
    ) -> None:
        """The head of the final response."""

    def send_whole(
        self, exchange: Exchange, head: ResponseHead, drop: Collection[bytes], content: memoryview
    ) -> None:
        """The final response, all of it."""

    def send_body(self, data: bytes | memoryview) -> None:
        """Content of the response."""

    def send_end(self, trailers: tuple[Header, ...]) -> None:
        """The response is complete."""

    def flush_response(self) -> None:
        """Write what was gathered."""

    def write_reply(self, exchange: Exchange, reply: Reply) -> int:
        """Write an answer of the mesh's own; returns the bytes of its content."""

    def on_exchange_over(self, exchange: Exchange) -> None:
        """The answer is complete."""

    def on_broken(self, exchange: Exchange) -> None:
        """The answer broke off: the client must be able to tell."""

    def account(self, exchange: Exchange) -> None:
        """Log and count it."""

    def switch(self, exchange: Exchange, upstream: UpstreamSide, head: ResponseHead, plan: Plan) -> None:
        """Become a tunnel after 101."""


class Role:
    """What distinguishes the app's calls from calls to the app."""

    tells_not_sent = False

    @property
    def allows_connect(self) -> bool:
        """Whether CONNECT is a method here; asked once, when a connection of HTTP/1.1 is made."""
        raise NotImplementedError

    def decide(self, down: HttpConnection, head: RequestHead) -> Plan | Reply | Consultation:
        """Route and authorize a request, or say whom to ask first."""
        raise NotImplementedError

    def rejudge(self, down: HttpConnection, head: RequestHead) -> Plan | Reply:
        """As `decide`, of a request that was let in before: the configuration has changed."""
        raise NotImplementedError

    def write_fields(self, down: HttpConnection, exchange: Exchange, extra: Headers) -> list[bytes]:
        """Fields of the mesh for the upstream; returns received names to drop."""
        raise NotImplementedError

    def is_still_admitted(self, down: HttpConnection) -> bool:
        """Whether the peer may go on after a change of configuration."""
        raise NotImplementedError

    def account(self, down: HttpConnection, exchange: Exchange) -> None:
        """Log and count an exchange that is over."""
        raise NotImplementedError

    def name_peer(self, down: HttpConnection) -> None:
        """Learn who is calling, once, when the connection is made."""
        raise NotImplementedError


_CROWDED_S, _CROWDED_IDLE_S = 1.0, 0.5
"""How long a connection may be silent while others wait to be accepted."""


class Shared:
    """What all connections of a process share.

    Args:
        draw: uniform numbers of [0, 1).
        is_draining: the process was told to stop: answer, then close.
        claimed: who a connection is for by its PROXY header, where such a header is believed.
        is_short: of memory.
        ends_connections: each connection ends with the answer that it carries; drained, short of memory, or
            others wait to be accepted.
        refuses_requests: new requests are answered 503, for want of memory.
        max_request_bytes: of a request's content; more is answered 413.
        on_slow_peer: told when a peer takes less than it is sent, which is when buffers grow.
    """

    __slots__ = (
        "_is_crowded",
        "claimed",
        "draw",
        "ends_connections",
        "ids",
        "is_draining",
        "is_short",
        "loop",
        "max_request_bytes",
        "on_slow_peer",
        "open",
        "refuses_requests",
        "splices",
        "wheel",
    )

    def __init__(
        self, loop: asyncio.AbstractEventLoop, wheel: Wheel, draw: Callable[[], float], ids: Ids
    ) -> None:
        self.loop = loop
        self.wheel = wheel
        self.draw = draw
        self.ids = ids
        self.is_draining = self.ends_connections = self.refuses_requests = False
        self.is_short = self._is_crowded = False
        self.max_request_bytes = math.inf
        self.on_slow_peer: Callable[[], None] = _ignore
        self.open: set[HttpConnection] = set()
        self.splices: set[Splice] = set()
        self.claimed: weakref.WeakKeyDictionary[asyncio.BaseTransport, str] = weakref.WeakKeyDictionary()

    def make_room(self) -> None:
        """Somebody waits for a place: silent connections are ended now, the others with their answer."""
        if not self._is_crowded:
            self._is_crowded = True
            self.settle()
            self.wheel.after(_CROWDED_S, self._is_roomy)
        now = monotonic()
        for down in tuple(self.open):
            if now - down.active_at > _CROWDED_IDLE_S and not down.exchanges():
                down.drain()

    def _is_roomy(self) -> None:
        self._is_crowded = False
        self.settle()

    def settle(self) -> None:
        """Have connections kept alive, or not, by what is the case now."""
        self.ends_connections = self.is_draining or self.is_short or self._is_crowded

    def peer_of(self, transport: asyncio.BaseTransport) -> str:
        """The address at the other end; empty when it is none."""
        if self.claimed and (claimed := self.claimed.get(transport)) is not None:
            return claimed
        peer = transport.get_extra_info("peername")
        return str(peer[0]) if peer else ""


def _ignore() -> None:
    """Nobody watches over memory."""
