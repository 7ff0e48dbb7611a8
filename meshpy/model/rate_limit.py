"""Local rate limits: how many requests a second one sidecar lets through to its app, in all and by caller."""

from __future__ import annotations

from dataclasses import dataclass

from meshpy.model.match import RequestMatch
from meshpy.model.names import ServiceName

__all__ = ["RateLimit", "RateOverride"]


@dataclass(frozen=True, slots=True)
class RateOverride:
    """A rate of these callers' own, instead of `identity_rps`."""

    rps: int
    clients: tuple[ServiceName, ...]


@dataclass(frozen=True, slots=True)
class RateLimit:
    """One policy; a rate of 0 limits nothing.

    Args:
        policy: who wrote it, `HTTPLocalRateLimitPolicy shop/api`.
        matches: the requests that it counts; empty is every request.
        total_rps: of all callers together.
        identity_rps: of each caller; all callers without identity are one.
    """

    policy: str
    matches: tuple[RequestMatch, ...] = ()
    total_rps: int = 0
    identity_rps: int = 0
    overrides: tuple[RateOverride, ...] = ()
