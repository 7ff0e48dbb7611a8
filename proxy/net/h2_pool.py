"""The shared HTTP/2 connections to one endpoint: as few as can carry what is asked."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from proxy.net.connection import Client
from proxy.net.dial import DialError
from proxy.net.h2_connection import H2Connection, UpstreamStream
from proxy.net.tls import ALPN_H2

if TYPE_CHECKING:
    from proxy.net.pool import Host

__all__ = ["StreamPool"]


class StreamPool:
    """Invariant: while somebody waits, a connection is being dialled or every open one is full."""

    __slots__ = ("connections", "dialing", "host", "waiting")

    def __init__(self, host: Host) -> None:
        self.host = host
        self.connections: list[H2Connection] = []
        self.dialing = 0
        self.waiting: deque[Client] = deque()

    def acquire(self, client: Client) -> UpstreamStream | None:
        """A stream of a connection with room, or None: the client is told when there is one.

        Raises:
            OverflowError: more would wait than the cluster allows.
        """
        for connection in self.connections:
            if connection.has_room:
                return connection.open_stream()
        upstream = self.host.upstream
        if upstream.pending >= upstream.cluster.pool.max_pending_requests:
            upstream.stats.overflow["pending"] += 1
            raise OverflowError
        upstream.pending += 1
        self.waiting.append(client)
        self._dial_if_needed()
        return None

    def give_up(self, client: Client) -> None:
        """A client waits no longer."""
        try:
            self.waiting.remove(client)
        except ValueError:
            return
        self.host.upstream.pending -= 1

    def _dial_if_needed(self) -> None:
        upstream = self.host.upstream
        if not self.waiting or self.dialing:
            return
        pool = upstream.cluster.pool
        if upstream.connections >= pool.max_connections and (self.connections or self.host.open):
            upstream.stats.overflow["connections"] += 1
            return
        self.dialing += 1
        upstream.connections += 1
        own = upstream.own
        own.own(own.loop.create_task(self._dial()))

    async def _dial(self) -> None:
        host = self.host
        upstream = host.upstream
        own = upstream.own
        credentials = own.dialer.credentials.value
        connection: H2Connection | None = None
        reason = "connection termination"
        scheme = b"http"
        try:
            connection = await own.dialer.dial(
                upstream.cluster, host.endpoint, lambda: H2Connection(self, own.loop, scheme), alpn=ALPN_H2
            )
        except DialError as error:
            reason = str(error)
            upstream.stats.connect_failures += 1
        finally:
            self.dialing -= 1
            if connection is None or not connection.is_open:
                upstream.connections -= 1
        if connection is None or not connection.is_open:
            self._fail(reason)
            return
        connection.generation = credentials.generation if credentials is not None else 0
        host.open.add(connection)
        self.connections.append(connection)
        self.serve(connection)
        self._dial_if_needed()

    def _fail(self, reason: str) -> None:
        """One dial was for all who wait: all of them are told, each may have another endpoint to try."""
        waiting, self.waiting = self.waiting, deque()
        self.host.upstream.pending -= len(waiting)
        for client in waiting:
            client.on_connect_failure(reason)

    def serve(self, connection: H2Connection) -> None:
        """Give streams to those who wait."""
        while self.waiting and connection.has_room:
            self.host.upstream.pending -= 1
            self.waiting.popleft().on_connection(connection.open_stream())

    def forget(self, connection: H2Connection) -> None:
        """A connection has ended."""
        self.host.forget(connection)
        if connection in self.connections:
            self.connections.remove(connection)
        self._dial_if_needed()

    def retire(self) -> None:
        """Close idle connections now and busy ones after their last exchange."""
        for connection in list(self.connections):
            connection.retire()

    def sweep(self, now: float, idle_limit_s: float) -> None:
        """Close what is idle for too long, or retired with nothing left to carry."""
        for connection in list(self.connections):
            is_idle = not connection.codec.streams
            if is_idle and (connection.is_retired or now - connection.idle_since > idle_limit_s):
                connection.close()
