"""Outlier detection: who is left out, for how long, and who may not be."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from meshpy.model.resilience import FailurePercentage, OutlierDetection, SuccessRate
from proxy.decide.outlier import Cause, Health, Reply, is_in, judge_rates, record


@dataclass(eq=False)
class Host:
    health: Health = field(default_factory=Health)


def hosts(count: int) -> list[Host]:
    return [Host() for _ in range(count)]


def fail(
    host: Host, every: list[Host], policy: OutlierDetection, times: int, reply: Reply, now: float = 0.0
) -> bool:
    return [record(host, every, policy, reply, now) for _ in range(times)][-1] is not None


@pytest.mark.parametrize(
    ("status", "reply"),
    [
        (200, Reply.SUCCESS),
        (404, Reply.SUCCESS),
        (500, Reply.SERVER_ERROR),
        (502, Reply.GATEWAY_ERROR),
        (503, Reply.GATEWAY_ERROR),
        (504, Reply.GATEWAY_ERROR),
        (555, Reply.SERVER_ERROR),
    ],
)
def test_statuses_are_read_as_envoy_does(status, reply):
    assert Reply.of_status(status) is reply


def test_consecutive_failures_eject_and_a_success_begins_anew():
    policy, every = OutlierDetection(consecutive_5xx=3), hosts(10)
    assert not fail(every[0], every, policy, 2, Reply.SERVER_ERROR)
    record(every[0], every, policy, Reply.SUCCESS, 0.0)
    assert not fail(every[0], every, policy, 2, Reply.SERVER_ERROR)
    assert fail(every[0], every, policy, 1, Reply.GATEWAY_ERROR)
    assert not is_in(every[0].health, 29.9)
    assert is_in(every[0].health, 30.0)


def test_the_next_ejection_lasts_longer_and_five_minutes_at_most():
    policy, every = OutlierDetection(consecutive_5xx=1), hosts(10)
    now = 0.0
    for expected_s in (30.0, 60.0, 90.0):
        assert fail(every[0], every, policy, 1, Reply.SERVER_ERROR, now)
        assert every[0].health.ejected_until == pytest.approx(now + expected_s)
        now = every[0].health.ejected_until
    every[0].health.ejections = 50
    assert fail(every[0], every, policy, 1, Reply.SERVER_ERROR, now)
    assert every[0].health.ejected_until == pytest.approx(now + 300.0)


def test_one_host_may_always_be_ejected_and_then_no_more_than_the_share():
    policy, every = OutlierDetection(consecutive_5xx=1, max_ejection_pct=10), hosts(3)
    assert fail(every[0], every, policy, 1, Reply.SERVER_ERROR)
    assert not fail(every[1], every, policy, 1, Reply.SERVER_ERROR)
    half = OutlierDetection(consecutive_5xx=1, max_ejection_pct=50)
    many = hosts(4)
    assert [fail(host, many, half, 1, Reply.SERVER_ERROR) for host in many] == [True, True, False, False]


def test_gateway_errors_have_a_detector_of_their_own():
    policy, every = OutlierDetection(consecutive_5xx=0, consecutive_gateway_errors=2), hosts(2)
    assert not fail(every[0], every, policy, 5, Reply.SERVER_ERROR)
    assert not fail(every[0], every, policy, 1, Reply.GATEWAY_ERROR)
    assert fail(every[0], every, policy, 1, Reply.GATEWAY_ERROR)


def test_local_failures_count_apart_when_split():
    split = OutlierDetection(consecutive_5xx=1, split_local_origin=True, consecutive_local_origin=3)
    every = hosts(2)
    assert not fail(every[0], every, split, 2, Reply.LOCAL_ORIGIN)
    assert fail(every[0], every, split, 1, Reply.LOCAL_ORIGIN)
    joined, others = OutlierDetection(consecutive_5xx=2), hosts(2)
    assert fail(others[0], others, joined, 2, Reply.LOCAL_ORIGIN)


@pytest.mark.parametrize(
    ("policy", "reply", "cause"),
    [
        (OutlierDetection(consecutive_5xx=1), Reply.SERVER_ERROR, Cause.CONSECUTIVE_5XX),
        (
            OutlierDetection(consecutive_5xx=0, consecutive_gateway_errors=1),
            Reply.GATEWAY_ERROR,
            Cause.CONSECUTIVE_GATEWAY,
        ),
        (
            OutlierDetection(split_local_origin=True, consecutive_local_origin=1),
            Reply.LOCAL_ORIGIN,
            Cause.CONSECUTIVE_LOCAL,
        ),
    ],
)
def test_an_ejection_names_its_detector(policy, reply, cause):
    every = hosts(2)
    assert record(every[0], every, policy, reply, 0.0) is cause


def test_listed_statuses_are_errors_and_no_others():
    codes = frozenset({429, 503})
    assert Reply.of_status(429, codes) is Reply.SERVER_ERROR
    assert Reply.of_status(503, codes) is Reply.GATEWAY_ERROR
    assert Reply.of_status(500, codes) is Reply.SUCCESS


def answer(host: Host, every: list[Host], policy: OutlierDetection, good: int, bad: int) -> None:
    for reply, count in ((Reply.SUCCESS, good), (Reply.SERVER_ERROR, bad)):
        for _ in range(count):
            record(host, every, policy, reply, 0.0)


def test_a_success_rate_far_below_the_mean_ejects():
    policy = OutlierDetection(consecutive_5xx=0, success_rate=SuccessRate())
    every = hosts(6)
    for host in every[:5]:
        answer(host, every, policy, 99, 1)
    answer(every[5], every, policy, 70, 30)
    assert judge_rates(every, policy, 1.0) == [(every[5], Cause.SUCCESS_RATE)]
    assert not is_in(every[5].health, 1.0)
    assert judge_rates(every, policy, 2.0) == []


@pytest.mark.parametrize(("count", "volume"), [(4, 100), (6, 99)])
def test_rates_need_enough_hosts_with_enough_requests(count, volume):
    policy = OutlierDetection(consecutive_5xx=0, success_rate=SuccessRate())
    every = hosts(count)
    for host in every[1:]:
        answer(host, every, policy, volume, 0)
    answer(every[0], every, policy, 0, volume)
    assert judge_rates(every, policy, 1.0) == []


def test_a_failure_percentage_ejects_at_its_threshold():
    policy = OutlierDetection(
        consecutive_5xx=0, max_ejection_pct=100, failure_percentage=FailurePercentage(50.0, 1, 10)
    )
    every = hosts(3)
    for host, bad in zip(every, (10, 9, 20), strict=True):
        answer(host, every, policy, 10, bad)
    assert [host for host, _ in judge_rates(every, policy, 1.0)] == [every[0], every[2]]
