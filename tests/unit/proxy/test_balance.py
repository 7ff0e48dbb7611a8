"""Choosing endpoints."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass

import pytest

from meshpy.model.resilience import LoadBalancing
from proxy.decide.balance import Balancer


@dataclass(eq=False)
class Host:
    name: str
    active: int = 0


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


@pytest.mark.parametrize("policy", [LoadBalancing.RANDOM, LoadBalancing.LEAST_REQUEST])
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
