"""Outlier detection: a host that keeps failing is left out for a while (Istio `outlierDetection`).

Envoy's consecutive detectors. An ejection lasts `base_ejection_s` times the number of ejections so far, five
minutes at most; at most `max_ejection_pct` of a cluster's hosts are out at once, but one always may be.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Protocol, TypeVar

from meshpy.model.resilience import OutlierDetection

__all__ = ["Health", "Judged", "Reply", "eligible", "record"]

_MAX_EJECTION_S = 300.0


class Reply(Enum):
    """What became of one try, as far as a host's health goes."""

    SUCCESS = "success"
    SERVER_ERROR = "5xx"
    GATEWAY_ERROR = "gateway-error"
    LOCAL_ORIGIN = "local-origin"

    @classmethod
    def of_status(cls, status: int) -> Reply:
        """502, 503 and 504 are gateway errors, which are server errors too."""
        if status < 500:
            return cls.SUCCESS
        return cls.GATEWAY_ERROR if status in (502, 503, 504) else cls.SERVER_ERROR


class Health:
    """The record of one host; changed by `record` alone."""

    __slots__ = ("ejected_until", "ejections", "gateway_errors", "local_failures", "server_errors")

    def __init__(self) -> None:
        self.server_errors = 0
        self.gateway_errors = 0
        self.local_failures = 0
        self.ejections = 0
        self.ejected_until = 0.0


class Judged(Protocol):
    """A host with its record."""

    health: Health


H = TypeVar("H", bound=Judged)


def record(host: Judged, hosts: Sequence[Judged], policy: OutlierDetection, reply: Reply, now: float) -> bool:
    """Count one outcome; True when it led to the host's ejection.

    Args:
        hosts: all hosts of the cluster, for the share that may be out.
        now: seconds of a monotonic clock.
    """
    health = host.health
    if reply is Reply.SUCCESS:
        health.server_errors = health.gateway_errors = health.local_failures = 0
        if health.ejections and now > health.ejected_until + policy.interval_s:
            health.ejections -= 1  # Envoy forgets one ejection per interval of good behaviour
            health.ejected_until = now
        return False
    if not _is_over_threshold(health, policy, reply) or health.ejected_until > now:
        return False
    out = sum(1 for other in hosts if other.health.ejected_until > now)
    if out and (out + 1) * 100 > len(hosts) * policy.max_ejection_pct:
        return False
    health.ejections += 1
    health.ejected_until = now + min(policy.base_ejection_s * health.ejections, _MAX_EJECTION_S)
    health.server_errors = health.gateway_errors = health.local_failures = 0
    return True


def _is_over_threshold(health: Health, policy: OutlierDetection, reply: Reply) -> bool:
    if reply is Reply.LOCAL_ORIGIN and policy.split_local_origin:
        health.local_failures += 1
        return 0 < policy.consecutive_local_origin <= health.local_failures
    health.server_errors += 1
    # Without the split Envoy reads a failure of its own making as 503.
    health.gateway_errors = 0 if reply is Reply.SERVER_ERROR else health.gateway_errors + 1
    return (
        0 < policy.consecutive_5xx <= health.server_errors
        or 0 < policy.consecutive_gateway_errors <= health.gateway_errors
    )


def eligible(hosts: Sequence[H], policy: OutlierDetection | None, now: float) -> Sequence[H]:
    """The hosts that may be chosen; all of them when too few are healthy (`min_health_pct`, panic)."""
    if policy is None:
        return hosts
    healthy = [host for host in hosts if host.health.ejected_until <= now]
    if len(healthy) == len(hosts) or len(healthy) * 100 < len(hosts) * policy.min_health_pct:
        return hosts
    return healthy
