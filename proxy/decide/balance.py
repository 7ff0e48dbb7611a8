"""Choosing an endpoint: least request by the power of two choices, round robin, random."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Generic, Protocol, TypeVar

from meshpy.model.resilience import LoadBalancing

__all__ = ["Balancer", "Weighed"]


class Weighed(Protocol):
    """An endpoint as a balancer sees it: how many requests it is busy with."""

    active: int


H = TypeVar("H", bound=Weighed)


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

    def pick(self, hosts: Sequence[H], avoid: Collection[H] = ()) -> H | None:
        """One of `hosts`, none of `avoid` unless nothing else is left; None when there are no hosts."""
        if avoid:
            hosts = [host for host in hosts if host not in avoid] or hosts
        count = len(hosts)
        if count <= 1:
            return hosts[0] if count else None
        if self._policy is LoadBalancing.ROUND_ROBIN:
            self._turn += 1
            return hosts[self._turn % count]
        first = int(self._draw() * count)
        if self._policy is LoadBalancing.RANDOM:
            return hosts[first]
        second = int(self._draw() * (count - 1))
        if second >= first:
            second += 1
        one, other = hosts[first], hosts[second]
        return one if one.active <= other.active else other
