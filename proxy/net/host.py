"""One endpoint of a cluster in use: its connections, who waits for one, its health."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final

from meshpy.model.endpoint import Endpoint
from proxy.decide.balance import Latency
from proxy.decide.outlier import Health
from proxy.decide.retry import IDEMPOTENT
from proxy.net.connection import Client, UpstreamConnection
from proxy.net.h2_connection import H2Connection, UpstreamStream
from proxy.net.h2_pool import StreamPool
from proxy.net.queue import Queue
from proxy.net.tls import ALPN_HTTP

if TYPE_CHECKING:
    from proxy.net.pool import Upstream

__all__ = ["Host"]

_SWEEP_S: Final = 5.0
_MAX_IDLE_S: Final = 590.0
"""Below the 600 s at which many servers, and the 900 s at which Swarm's IPVS, forget a connection."""
_EXPIRY_MARGIN_S: Final = 5.0


class Host(Queue[UpstreamConnection]):
    """One endpoint: its open connections, who waits for one, its health.

    `streams` are the connections of HTTP/2, once there were any; all else is of HTTP/1.1.
    """

    __slots__ = (
        "active",
        "health",
        "idle",
        "joined_at",
        "latency",
        "name",
        "open",
        "streams",
    )

    def __init__(self, upstream: Upstream, endpoint: Endpoint, joined_at: float = -math.inf) -> None:
        super().__init__(upstream, endpoint, ALPN_HTTP)
        self.joined_at = joined_at
        self.latency = Latency()
        self.name = f"{endpoint.address}:{endpoint.port}"
        self.active = 0
        self.health = Health()
        self.idle: list[UpstreamConnection] = []
        self.open: set[UpstreamConnection | H2Connection] = set()
        self.streams: StreamPool | None = None

    def acquire(self, client: Client) -> UpstreamConnection | UpstreamStream | None:
        """The connection used last, or a stream of a shared one, or None: the client is told when one is
        there, or when none could be made.

        Raises:
            OverflowError: more would wait than the cluster allows.
        """
        upstream = self.upstream
        pool = upstream.cluster.pool
        if upstream.is_multiplexed or (pool.use_client_protocol and client.head.minor == 2):
            streams = self.streams
            if streams is None:
                streams = self.streams = StreamPool(self)
            return streams.acquire(client)
        idle = self.idle
        # Who has met a dead one gets a fresh one: a server that closes kept connections closes them in rows.
        while idle and not client.silent_retries:
            connection = idle.pop()
            if connection.is_open and not connection.transport.is_closing():
                if client.head.method in IDEMPOTENT or connection.is_quiet():
                    return connection
                connection.abort()
        self.wait(client)
        return None

    def give_up(self, client: Client) -> bool:
        """A client waits no longer, neither for a connection nor for a stream."""
        return super().give_up(client) or (self.streams is not None and self.streams.give_up(client))

    def has_enough(self) -> bool:
        return len(self.waiting) <= self.dialing

    def has_any(self) -> bool:
        return bool(self.open or self.dialing)

    def make(self) -> UpstreamConnection:
        return UpstreamConnection(self, self.upstream.own.loop)

    def on_dialed(self, connection: UpstreamConnection) -> None:
        self.open.add(connection)
        self.offer(connection)

    def on_dial_failure(self, reason: str) -> None:
        if self.waiting:
            self.take_next().on_connect_failure(reason)
        self.dial_if_needed()

    def offer(self, connection: UpstreamConnection) -> None:
        """A connection is free: the one who waited longest gets it."""
        if self.waiting:
            self.take_next().on_connection(connection)
        else:
            self._keep(connection)

    def release(self, connection: UpstreamConnection) -> None:
        """An exchange is over and the connection is between two messages."""
        connection.client = None
        limit = self.upstream.cluster.pool.max_requests_per_connection
        if connection.is_retired or (limit and connection.served >= limit) or connection.parser.has_leftover:
            connection.close()
        elif self.waiting and not (self.dialing and self.waiting[0].silent_retries):
            if self.waiting[0].head.method in IDEMPOTENT or connection.is_quiet():
                self.offer(connection)
            else:
                connection.abort()
        else:
            self._keep(connection)

    def _keep(self, connection: UpstreamConnection) -> None:
        connection.idle_since = self.upstream.own.loop.time()
        self.idle.append(connection)

    def detach(self, connection: UpstreamConnection) -> None:
        """A connection became a tunnel: it is no longer of the pool."""
        self.forget(connection)

    def forget(self, connection: UpstreamConnection | H2Connection) -> None:
        """A connection has ended."""
        if connection in self.open:
            self.open.discard(connection)
            self.upstream.connections -= 1
        if isinstance(connection, UpstreamConnection) and connection in self.idle:
            self.idle.remove(connection)
        self.dial_if_needed()

    def retire(self) -> None:
        """Close idle connections now and busy ones after their exchange."""
        for connection in self.open:
            connection.is_retired = True
        if self.streams is not None:
            self.streams.retire()
        idle, self.idle = self.idle, []
        for unused in idle:
            unused.close()

    def sweep(self, now: float) -> None:
        """Close what is idle for too long; retire what is too old or near the end of its certificate."""
        pool = self.upstream.cluster.pool
        idle_limit = min(pool.idle_timeout_s, _MAX_IDLE_S)
        wall = time.time()
        for connection in self.open:
            certificate = connection.certificate
            ends_soon = certificate is not None and certificate.not_after - wall < _EXPIRY_MARGIN_S + _SWEEP_S
            is_old = (
                pool.max_connection_duration_s is not None
                and now - connection.opened_at > pool.max_connection_duration_s
            )
            connection.is_retired = connection.is_retired or ends_soon or is_old
        if self.streams is not None:
            self.streams.sweep(now, idle_limit)
        done = [each for each in self.idle if each.is_retired or now - each.idle_since > idle_limit]
        for unused in done:
            self.idle.remove(unused)
            unused.close()
