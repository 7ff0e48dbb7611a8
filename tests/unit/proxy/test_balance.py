"""Choosing endpoints."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field

import pytest

from meshpy.model.resilience import LoadBalancing, Warmup
from proxy.decide.balance import Balancer, Latency, warm_share


@dataclass(eq=False)
class Host:
    name: str
    active: int = 0
    latency: Latency = field(default_factory=Latency)


HOSTS = [Host("a"), Host("b"), Host("c"), Host("d")]


def balancer(policy: LoadBalancing) -> Balancer[Host]:
    return Balancer(policy, random.Random(1).random)


@pytest.mark.parametrize("policy", list(LoadBalancing))
def test_no_host_is_none_and_one_host_is_always_it(policy):
    assert balancer(policy).pick([]) is None
    assert balancer(policy).pick(HOSTS[:1]) is HOSTS[0]


def test_round_robin_gives_each_its_turn():
    chooser = balancer(LoadBalancing.ROUND_ROBIN)
    counts = Counter(chooser.pick(HOSTS).name for _ in range(40))
    assert set(counts.values()) == {10}


@pytest.mark.parametrize(
    "policy", [LoadBalancing.RANDOM, LoadBalancing.LEAST_REQUEST, LoadBalancing.PEAK_EWMA]
)
def test_equal_hosts_get_equal_shares(policy):
    chooser = balancer(policy)
    counts = Counter(chooser.pick(HOSTS).name for _ in range(8000))
    assert all(1800 < counts[host.name] < 2200 for host in HOSTS)


def test_least_request_never_takes_the_busier_of_two():
    busy, calm = Host("busy", 10), Host("calm", 1)
    chooser = balancer(LoadBalancing.LEAST_REQUEST)
    assert {chooser.pick([busy, calm]).name for _ in range(100)} == {"calm"}


def test_hosts_to_avoid_are_taken_only_when_nothing_else_is_left():
    chooser = balancer(LoadBalancing.RANDOM)
    assert {chooser.pick(HOSTS, HOSTS[:3]).name for _ in range(50)} == {"d"}
    assert chooser.pick(HOSTS, HOSTS) in HOSTS


def test_peak_ewma_prefers_who_answers_sooner_until_it_is_busier():
    quick, slow = Host("quick"), Host("slow")
    for _ in range(50):
        quick.latency.observe(0.01, 0.0)
        slow.latency.observe(0.1, 0.0)
    for second in range(60):
        quick.latency.observe(0.01, float(second))
        slow.latency.observe(0.1, float(second))
    chooser = balancer(LoadBalancing.PEAK_EWMA)
    assert {chooser.pick([quick, slow], now=60.0).name for _ in range(50)} == {"quick"}
    quick.active = 20
    assert {chooser.pick([quick, slow], now=60.0).name for _ in range(50)} == {"slow"}


def test_a_latency_rises_at_once_and_falls_within_tens_of_seconds():
    latency = Latency()
    latency.observe(2.0, 0.0)
    assert latency.at(0.0) == pytest.approx(2.0)
    latency.observe(0.01, 1.0)
    assert 1.5 < latency.at(1.0) < 2.0
    latency.observe(0.01, 60.0)
    assert latency.at(60.0) < 0.05


def test_a_host_without_answers_is_tried_again_after_a_while():
    latency = Latency()
    latency.observe(5.0, 0.0)
    assert latency.at(300.0) < 0.01


@pytest.mark.parametrize(
    ("age_s", "aggression", "share"),
    [(0.0, 1.0, 0.1), (5.0, 1.0, 0.5), (10.0, 1.0, 1.0), (2.5, 2.0, 0.5), (99.0, 1.0, 1.0), (0.5, 1.0, 0.1)],
)
def test_a_warm_up_grows_from_its_minimum(age_s, aggression, share):
    assert warm_share(Warmup(10.0, 10.0, aggression), age_s) == pytest.approx(share)


@pytest.mark.parametrize("policy", list(LoadBalancing))
def test_a_host_that_warms_up_gets_its_share(policy):
    chooser = balancer(policy)
    shares = {"a": 0.25}
    counts = Counter(
        chooser.pick(HOSTS, share_of=lambda host: shares.get(host.name, 1.0)).name for _ in range(8000)
    )
    assert 0.25 / 3.25 * 0.8 < counts["a"] / 8000 < 0.25 / 3.25 * 1.25
    assert all(0.27 < counts[host.name] / 8000 < 0.34 for host in HOSTS[1:])
