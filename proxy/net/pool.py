"""Live clusters: hosts with their pools of idle connections, and the limits of the whole.

A host survives the snapshots as long as its endpoint does, and with it connections, health and load.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

from meshpy.model.endpoint import Cluster, Endpoint, Protocol, Transport
from meshpy.model.resilience import LoadBalancing
from proxy.decide.balance import Balancer, Latency
from proxy.decide.hosts import Choice, Place
from proxy.decide.outlier import Health
from proxy.decide.retry import IDEMPOTENT
from proxy.net.connection import Client, UpstreamConnection
from proxy.net.dial import Dialer, DialError
from proxy.net.h2_connection import H2Connection, UpstreamStream
from proxy.net.h2_pool import StreamPool
from proxy.net.standing import Standing
from proxy.net.timers import Wheel
from proxy.net.tls import ALPN_HTTP

__all__ = ["Host", "Surroundings", "Upstream"]

_SWEEP_S = 5.0
_MAX_IDLE_S = 590.0
"""Below the 600 s at which many servers, and the 900 s at which Swarm's IPVS, forget a connection."""
_EXPIRY_MARGIN_S = 5.0
_BUILD_SLOTS = 1000
"""Slots of a Maglev table that are filled at once: about a millisecond."""


class Surroundings:
    """What all clusters of a process share.

    Args:
        draw: uniform numbers of [0, 1).
    """

    __slots__ = ("dialer", "draw", "loop", "place", "tasks", "wheel")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, wheel: Wheel, dialer: Dialer, draw: Callable[[], float]
    ) -> None:
        self.loop = loop
        self.wheel = wheel
        self.dialer = dialer
        self.draw = draw
        self.place = Place()
        self.tasks: set[asyncio.Task[None]] = set()

    def own(self, task: asyncio.Task[None]) -> None:
        """Keep a task until it is done; `close` cancels what is left."""
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def close(self) -> None:
        """Cancel and await every task."""
        tasks = tuple(self.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Upstream(Standing):
    """A cluster in use.

    `affinity` is what of a request decides its host. Without health, hashing, locality and warm-up there is
    no `_choice`: every host may be chosen.
    """

    __slots__ = (
        "_balancer",
        "_choice",
        "affinity",
        "connections",
        "is_multiplexed",
        "is_resolved",
        "is_straight",
        "pending",
    )

    def __init__(self, cluster: Cluster, own: Surroundings) -> None:
        super().__init__(own)
        self.hosts: list[Host] = [Host(self, endpoint) for endpoint in cluster.endpoints]
        self.connections = 0
        self.pending = 0
        self.is_resolved = not cluster.dns
        self._take(cluster)

    def _take(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.affinity = cluster.affinity
        if cluster.health_check is None:
            for host in self.hosts:
                host.health.is_failing = False
        self.is_multiplexed = _is_multiplexed(cluster)
        self.counts_requests = cluster.pool.retry_budget.interval_s > 0
        self.is_straight = cluster.affinity is None and not self.is_multiplexed
        self._balancer: Balancer[Host] = Balancer(cluster.load_balancing, self.own.draw)
        self._is_judged = cluster.outlier is not None or cluster.load_balancing is LoadBalancing.PEAK_EWMA
        is_plain = not (cluster.outlier or cluster.health_check or cluster.affinity or cluster.locality)
        self._choice: Choice[Host] | None = None
        if not is_plain or cluster.warmup or cluster.load_balancing is LoadBalancing.PEAK_EWMA:
            self._choice = Choice(cluster, self.own.draw)
            self._replace_hosts()

    def update(self, cluster: Cluster) -> None:
        """Take a new version of the cluster; hosts whose endpoint stays keep everything."""
        is_redialled = (
            cluster.transport is not self.cluster.transport
            or _is_multiplexed(cluster) is not self.is_multiplexed
        )
        if replace(cluster, endpoints=()) != replace(self.cluster, endpoints=()):
            self._take(cluster)
        self.cluster = cluster
        if is_redialled:
            self.set_endpoints(())
        if not cluster.dns:
            self.set_endpoints(cluster.endpoints)

    def set_endpoints(self, endpoints: Iterable[Endpoint]) -> None:
        """Replace the endpoints; removed hosts finish what they are busy with."""
        kept = {host.endpoint: host for host in self.hosts}
        joined_at = self.own.loop.time() if self.hosts else -math.inf
        before = self.hosts
        self.hosts = [
            kept.pop(endpoint) if endpoint in kept else Host(self, endpoint, joined_at)
            for endpoint in endpoints
        ]
        for host in kept.values():
            host.retire()
        if self._choice is not None and self.hosts != before:
            self._replace_hosts()

    def _replace_hosts(self) -> None:
        choice = self._choice
        if choice is not None:
            choice.replace(self.hosts, self.own.loop.time(), self.own.place)
            if choice.growing is not None:
                self.own.loop.call_soon(self._grow, choice)

    def _grow(self, choice: Choice[Host]) -> None:
        """Build a Maglev table bit by bit: whole it would hold everything else up for a tenth of a second."""
        if choice is self._choice and not choice.grow(_BUILD_SLOTS):
            self.own.loop.call_soon(self._grow, choice)

    @property
    def is_building(self) -> bool:
        """Whether its first hash table is not there yet."""
        return self._choice is not None and self._choice.is_building

    def refresh(self) -> None:
        """The health of a host, or where this sidecar is, has changed."""
        if self._choice is not None:
            self._choice.refresh(self.own.loop.time(), self.own.place)

    def pick(
        self, avoid: Collection[Host], key: int | None = None, *, is_remote: bool = False
    ) -> Host | None:
        """An endpoint for the next try; None when there is none.

        Args:
            key: of consistent hashing.
            is_remote: other localities than the nearest may be taken.
        """
        choice = self._choice
        if choice is None:
            hosts = self.hosts
            return hosts[0] if len(hosts) == 1 else self._balancer.pick(hosts, avoid)
        now = self.own.loop.time()
        if choice.is_due(now):
            choice.refresh(now, self.own.place)
        return choice.pick(now, avoid, key, is_remote=is_remote)

    def retire_connections(self) -> None:
        """Reuse no connection that is open now (the certificate was renewed)."""
        for host in self.hosts:
            host.retire()

    def cut(self, is_cut: Callable[[UpstreamConnection | H2Connection], bool]) -> None:
        """Close connections that may live no longer, busy ones too."""
        for host in self.hosts:
            for connection in [each for each in host.open if is_cut(each)]:
                connection.transport.abort()

    def sweep(self) -> None:
        """Close connections idle for too long or near the end of a certificate."""
        now = self.own.loop.time()
        for host in self.hosts:
            host.sweep(now)


def _is_multiplexed(cluster: Cluster) -> bool:
    """Whether HTTP/2 is spoken to it whatever the client speaks."""
    if cluster.protocol in (Protocol.HTTP2, Protocol.GRPC):
        return True
    return (
        cluster.pool.h2_upgrade and cluster.protocol is Protocol.HTTP and cluster.transport is Transport.MTLS
    )


class Host:
    """One endpoint: its open connections, who waits for one, its health.

    `streams` are the connections of HTTP/2, once there were any; all else is of HTTP/1.1.
    """

    __slots__ = (
        "active",
        "dialing",
        "endpoint",
        "health",
        "idle",
        "joined_at",
        "latency",
        "name",
        "open",
        "streams",
        "upstream",
        "waiting",
    )

    def __init__(self, upstream: Upstream, endpoint: Endpoint, joined_at: float = -math.inf) -> None:
        self.upstream = upstream
        self.joined_at = joined_at
        self.latency = Latency()
        self.endpoint = endpoint
        self.name = f"{endpoint.address}:{endpoint.port}"
        self.active = 0
        self.dialing = 0
        self.health = Health()
        self.idle: list[UpstreamConnection] = []
        self.open: set[UpstreamConnection | H2Connection] = set()
        self.streams: StreamPool | None = None
        self.waiting: deque[Client] = deque()

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
        while idle:
            connection = idle.pop()
            if connection.is_open and not connection.transport.is_closing():
                if client.head.method in IDEMPOTENT or connection.is_quiet():
                    return connection
                connection.abort()
        if upstream.pending >= pool.max_pending_requests:
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
            if self.streams is not None:
                self.streams.give_up(client)
            return
        self.upstream.pending -= 1

    def _dial_if_needed(self) -> None:
        upstream = self.upstream
        if len(self.waiting) <= self.dialing:
            return
        # One connection per host is always allowed, or a host without any would be waited for in vain.
        if upstream.connections >= upstream.cluster.pool.max_connections and (self.open or self.dialing):
            upstream.stats.overflow["connections"] += 1
            return
        self.dialing += 1
        upstream.connections += 1
        own = upstream.own
        own.own(own.loop.create_task(self._dial()))

    async def _dial(self) -> None:
        own = self.upstream.own
        credentials = own.dialer.credentials.value
        connection: UpstreamConnection | None = None
        reason = "connection termination"
        try:
            connection = await own.dialer.dial(
                self.upstream.cluster,
                self.endpoint,
                lambda: UpstreamConnection(self, own.loop),
                alpn=ALPN_HTTP,
            )
        except DialError as error:
            reason = str(error)
            self.upstream.stats.connect_failures += 1
        finally:
            self.dialing -= 1
            if connection is None or not connection.is_open:
                self.upstream.connections -= 1
        if connection is None or not connection.is_open:
            self._fail_one(reason)
            return
        connection.generation = credentials.generation if credentials is not None else 0
        self.open.add(connection)
        self.offer(connection)

    def _fail_one(self, reason: str) -> None:
        if self.waiting:
            self.upstream.pending -= 1
            self.waiting.popleft().on_connect_failure(reason)
        self._dial_if_needed()

    def offer(self, connection: UpstreamConnection) -> None:
        """A connection is free: the one who waited longest gets it."""
        if self.waiting:
            self.upstream.pending -= 1
            self.waiting.popleft().on_connection(connection)
            return
        connection.idle_since = self.upstream.own.loop.time()
        self.idle.append(connection)

    def release(self, connection: UpstreamConnection) -> None:
        """An exchange is over and the connection is between two messages."""
        connection.client = None
        limit = self.upstream.cluster.pool.max_requests_per_connection
        if connection.is_retired or (limit and connection.served >= limit) or connection.parser.has_leftover:
            connection.close()
        elif self.waiting:
            self.offer(connection)
        else:
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
        self._dial_if_needed()

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
