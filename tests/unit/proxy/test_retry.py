"""Which outcome may be tried again."""

from __future__ import annotations

import pytest

from meshpy.model.resilience import DEFAULT_RETRY, RetryBudget, RetryOn, RetryPolicy
from proxy.decide.retry import (
    FULL_LUCK,
    Outcome,
    Spending,
    backoff_s,
    is_retryable,
    is_status_retryable,
    retry_after_s,
)

EVERYTHING = RetryPolicy(on=frozenset(RetryOn), status_codes=frozenset(range(400, 600)))


@pytest.mark.parametrize("outcome", [Outcome.RESET, Outcome.STALE, Outcome.PER_TRY_TIMEOUT])
@pytest.mark.parametrize("method", ["POST", "PATCH", "CONNECT", "LOCK"])
def test_what_is_not_idempotent_is_never_sent_twice(outcome, method):
    assert not is_retryable(EVERYTHING, outcome, method, is_sent=True)
    assert not is_status_retryable(EVERYTHING, 503, method)


@pytest.mark.parametrize("outcome", [Outcome.CONNECT_FAILURE, Outcome.REFUSED])
def test_what_was_never_sent_may_go_elsewhere_whatever_its_method(outcome):
    assert is_retryable(DEFAULT_RETRY, outcome, "POST", is_sent=False)
    assert not is_retryable(RetryPolicy(on=frozenset({RetryOn.RETRIABLE_4XX})), outcome, "GET", is_sent=False)


@pytest.mark.parametrize(
    ("on", "reset"),
    [
        (RetryOn.SERVER_ERROR, True),
        (RetryOn.GATEWAY_ERROR, True),
        (RetryOn.RESET, True),
        (RetryOn.CONNECT_FAILURE, False),
        (RetryOn.REFUSED_STREAM, False),
        (RetryOn.RETRIABLE_STATUS_CODES, False),
    ],
)
def test_a_reset_is_tried_again_as_envoy_does(on, reset):
    assert is_retryable(RetryPolicy(on=frozenset({on})), Outcome.RESET, "GET", is_sent=True) is reset


def test_a_try_cut_by_its_timeout_is_tried_again_with_the_default_conditions():
    assert is_retryable(DEFAULT_RETRY, Outcome.PER_TRY_TIMEOUT, "GET", is_sent=True)


@pytest.mark.parametrize(
    ("on", "codes", "status", "expected"),
    [
        (RetryOn.SERVER_ERROR, (), 500, True),
        (RetryOn.SERVER_ERROR, (), 404, False),
        (RetryOn.GATEWAY_ERROR, (), 500, False),
        (RetryOn.GATEWAY_ERROR, (), 502, True),
        (RetryOn.RETRIABLE_4XX, (), 409, True),
        (RetryOn.RETRIABLE_4XX, (), 429, False),
        (RetryOn.RETRIABLE_STATUS_CODES, (429,), 429, True),
        (RetryOn.RETRIABLE_STATUS_CODES, (), 503, False),
        (RetryOn.CONNECT_FAILURE, (503,), 503, False),
    ],
)
def test_statuses(on, codes, status, expected):
    policy = RetryPolicy(on=frozenset({on}), status_codes=frozenset(codes))
    assert is_status_retryable(policy, status, "GET") is expected


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (b"1", RetryOn.CANCELLED),
        (b"4", RetryOn.DEADLINE_EXCEEDED),
        (b"8", RetryOn.RESOURCE_EXHAUSTED),
        (b"13", RetryOn.INTERNAL),
        (b"14", RetryOn.UNAVAILABLE),
    ],
)
def test_grpc_words_hold_for_their_status_alone(status, word):
    policy = RetryPolicy(on=frozenset({word}))
    assert is_status_retryable(policy, 200, "GET", status)
    assert not is_status_retryable(policy, 200, "GET", b"0")
    assert not is_status_retryable(policy, 200, "GET")


@pytest.mark.parametrize(
    ("active", "retrying", "expected"),
    [(1, 2, True), (1, 3, False), (100, 19, True), (100, 20, False)],
)
def test_the_budget_is_a_share_with_a_floor(active, retrying, expected):
    assert Spending().is_within(RetryBudget(20.0, 3), active, retrying, 0.0) is expected


def test_a_budget_with_an_interval_counts_what_began_within_it():
    budget, spending = RetryBudget(20.0, 0, interval_s=10.0), Spending()
    for _ in range(50):
        spending.on_request(budget, 100.0)
    for _ in range(10):
        assert spending.is_within(budget, 1, 0, 101.0)
        spending.on_retry(budget, 101.0)
    assert not spending.is_within(budget, 1, 0, 105.0)
    spending.on_request(budget, 112.0)
    assert spending.is_within(budget, 1, 0, 112.0) is (0 < 1 * 0.2)
    assert not spending.is_within(budget, 1, 0, 10_000.0)


def test_an_outage_ends_retries_after_some_fifty_bad_answers_and_good_ones_bring_them_back():
    spending = Spending()
    bad = 0
    while not spending.is_out_of_luck:
        spending.on_bad_answer()
        bad += 1
    assert bad == FULL_LUCK // 2
    for _ in range(1000):
        spending.on_bad_answer()
    assert spending.luck == 0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"3", 3.0),
        (b"0", 0.0),
        (b"", None),
        (b"-1", None),
        (b"1.5", None),
        (None, None),
        (b"Thu, 26 Nov 2026 15:00:00 GMT", None),
        (b"9" * 30, None),
    ],
)
def test_retry_after_is_read_as_seconds(value, seconds):
    assert retry_after_s(value) == seconds


def test_a_rate_limited_answer_is_asked_for_again_when_the_policy_says_so():
    policy = RetryPolicy(on=frozenset({RetryOn.RATE_LIMITED}))
    assert is_status_retryable(policy, 429, "GET", is_rate_limited=True)
    assert not is_status_retryable(policy, 429, "GET")
    assert not is_status_retryable(policy, 429, "POST", is_rate_limited=True)


def test_pauses_grow_and_are_bounded():
    policy = RetryPolicy(backoff_s=0.025)
    assert backoff_s(policy, 1, 0.0) == 0.0
    longest = [backoff_s(policy, number, 1.0) for number in range(1, 8)]
    assert longest == pytest.approx([0.025, 0.075, 0.175, 0.25, 0.25, 0.25, 0.25])
