"""Live clusters: hosts with their pools of idle connections, and the limits of the whole.

A host survives the snapshots as long as its endpoint does, and with it connections, health and load.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable

from meshpy.model.endpoint import Cluster, Endpoint
from proxy.decide.balance import Balancer
from proxy.decide.outlier import Health, Reply, eligible, record
from proxy.net.connection import Client, UpstreamConnection
from proxy.net.dial import Dialer, DialError
from proxy.net.timers import Wheel

__all__ = ["Host", "Surroundings", "Upstream"]

_SWEEP_S = 5.0
_MAX_IDLE_S = 590.0
"""Below the 600 s at which many servers, and the 900 s at which Swarm's IPVS, forget a connection."""
_EXPIRY_MARGIN_S = 5.0


class Surroundings:
    """What all clusters of a process share.

    Args:
        draw: uniform numbers of [0, 1).
    """

    __slots__ = ("dialer", "draw", "loop", "tasks", "wheel")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, wheel: Wheel, dialer: Dialer, draw: Callable[[], float]
    ) -> None:
        self.loop = loop
        self.wheel = wheel
        self.dialer = dialer
        self.draw = draw
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


class Upstream:
    """A cluster in use."""

    __slots__ = (
        "active_requests",
        "active_retries",
        "balancer",
        "cluster",
        "connections",
        "hosts",
        "is_resolved",
        "own",
        "pending",
    )

    def __init__(self, cluster: Cluster, own: Surroundings) -> None:
        self.own = own
        self.cluster = cluster
        self.hosts: list[Host] = [Host(self, endpoint) for endpoint in cluster.endpoints]
        self.balancer: Balancer[Host] = Balancer(cluster.load_balancing, own.draw)
        self.active_requests = 0
        self.active_retries = 0
        self.connections = 0
        self.pending = 0
        self.is_resolved = not cluster.dns

    def update(self, cluster: Cluster) -> None:
        """Take a new version of the cluster; hosts whose endpoint stays keep everything."""
        if cluster.load_balancing is not self.cluster.load_balancing:
            self.balancer = Balancer(cluster.load_balancing, self.own.draw)
        is_redialled = cluster.transport is not self.cluster.transport
        self.cluster = cluster
        if is_redialled:
            self.set_endpoints(())
        if not cluster.dns:
            self.set_endpoints(cluster.endpoints)

    def set_endpoints(self, endpoints: Iterable[Endpoint]) -> None:
        """Replace the endpoints; removed hosts finish what they are busy with."""
        kept = {host.endpoint: host for host in self.hosts}
        self.hosts = [
            kept.pop(endpoint) if endpoint in kept else Host(self, endpoint) for endpoint in endpoints
        ]
        for host in kept.values():
            host.retire()

    def pick(self, avoid: Collection[Host]) -> Host | None:
        """An endpoint for the next try; None when there is none."""
        hosts = self.hosts
        if len(hosts) == 1 and self.cluster.outlier is None:
            return hosts[0]
        healthy = eligible(hosts, self.cluster.outlier, self.own.loop.time())
        return self.balancer.pick(healthy, avoid)

    def judge(self, host: Host, reply: Reply) -> None:
        """Tell outlier detection what became of a try."""
        outlier = self.cluster.outlier
        if outlier is not None:
            record(host, self.hosts, outlier, reply, self.own.loop.time())

    def retire_connections(self) -> None:
        """Reuse no connection that is open now (the certificate was renewed)."""
        for host in self.hosts:
            host.retire()

    def cut(self, is_cut: Callable[[UpstreamConnection], bool]) -> None:
        """Close connections that may live no longer, busy ones too."""
        for host in self.hosts:
            for connection in [each for each in host.open if is_cut(each)]:
                connection.transport.abort()

    def sweep(self) -> None:
        """Close connections idle for too long or near the end of a certificate."""
        now = self.own.loop.time()
        for host in self.hosts:
            host.sweep(now)


class Host:
    """One endpoint: its open connections, who waits for one, its health."""

    __slots__ = ("active", "dialing", "endpoint", "health", "idle", "name", "open", "upstream", "waiting")

    def __init__(self, upstream: Upstream, endpoint: Endpoint) -> None:
        self.upstream = upstream
        self.endpoint = endpoint
        self.name = f"{endpoint.address}:{endpoint.port}"
        self.active = 0
        self.dialing = 0
        self.health = Health()
        self.idle: list[UpstreamConnection] = []
        self.open: set[UpstreamConnection] = set()
        self.waiting: deque[Client] = deque()

    def acquire(self, client: Client) -> UpstreamConnection | None:
        """The connection used last, or None: the client is told when one is there, or when none could be
        made.

        Raises:
            OverflowError: more would wait than the cluster allows.
        """
        idle = self.idle
        while idle:
            connection = idle.pop()
            if connection.is_open and not connection.transport.is_closing():
                return connection
        upstream = self.upstream
        pool = upstream.cluster.pool
        if upstream.pending >= pool.max_pending_requests:
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
        self.upstream.pending -= 1

    def _dial_if_needed(self) -> None:
        upstream = self.upstream
        if len(self.waiting) <= self.dialing:
            return
        # One connection per host is always allowed, or a host without any would be waited for in vain.
        if upstream.connections >= upstream.cluster.pool.max_connections and (self.open or self.dialing):
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
                self.upstream.cluster, self.endpoint, lambda: UpstreamConnection(self, own.loop), is_http=True
            )
        except DialError as error:
            reason = str(error)
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
            return
        self.offer(connection)

    def detach(self, connection: UpstreamConnection) -> None:
        """A connection became a tunnel: it is no longer of the pool."""
        self.forget(connection)

    def forget(self, connection: UpstreamConnection) -> None:
        """A connection has ended."""
        if connection in self.open:
            self.open.discard(connection)
            self.upstream.connections -= 1
        if connection in self.idle:
            self.idle.remove(connection)
        self._dial_if_needed()

    def retire(self) -> None:
        """Close idle connections now and busy ones after their exchange."""
        for connection in self.open:
            connection.is_retired = True
        idle, self.idle = self.idle, []
        for connection in idle:
            connection.close()

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
        done = [each for each in self.idle if each.is_retired or now - each.idle_since > idle_limit]
        for connection in done:
            self.idle.remove(connection)
            connection.close()
