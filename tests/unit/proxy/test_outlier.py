"""Outlier detection: who is left out, for how long, and who may not be."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from meshpy.model.resilience import OutlierDetection
from proxy.decide.outlier import Health, Reply, eligible, record


@dataclass(eq=False)
class Host:
    health: Health = field(default_factory=Health)


def hosts(count: int) -> list[Host]:
    return [Host() for _ in range(count)]


def fail(
    host: Host, every: list[Host], policy: OutlierDetection, times: int, reply: Reply, now: float = 0.0
) -> bool:
    return [record(host, every, policy, reply, now) for _ in range(times)][-1]


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
    assert every[0] not in eligible(every, policy, 29.9)
    assert every[0] in eligible(every, policy, 30.0)


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


def test_too_few_healthy_hosts_bring_all_back():
    policy, every = OutlierDetection(consecutive_5xx=1, max_ejection_pct=100, min_health_pct=50), hosts(4)
    for host in every[:3]:
        fail(host, every, policy, 1, Reply.SERVER_ERROR)
    assert list(eligible(every, policy, 1.0)) == every
    calm = OutlierDetection(consecutive_5xx=1, max_ejection_pct=100)
    assert list(eligible(every, calm, 1.0)) == every[3:]
