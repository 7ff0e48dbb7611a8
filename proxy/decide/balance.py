"""Choosing among hosts that may be chosen: the power of two choices, round robin, random. O(1) each.

Two hosts drawn at random and the better one taken: the least busy (Envoy's least request), or the one that
would answer first by its peak-EWMA latency times what is in flight (Linkerd; Finagle's PeakEwma).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import Final, Generic, Protocol, TypeVar

from meshpy.model.resilience import LoadBalancing, Warmup

__all__ = ["Balancer", "Latency", "Weighed", "warm_share"]

_DECAY_S: Final = 10.0
_UNKNOWN_S: Final = 0.03
"""What a host that has not answered yet is taken to need (Linkerd's default)."""
_DRAWS: Final = 4


class Latency:
    """The latency of a host as it looks now: up at once with a slow answer, down within ten seconds."""

    __slots__ = ("_at", "_seconds")

    def __init__(self) -> None:
        self._seconds = _UNKNOWN_S
        self._at = 0.0

    def observe(self, seconds: float, now: float) -> None:
        """Take one answer into account."""
        if seconds >= self._seconds:
            self._seconds = seconds
        else:
            share = math.exp(-max(0.0, now - self._at) / _DECAY_S)
            self._seconds = self._seconds * share + seconds * (1.0 - share)
        self._at = now

    def at(self, now: float) -> float:
        """Seconds; without answers it fades, so that a host which was slow is tried again."""
        return self._seconds * math.exp(-max(0.0, now - self._at) / (_DECAY_S * 3))


class Weighed(Protocol):
    """A host as a balancer sees it."""

    active: int
    latency: Latency


H = TypeVar("H", bound=Weighed)


def warm_share(warmup: Warmup, age_s: float) -> float:
    """The share of its own that a host gets so long after it joined (Envoy's slow start)."""
    if age_s >= warmup.duration_s:
        return 1.0
    grown = math.pow(max(age_s, 0.0) / warmup.duration_s, 1.0 / warmup.aggression)
    return max(warmup.minimum_pct / 100.0, grown)


class Balancer(Generic[H]):
    """Picks among the hosts that it is shown; it keeps nothing of them but the turn of a round robin.

    Args:
        draw: uniform numbers of [0, 1).
    """

    __slots__ = ("_draw", "_policy", "_turn")

    def __init__(self, policy: LoadBalancing, draw: Callable[[], float]) -> None:
        self._policy = policy
        self._draw = draw
        self._turn = int(draw() * 2**16)

    def pick(
        self,
        hosts: Sequence[H],
        avoid: Collection[H] = (),
        now: float = 0.0,
        share_of: Callable[[H], float] | None = None,
    ) -> H | None:
        """One of `hosts`, none of `avoid` unless nothing else is left; None when there are no hosts.

        Args:
            now: for latencies.
            share_of: a host's share of its own, below 1 while it warms up; None when no host does.
        """
        if avoid:
            hosts = [host for host in hosts if host not in avoid] or hosts
        if len(hosts) <= 1:
            return hosts[0] if hosts else None
        host = self._choose(hosts, now)
        if share_of is not None:
            for _ in range(_DRAWS):
                if self._draw() < share_of(host):
                    break
                host = self._choose(hosts, now)
        return host

    def _choose(self, hosts: Sequence[H], now: float) -> H:
        policy = self._policy
        count = len(hosts)
        if policy is LoadBalancing.ROUND_ROBIN:
            self._turn += 1
            return hosts[self._turn % count]
        first = int(self._draw() * count)
        if policy is LoadBalancing.RANDOM:
            return hosts[first]
        second = int(self._draw() * (count - 1))
        if second >= first:
            second += 1
        one, other = hosts[first], hosts[second]
        if policy is LoadBalancing.LEAST_REQUEST:
            return one if one.active <= other.active else other
        cost = one.latency.at(now) * (one.active + 1)
        return one if cost <= other.latency.at(now) * (other.active + 1) else other
