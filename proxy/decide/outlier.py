"""Outlier detection: a host that keeps failing is left out for a while (Istio `outlierDetection`).

Envoy's detectors: consecutive errors, counted as they come, and rates, judged each interval. An ejection
lasts `base_ejection_s` times the number of ejections so far, five minutes at most; at most `max_ejection_pct`
of a cluster's hosts are out at once, but one always may be.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from math import sqrt
from typing import Final, Protocol, TypeVar

from meshpy.model.resilience import FailurePercentage, OutlierDetection, SuccessRate

__all__ = ["Cause", "Health", "Judged", "Reply", "is_in", "judge_rates", "record"]

_MAX_EJECTION_S: Final = 300.0


class Reply(Enum):
    """What became of one try, as far as a host's health goes."""

    SUCCESS = "success"
    SERVER_ERROR = "5xx"
    GATEWAY_ERROR = "gateway-error"
    LOCAL_ORIGIN = "local-origin"

    @classmethod
    def of_status(cls, status: int, error_codes: frozenset[int] = frozenset()) -> Reply:
        """502, 503 and 504 are gateway errors, which are server errors too.

        Args:
            error_codes: the statuses that are errors, instead of all of 500 and above.
        """
        if error_codes:
            if status not in error_codes:
                return cls.SUCCESS
        elif status < 500:
            return cls.SUCCESS
        return cls.GATEWAY_ERROR if status in (502, 503, 504) else cls.SERVER_ERROR


class Cause(Enum):
    """Which detector left a host out."""

    CONSECUTIVE_5XX = "consecutive-5xx"
    CONSECUTIVE_GATEWAY = "consecutive-gateway-errors"
    CONSECUTIVE_LOCAL = "consecutive-local-origin-failures"
    SUCCESS_RATE = "success-rate"
    FAILURE_PERCENTAGE = "failure-percentage"


class Health:
    """The record of one host; changed by this module and, as to active checks, by `decide.health`."""

    __slots__ = (
        "checks_in_row",
        "ejected_until",
        "ejections",
        "gateway_errors",
        "is_failing",
        "local_failures",
        "requests",
        "server_errors",
        "successes",
    )

    def __init__(self) -> None:
        self.server_errors = 0
        self.gateway_errors = 0
        self.local_failures = 0
        self.requests = 0
        self.successes = 0
        self.ejections = 0
        self.ejected_until = 0.0
        self.is_failing = False
        self.checks_in_row = 0


class Judged(Protocol):
    """A host with its record."""

    health: Health


H = TypeVar("H", bound=Judged)


def is_in(health: Health, now: float) -> bool:
    """Whether a host may be chosen."""
    return health.ejected_until <= now and not health.is_failing


def record(
    host: Judged, hosts: Sequence[Judged], policy: OutlierDetection, reply: Reply, now: float
) -> Cause | None:
    """Count one outcome; the cause when it led to the host's ejection.

    Args:
        hosts: all hosts of the cluster, for the share that may be out.
        now: seconds of a monotonic clock.
    """
    health = host.health
    health.requests += 1
    if reply is Reply.SUCCESS:
        health.successes += 1
        health.server_errors = health.gateway_errors = health.local_failures = 0
        if health.ejections and now > health.ejected_until + policy.interval_s:
            health.ejections -= 1  # Envoy forgets one ejection per interval of good behaviour
            health.ejected_until = now
        return None
    cause = _over_threshold(health, policy, reply)
    return cause if cause is not None and _eject(host, hosts, policy, now) else None


def _over_threshold(health: Health, policy: OutlierDetection, reply: Reply) -> Cause | None:
    if reply is Reply.LOCAL_ORIGIN and policy.split_local_origin:
        health.local_failures += 1
        is_over = 0 < policy.consecutive_local_origin <= health.local_failures
        return Cause.CONSECUTIVE_LOCAL if is_over else None
    health.server_errors += 1
    # Without the split Envoy reads a failure of its own making as 503.
    health.gateway_errors = 0 if reply is Reply.SERVER_ERROR else health.gateway_errors + 1
    if 0 < policy.consecutive_5xx <= health.server_errors:
        return Cause.CONSECUTIVE_5XX
    if 0 < policy.consecutive_gateway_errors <= health.gateway_errors:
        return Cause.CONSECUTIVE_GATEWAY
    return None


def _eject(host: Judged, hosts: Sequence[Judged], policy: OutlierDetection, now: float) -> bool:
    health = host.health
    if health.ejected_until > now:
        return False
    out = sum(1 for other in hosts if other.health.ejected_until > now)
    if out and (out + 1) * 100 > len(hosts) * policy.max_ejection_pct:
        return False
    health.ejections += 1
    health.ejected_until = now + min(policy.base_ejection_s * health.ejections, _MAX_EJECTION_S)
    health.server_errors = health.gateway_errors = health.local_failures = 0
    return True


def judge_rates(hosts: Sequence[H], policy: OutlierDetection, now: float) -> list[tuple[H, Cause]]:
    """Compare what hosts answered in the interval that ends now, and begin the next; who was left out."""
    found: list[tuple[H, Cause]] = []
    bad: list[tuple[H, Cause]] = []
    if policy.success_rate is not None:
        bad += [(host, Cause.SUCCESS_RATE) for host in _below_mean(hosts, policy.success_rate)]
    if policy.failure_percentage is not None:
        below = _failing(hosts, policy.failure_percentage)
        bad += [(host, Cause.FAILURE_PERCENTAGE) for host in below]
    for host, cause in bad:
        if _eject(host, hosts, policy, now):
            found.append((host, cause))
    for host in hosts:
        host.health.requests = host.health.successes = 0
    return found


def _busy(hosts: Sequence[H], volume: int, minimum_hosts: int) -> list[H]:
    busy = [host for host in hosts if host.health.requests >= volume]
    return busy if len(busy) >= minimum_hosts else []


def _rate(health: Health) -> float:
    return health.successes / health.requests


def _below_mean(hosts: Sequence[H], policy: SuccessRate) -> list[H]:
    busy = _busy(hosts, policy.request_volume, policy.minimum_hosts)
    if not busy:
        return []
    rates = [_rate(host.health) for host in busy]
    mean = sum(rates) / len(rates)
    deviation = sqrt(sum((rate - mean) ** 2 for rate in rates) / len(rates))
    threshold = mean - policy.stdev_factor * deviation
    return [host for host in busy if _rate(host.health) < threshold]


def _failing(hosts: Sequence[H], policy: FailurePercentage) -> list[H]:
    busy = _busy(hosts, policy.request_volume, policy.minimum_hosts)
    return [host for host in busy if (1.0 - _rate(host.health)) * 100.0 >= policy.threshold_pct]
