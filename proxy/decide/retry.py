"""Retries: which outcome may be tried again, how many at once, and after which pause.

Two rules stand above every policy. A request whose method is not idempotent (RFC 9110 §9.2.2) is never sent
again once a byte of it may have reached the wire. And a try that `per_try_timeout_s` cut is tried again for
idempotent methods whatever `on` says: who sets the one asks for the other (Envoy wants `5xx` or `reset` too).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from meshpy.model.resilience import RetryBudget, RetryOn, RetryPolicy

__all__ = ["IDEMPOTENT", "Outcome", "backoff_s", "is_retryable", "is_status_retryable", "is_within_budget"]

IDEMPOTENT = frozenset(("GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"))

_MAX_BACKOFF_FACTOR = 10.0


class Outcome(Enum):
    """How a try without a usable response ended."""

    CONNECT_FAILURE = "connect-failure"
    REFUSED = "refused"
    """The next sidecar says that nothing of the request reached the application."""
    RESET = "reset"
    STALE = "stale"
    """A reused connection ended without one byte of answer: it was closed while the request was written."""
    PER_TRY_TIMEOUT = "per-try-timeout"


_ALL_5XX = frozenset((RetryOn.SERVER_ERROR, RetryOn.GATEWAY_ERROR, RetryOn.RESET))
_UNSENT = _ALL_5XX | {RetryOn.CONNECT_FAILURE, RetryOn.RESET_BEFORE_REQUEST, RetryOn.REFUSED_STREAM}
_GRPC_STATUS: Mapping[bytes, RetryOn] = {
    b"1": RetryOn.CANCELLED,
    b"4": RetryOn.DEADLINE_EXCEEDED,
    b"8": RetryOn.RESOURCE_EXHAUSTED,
    b"13": RetryOn.INTERNAL,
    b"14": RetryOn.UNAVAILABLE,
}


def is_retryable(policy: RetryPolicy, outcome: Outcome, method: str, *, is_sent: bool) -> bool:
    """Whether a try that brought no response may be repeated.

    Args:
        is_sent: a byte of the request may have reached the wire.
    """
    if outcome in (Outcome.CONNECT_FAILURE, Outcome.REFUSED):
        return bool(policy.on & _UNSENT)
    if is_sent and method not in IDEMPOTENT:
        return False
    if outcome is Outcome.RESET:
        return bool(policy.on & _ALL_5XX)
    return True


def is_status_retryable(
    policy: RetryPolicy, status: int, method: str, grpc_status: bytes | None = None
) -> bool:
    """Whether a response is thrown away and asked for again."""
    if method not in IDEMPOTENT:
        return False
    on = policy.on
    if grpc_status is not None and _GRPC_STATUS.get(grpc_status) in on:
        return True
    return (
        (status >= 500 and RetryOn.SERVER_ERROR in on)
        or (status in (502, 503, 504) and RetryOn.GATEWAY_ERROR in on)
        or (status == 409 and RetryOn.RETRIABLE_4XX in on)
        or (status in policy.status_codes and RetryOn.RETRIABLE_STATUS_CODES in on)
    )


def is_within_budget(
    budget: RetryBudget, active_requests: int, active_retries: int, max_retries: int
) -> bool:
    """Whether one more retry may run now (Envoy's retry budget: a share of what is active)."""
    allowed = max(float(budget.min_concurrency), active_requests * budget.percent / 100.0)
    return active_retries < min(allowed, float(max_retries))


def backoff_s(policy: RetryPolicy, retry_number: int, draw: float) -> float:
    """Envoy's fully jittered exponential pause: up to (2^n - 1) base intervals, ten at most.

    Args:
        retry_number: 1 for the first retry.
        draw: uniform of [0, 1).
    """
    factor = min(2.0 ** min(retry_number, 16) - 1.0, _MAX_BACKOFF_FACTOR)
    return policy.backoff_s * factor * draw
