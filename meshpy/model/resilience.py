"""Resilience: timeouts, retries, pools, outlier detection. Seconds and counts; defaults are Istio's."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = [
    "DEFAULT_RETRY",
    "ConnectionPool",
    "LoadBalancing",
    "OutlierDetection",
    "RetryBudget",
    "RetryOn",
    "RetryPolicy",
]

UNLIMITED = 2**32 - 1
"""Envoy's and Istio's 'off' for a circuit-breaker limit."""


class LoadBalancing(StrEnum):
    LEAST_REQUEST = "LEAST_REQUEST"
    ROUND_ROBIN = "ROUND_ROBIN"
    RANDOM = "RANDOM"


class RetryOn(StrEnum):
    """Envoy's and Istio's words for `retryOn`."""

    SERVER_ERROR = "5xx"
    GATEWAY_ERROR = "gateway-error"
    RESET = "reset"
    RESET_BEFORE_REQUEST = "reset-before-request"
    CONNECT_FAILURE = "connect-failure"
    REFUSED_STREAM = "refused-stream"
    RETRIABLE_4XX = "retriable-4xx"
    RETRIABLE_STATUS_CODES = "retriable-status-codes"
    CANCELLED = "cancelled"
    DEADLINE_EXCEEDED = "deadline-exceeded"
    INTERNAL = "internal"
    RESOURCE_EXHAUSTED = "resource-exhausted"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """At most `percent` of the active requests of a cluster may be retries, and always `min_concurrency`."""

    percent: float = 20.0
    min_concurrency: int = 3


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """`attempts` counts retries: at most 1 + attempts requests are sent.

    A request with a method that is not idempotent is never sent again once a byte of it reached the wire,
    whatever `on` says; THREATS M5.
    """

    attempts: int = 2
    per_try_timeout_s: float | None = None
    on: frozenset[RetryOn] = frozenset(
        {
            RetryOn.CONNECT_FAILURE,
            RetryOn.REFUSED_STREAM,
            RetryOn.UNAVAILABLE,
            RetryOn.CANCELLED,
            RetryOn.RETRIABLE_STATUS_CODES,
        }
    )
    status_codes: frozenset[int] = frozenset()
    backoff_s: float = 0.025
    ignore_previous_hosts: bool = True


DEFAULT_RETRY = RetryPolicy()
"""Istio's mesh default: 2 attempts on connection-level failures."""


@dataclass(frozen=True, slots=True)
class ConnectionPool:
    max_connections: int = UNLIMITED
    connect_timeout_s: float = 2.0
    idle_timeout_s: float = 600.0
    keepalive_time_s: float = 300.0
    max_connection_duration_s: float | None = None
    max_pending_requests: int = UNLIMITED
    max_requests: int = UNLIMITED
    max_requests_per_connection: int = 0
    max_retries: int = UNLIMITED
    retry_budget: RetryBudget = RetryBudget()


@dataclass(frozen=True, slots=True)
class OutlierDetection:
    """Istio's defaults; a field of 0 turns that detector off."""

    consecutive_5xx: int = 5
    consecutive_gateway_errors: int = 0
    split_local_origin: bool = False
    consecutive_local_origin: int = 5
    interval_s: float = 10.0
    base_ejection_s: float = 30.0
    max_ejection_pct: int = 10
    min_health_pct: int = 0
