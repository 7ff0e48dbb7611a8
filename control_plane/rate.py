"""A token bucket per address, with a bounded number of addresses. Pure: the time comes in."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from control_plane.errors import RateLimited

__all__ = ["RateLimit"]


@dataclass(slots=True)
class RateLimit:
    """Args:
    per_second: what one address may ask for in the long run.
    burst: what it may ask for at once.
    addresses: how many are remembered; the longest unseen is forgotten first.
    """

    per_second: float = 20.0
    burst: float = 100.0
    addresses: int = 4096
    _buckets: OrderedDict[str, tuple[float, float]] = field(default_factory=OrderedDict)

    def take(self, address: str, now_s: float) -> None:
        """Count one request.

        Raises:
            RateLimited: the address asked too often; it is not counted.
        """
        level, seen = self._buckets.pop(address, (self.burst, now_s))
        level = min(self.burst, level + max(0.0, now_s - seen) * self.per_second)
        allowed = level >= 1
        self._buckets[address] = (level - 1 if allowed else level, now_s)
        if len(self._buckets) > self.addresses:
            self._buckets.popitem(last=False)
        if not allowed:
            raise RateLimited((1 - level) / self.per_second)
