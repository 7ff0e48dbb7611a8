"""The shared HTTP/2 connections to one endpoint: as few as can carry what is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.net.connection import Client
from proxy.net.h2_connection import H2Connection, UpstreamStream
from proxy.net.queue import Queue
from proxy.net.tls import ALPN_H2

if TYPE_CHECKING:
    from proxy.net.host import Host

__all__ = ["StreamPool"]


class StreamPool(Queue[H2Connection]):
    """Invariant: while somebody waits, a connection is being dialled or every open one is full."""

    __slots__ = ("connections", "host")

    def __init__(self, host: Host) -> None:
        super().__init__(host.upstream, host.endpoint, ALPN_H2)
        self.host = host
        self.connections: list[H2Connection] = []

    def acquire(self, client: Client) -> UpstreamStream | None:
        """A stream of a connection with room, or None: the client is told when there is one.

        Raises:
            OverflowError: more would wait than the cluster allows.
        """
        for connection in self.connections:
            if connection.has_room:
                return connection.open_stream()
        self.wait(client)
        return None

    def has_enough(self) -> bool:
        return self.dialing > 0

    def has_any(self) -> bool:
        return bool(self.connections or self.host.open)

    def make(self) -> H2Connection:
        return H2Connection(self, self.upstream.own.loop, b"http")

    def on_dialed(self, connection: H2Connection) -> None:
        self.host.open.add(connection)
        self.connections.append(connection)
        self.serve(connection)
        self.dial_if_needed()

    def on_dial_failure(self, reason: str) -> None:
        """One dial was for all who wait: all of them are told, each may have another endpoint to try."""
        waiting = [self.take_next() for _ in range(len(self.waiting))]
        for client in waiting:
            client.on_connect_failure(reason)

    def serve(self, connection: H2Connection) -> None:
        """Give streams to those who wait."""
        while self.waiting and connection.has_room:
            self.take_next().on_connection(connection.open_stream())

    def forget(self, connection: H2Connection) -> None:
        """A connection has ended."""
        self.host.forget(connection)
        if connection in self.connections:
            self.connections.remove(connection)
        self.dial_if_needed()

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
