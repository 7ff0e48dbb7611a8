"""Rate limiting by GCRA: one number per rate, no timer, bursts of a second's worth.

The generic cell rate algorithm (ITU-T I.371) in its virtual-scheduling form: `tat` is when the last admitted
request would have come at an even rate; who is further ahead of it than a second's worth is early.
"""

from __future__ import annotations

from collections.abc import Sequence

from meshpy.engine.rate_limits import RateRule, Share
from meshpy.engine.request import Peer, Request

__all__ = ["MAX_IDENTITIES", "Gcra", "Limiter", "Refusal", "admit"]

MAX_IDENTITIES = 4096
"""Callers of one limit that are told apart at a time; all beyond share one rate."""
_BURST_S = 1.0


class Gcra:
    """One rate.

    Args:
        rps: admitted per second, and at once after a second of silence.
    """

    __slots__ = ("_interval_s", "tat")

    def __init__(self, rps: int) -> None:
        self._interval_s = 1.0 / rps
        self.tat = 0.0

    def wait_s(self, now: float) -> float:
        """Seconds until a request would be admitted; 0 when it is now."""
        # A nanosecond of slack: sums of intervals must not refuse the last request of a burst.
        wait = max(self.tat, now) + self._interval_s - now - _BURST_S
        return wait if wait > 1e-9 else 0.0

    def take(self, now: float) -> None:
        """Count an admitted request."""
        self.tat = max(self.tat, now) + self._interval_s


class Refusal:
    """Why a request is answered with 429."""

    __slots__ = ("policy", "share", "wait_s")

    def __init__(self, policy: str, share: Share, wait_s: float) -> None:
        self.policy = policy
        self.share = share
        self.wait_s = wait_s


class Limiter:
    """One policy's rates, kept as long as the policy stays what it is."""

    __slots__ = ("_rates", "rule")

    def __init__(self, rule: RateRule) -> None:
        self.rule = rule
        self._rates: dict[tuple[str, str], Gcra] = {}

    def rate_of(self, share: Share, now: float) -> Gcra:
        """The rate that a share means."""
        key = (share.rule, share.key)
        rate = self._rates.get(key)
        if rate is None:
            if len(self._rates) >= MAX_IDENTITIES:
                # A rate that has caught up says no more than a new one.
                self._rates = {each: rate for each, rate in self._rates.items() if rate.tat > now}
            if len(self._rates) >= MAX_IDENTITIES:
                key = (share.rule, "\0others")
                rate = self._rates.get(key)
            if rate is None:
                rate = self._rates[key] = Gcra(share.rps)
        return rate

    @property
    def size(self) -> int:
        return len(self._rates)


def admit(limiters: Sequence[Limiter], peer: Peer, request: Request, now: float) -> Refusal | None:
    """Count a request against every limit it is for, or against none when one of them refuses it."""
    taken: list[Gcra] = []
    for limiter in limiters:
        rule = limiter.rule
        if rule.test is not None and not rule.test(request):
            continue
        for share in rule.shares(peer):
            rate = limiter.rate_of(share, now)
            wait_s = rate.wait_s(now)
            if wait_s:
                return Refusal(rule.limit.policy, share, wait_s)
            taken.append(rate)
    for rate in taken:
        rate.take(now)
    return None
