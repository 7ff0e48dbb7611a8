"""Live clusters: their hosts, which of them is next, and the limits of the whole.

A host survives the snapshots as long as its endpoint does, and with it connections, health and load.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import Final

from meshpy.model.endpoint import Cluster, Endpoint, Protocol, Transport
from meshpy.model.resilience import LoadBalancing
from proxy.decide.balance import Balancer
from proxy.decide.hosts import Choice, Place
from proxy.net.connection import UpstreamConnection
from proxy.net.dial import Dialer
from proxy.net.h2_connection import H2Connection
from proxy.net.host import Host
from proxy.net.standing import Standing
from proxy.net.timers import Wheel

__all__ = ["Surroundings", "Upstream"]

_BUILD_SLOTS: Final = 1000
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
        listed = () if cluster.dns else cluster.endpoints
        self.hosts: list[Host] = [Host(self, endpoint) for endpoint in listed]
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
