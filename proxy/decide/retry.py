"""Retries: which outcome may be tried again, how many at once, and after which pause.

Two rules stand above every policy. A request whose method is not idempotent (RFC 9110 §9.2.2) is never sent
again once a byte of it may have reached the wire. And a try that `per_try_timeout_s` cut is tried again for
idempotent methods whatever `on` says: who sets the one asks for the other (Envoy wants `5xx` or `reset` too).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

from meshpy.model.resilience import RetryBudget, RetryOn, RetryPolicy

__all__ = [
    "FULL_LUCK",
    "IDEMPOTENT",
    "MAX_RETRY_AFTER_S",
    "Outcome",
    "Spending",
    "backoff_s",
    "is_retryable",
    "is_status_retryable",
    "retry_after_s",
]

IDEMPOTENT: Final = frozenset(("GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"))

_MAX_BACKOFF_FACTOR: Final = 10.0
FULL_LUCK: Final = 100
_SLOTS: Final = 10
MAX_RETRY_AFTER_S = 10.0
"""Who asks for a longer pause is not asked again: the caller is told, with the header."""


class Outcome(Enum):
    """How a try without a usable response ended."""

    CONNECT_FAILURE = "connect-failure"
    REFUSED = "refused"
    """The next sidecar says that nothing of the request reached the application."""
    RESET = "reset"
    STALE = "stale"
    """A reused connection ended without one byte of answer: it was closed while the request was written."""
    PER_TRY_TIMEOUT = "per-try-timeout"


_ALL_5XX: Final = frozenset((RetryOn.SERVER_ERROR, RetryOn.GATEWAY_ERROR, RetryOn.RESET))
_UNSENT: Final = _ALL_5XX | {RetryOn.CONNECT_FAILURE, RetryOn.RESET_BEFORE_REQUEST, RetryOn.REFUSED_STREAM}
_GRPC_STATUS: Final[Mapping[bytes, RetryOn]] = {
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
    policy: RetryPolicy,
    status: int,
    method: str,
    grpc_status: bytes | None = None,
    *,
    is_rate_limited: bool = False,
) -> bool:
    """Whether a response is thrown away and asked for again.

    Args:
        grpc_status: of a call that brought no message.
        is_rate_limited: it carries `x-envoy-ratelimited`.
    """
    on = policy.on
    if grpc_status is not None and _GRPC_STATUS.get(grpc_status) in on:
        return True  # every call is a POST; its own status is what tells whether to call again
    if method not in IDEMPOTENT:
        return False
    return (
        (status >= 500 and RetryOn.SERVER_ERROR in on)
        or (status in (502, 503, 504) and RetryOn.GATEWAY_ERROR in on)
        or (status == 409 and RetryOn.RETRIABLE_4XX in on)
        or (status in policy.status_codes and RetryOn.RETRIABLE_STATUS_CODES in on)
        or (is_rate_limited and RetryOn.RATE_LIMITED in on)
    )


class Spending:
    """What a cluster may still spend on retries.

    The budget is Envoy's: a share of the active requests, or of those begun within an interval. It bounds one
    hop; where several hops retry the same failure the shares multiply, and few requests always get their
    `min_concurrency`. So there is a second bound on what costs the application work, gRPC's retry throttle
    (gRFC A6): once bad answers outnumber good ones by half of `FULL_LUCK`, no request that was sent is sent
    again until good ones come back. An outage costs some fifty tries a hop, whatever the load.
    """

    __slots__ = ("_begun", "_retried", "_slot", "luck")

    def __init__(self) -> None:
        self.luck = FULL_LUCK
        self._slot = 0
        self._begun = [0] * _SLOTS
        self._retried = [0] * _SLOTS

    def on_bad_answer(self) -> None:
        """A request that was sent came to nothing."""
        self.luck -= self.luck > 0

    @property
    def is_out_of_luck(self) -> bool:
        """Whether most of the last answers were bad."""
        return self.luck <= FULL_LUCK // 2

    def on_request(self, budget: RetryBudget, now: float) -> None:
        """A request begins; needed for budgets with an interval only."""
        self._turn(budget, now)
        self._begun[self._slot % _SLOTS] += 1

    def on_retry(self, budget: RetryBudget, now: float) -> None:
        """A retry begins; as `on_request`."""
        self._turn(budget, now)
        self._retried[self._slot % _SLOTS] += 1

    def is_within(self, budget: RetryBudget, requests: int, retries: int, now: float) -> bool:
        """Whether one more retry may run now.

        Args:
            requests, retries: those that are active.
        """
        if budget.interval_s:
            self._turn(budget, now)
            retries, requests = sum(self._retried), sum(self._begun)
        return retries < max(float(budget.min_concurrency), requests * budget.percent / 100.0)

    def _turn(self, budget: RetryBudget, now: float) -> None:
        slot = int(now * _SLOTS / budget.interval_s)
        for number in range(max(self._slot + 1, slot - _SLOTS + 1), slot + 1):
            self._begun[number % _SLOTS] = self._retried[number % _SLOTS] = 0
        self._slot = max(self._slot, slot)


def retry_after_s(value: bytes | None) -> float | None:
    """Seconds that a `Retry-After` asks for; None when there is none, or a date (RFC 9110 §10.2.3)."""
    if value is None or not value.isdigit() or len(value) > 9:
        return None
    return float(value)


def backoff_s(policy: RetryPolicy, retry_number: int, draw: float) -> float:
    """Envoy's fully jittered exponential pause: up to (2^n - 1) base intervals, ten at most.

    Args:
        retry_number: 1 for the first retry.
        draw: uniform of [0, 1).
    """
    factor = min(2.0 ** min(retry_number, 16) - 1.0, _MAX_BACKOFF_FACTOR)
    return policy.backoff_s * factor * draw
