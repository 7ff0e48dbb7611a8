"""The hosts of a cluster, and who of them may be chosen now.

Who may be chosen changes rarely (an ejection, a failed check, a new endpoint) and is asked for every request:
so it is worked out when something changes, and a pick is O(1), or O(log n) on a ring.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

from meshpy.model.endpoint import Cluster, Endpoint
from meshpy.model.resilience import HashTable
from proxy.decide.balance import Balancer, Weighed, warm_share
from proxy.decide.hashing import Maglev, Named, Ring
from proxy.decide.locality import loads_of, ranks_of, share_of
from proxy.decide.outlier import Judged, is_in

__all__ = ["Choice", "Choosable", "Place"]


class Choosable(Weighed, Named, Judged, Protocol):
    """A host as it is chosen."""

    joined_at: float

    @property
    def endpoint(self) -> Endpoint: ...


H = TypeVar("H", bound=Choosable)


class Place:
    """Where the caller is, and where its endpoints are.

    Args:
        node: the caller's own.
        localities: node → `region/zone/subzone`.
    """

    __slots__ = ("localities", "node")

    def __init__(self, node: str = "", localities: Mapping[str, str] | None = None) -> None:
        self.node = node
        self.localities = localities or {}

    @property
    def own(self) -> str:
        return self.localities.get(self.node, "")

    def of(self, endpoint: Endpoint) -> str:
        """The locality of an endpoint, empty when it is not known."""
        return self.localities.get(endpoint.node, "")


class Choice(Generic[H]):
    """Invariant: `refresh` was called since hosts, their health or the caller's place changed.

    Args:
        draw: uniform numbers of [0, 1).
    """

    __slots__ = (
        "_balancer",
        "_cluster",
        "_draw",
        "_groups",
        "_healthy",
        "_hosts",
        "_near",
        "_next_change",
        "_shares",
        "_table",
        "_warm_until",
        "growing",
    )

    def __init__(self, cluster: Cluster, draw: Callable[[], float]) -> None:
        self._cluster = cluster
        self._draw = draw
        self._balancer: Balancer[H] = Balancer(cluster.load_balancing, draw)
        self._hosts: Sequence[H] = ()
        self._healthy: Sequence[H] = ()
        self._groups: list[Sequence[H]] = []
        self._shares: list[float] = []
        self._near: frozenset[H] = frozenset()
        self._next_change = math.inf
        self._warm_until = 0.0
        self._table: Ring[H] | Maglev[H] | None = None
        self.growing: Maglev[H] | None = None
        """A Maglev table that is being built; `grow` goes on with it."""

    # -- what changes

    def replace(self, hosts: Sequence[H], now: float, place: Place) -> None:
        """Take other hosts."""
        self._hosts = hosts
        affinity = self._cluster.affinity
        if affinity is not None and affinity.table is HashTable.MAGLEV:
            self.growing = Maglev(hosts, max(affinity.size, _prime_above(len(hosts), affinity.size)))
        elif affinity is not None:
            self._table = Ring(hosts, affinity.size)
        self.refresh(now, place)

    def grow(self, slots: int) -> bool:
        """Build on; True when the new table is in force."""
        growing = self.growing
        if growing is None or not growing.build(slots):
            return growing is None
        self._table, self.growing = growing, None
        return True

    @property
    def is_building(self) -> bool:
        """Whether there is no table yet."""
        return self._table is None and self.growing is not None

    def refresh(self, now: float, place: Place) -> None:
        """Work out anew who may be chosen."""
        cluster, hosts = self._cluster, self._hosts
        healthy = [host for host in hosts if is_in(host.health, now)]
        waits = [host.health.ejected_until for host in hosts if host.health.ejected_until > now]
        self._next_change = min(waits, default=math.inf)
        if cluster.warmup is not None:
            joined = max((host.joined_at for host in hosts), default=-math.inf)
            self._warm_until = joined + cluster.warmup.duration_s
        if len(healthy) * 100 < len(hosts) * _panic_pct(cluster):
            healthy = list(hosts)
        self._healthy = healthy
        self._groups, self._shares = self._grouped(healthy, place)
        self._near = frozenset(self._groups[0]) if self._groups else frozenset()

    def _grouped(self, healthy: Sequence[H], place: Place) -> tuple[list[Sequence[H]], list[float]]:
        setting = self._cluster.locality
        if setting is None:
            return [healthy], []
        hosts, usable = self._hosts, set(healthy)
        if setting.distribute:
            parts: dict[tuple[int, str], list[H]] = defaultdict(list)
            for host in healthy:
                parts[share_of(setting, place.own, place.of(host.endpoint))].append(host)
            weighed = [(share, members) for (share, _), members in parts.items() if share]
            total = sum(share for share, _ in weighed)
            return [members for _, members in weighed], _summed(share / total for share, _ in weighed)
        others = [(place.of(host.endpoint), host.endpoint.node) for host in hosts]
        ranks = ranks_of(setting, (place.own, place.node), others)
        levels = [
            [host for host, rank in zip(hosts, ranks, strict=True) if rank == level]
            for level in range(max(ranks, default=0) + 1)
        ]
        able = [[host for host in level if host in usable] for level in levels]
        loads = loads_of([(len(some), len(level)) for some, level in zip(able, levels, strict=True)])
        kept = [(load, some) for load, some in zip(loads, able, strict=True) if load and some]
        return [some for _, some in kept], _summed(load for load, _ in kept)

    # -- picks

    def is_due(self, now: float) -> bool:
        """Whether an ejection has ended since the last `refresh`."""
        return now >= self._next_change

    def pick(
        self, now: float, avoid: Collection[H], key: int | None = None, *, is_remote: bool = False
    ) -> H | None:
        """A host for the next try; None when none may be chosen.

        Args:
            avoid: hosts that were tried; taken only when nothing else is left.
            key: of consistent hashing; None for a request without one.
            is_remote: other localities than the nearest may be taken.
        """
        if key is not None and self._table is not None:
            near = self._near
            host = self._table.pick(key, lambda each: each in near and each not in avoid)
            return host if host is not None else self._table.pick(key, near.__contains__)
        groups = self._groups
        if is_remote:
            hosts = self._healthy
        elif len(groups) == 1:
            hosts = groups[0]
        elif groups:
            hosts = groups[bisect_right(self._shares, self._draw())]
        else:
            return None
        warmup = self._cluster.warmup
        if warmup is None or now >= self._warm_until:
            return self._balancer.pick(hosts, avoid, now)
        return self._balancer.pick(hosts, avoid, now, lambda each: warm_share(warmup, now - each.joined_at))


def _panic_pct(cluster: Cluster) -> float:
    outlier_pct = float(cluster.outlier.min_health_pct) if cluster.outlier is not None else 0.0
    return max(outlier_pct, cluster.health_check.panic_pct if cluster.health_check is not None else 0.0)


def _summed(shares: Iterable[float]) -> list[float]:
    """Upper ends of all but the last share, for bisection."""
    ends: list[float] = []
    total = 0.0
    for share in shares:
        total += share
        ends.append(total)
    return ends[:-1]


def _prime_above(hosts: int, size: int) -> int:
    """A table must have more slots than hosts: the given size, or the next prime above their number."""
    if hosts < size:
        return size
    number = hosts + 1
    while any(number % divisor == 0 for divisor in range(2, int(number**0.5) + 1)):
        number += 1
    return number
