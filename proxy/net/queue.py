"""Who waits for a connection to one endpoint, and the dials that are made for them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

from meshpy.model.endpoint import Endpoint
from proxy.net.connection import Client, UpstreamConnection
from proxy.net.dial import DialError
from proxy.net.h2_connection import H2Connection

if TYPE_CHECKING:
    from proxy.net.pool import Upstream

__all__ = ["Queue"]

C = TypeVar("C", UpstreamConnection, H2Connection)


class Queue(ABC, Generic[C]):
    """First come, first served; how many may wait and be dialled is the cluster's affair.

    Args:
        alpn: what the connections speak.
        waiting: clients that have no connection yet; each is counted in `upstream.pending`.
    """

    __slots__ = ("alpn", "dialing", "endpoint", "upstream", "waiting")

    def __init__(self, upstream: Upstream, endpoint: Endpoint, alpn: str) -> None:
        self.upstream = upstream
        self.endpoint = endpoint
        self.alpn = alpn
        self.dialing = 0
        self.waiting: deque[Client] = deque()

    @abstractmethod
    def has_enough(self) -> bool:
        """Whether the dials under way are all that those who wait need."""

    @abstractmethod
    def has_any(self) -> bool:
        """Whether a connection to this endpoint is open, or about to be."""

    @abstractmethod
    def make(self) -> C:
        """A connection that is to be made."""

    @abstractmethod
    def on_dialed(self, connection: C) -> None:
        """A connection is there."""

    @abstractmethod
    def on_dial_failure(self, reason: str) -> None:
        """A connection could not be made."""

    def wait(self, client: Client) -> None:
        """Tell the client when there is a connection, or that none could be made.

        Raises:
            OverflowError: more would wait than the cluster allows.
        """
        upstream = self.upstream
        if upstream.pending >= upstream.cluster.pool.max_pending_requests:
            upstream.stats.overflow["pending"] += 1
            raise OverflowError
        upstream.pending += 1
        self.waiting.append(client)
        self.dial_if_needed()

    def give_up(self, client: Client) -> bool:
        """A client waits no longer; False when it did not wait here."""
        try:
            self.waiting.remove(client)
        except ValueError:
            return False
        self.upstream.pending -= 1
        return True

    def take_next(self) -> Client:
        """Who has waited longest."""
        self.upstream.pending -= 1
        return self.waiting.popleft()

    def dial_if_needed(self) -> None:
        """Dial for those who wait, within the cluster's limit of connections."""
        if not self.waiting or self.has_enough():
            return
        upstream = self.upstream
        # One connection per host is always allowed, or a host without any would be waited for in vain.
        if upstream.connections >= upstream.cluster.pool.max_connections and self.has_any():
            upstream.stats.overflow["connections"] += 1
            return
        self.dialing += 1
        upstream.connections += 1
        own = upstream.own
        own.own(own.loop.create_task(self._dial()))

    async def _dial(self) -> None:
        upstream = self.upstream
        own = upstream.own
        credentials = own.dialer.credentials.value
        connection: C | None = None
        reason = "connection termination"
        try:
            connection = await own.dialer.dial(upstream.cluster, self.endpoint, self.make, alpn=self.alpn)
        except DialError as error:
            reason = str(error)
            upstream.stats.connect_failures += 1
        finally:
            self.dialing -= 1
            if connection is None or not connection.is_open:
                upstream.connections -= 1
        if connection is None or not connection.is_open:
            self.on_dial_failure(reason)
            return
        connection.generation = credentials.generation if credentials is not None else 0
        self.on_dialed(connection)
