"""Who may be chosen: health, panic, locality, warm-up, affinity."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field, replace

import pytest

from meshpy.model.endpoint import Cluster, Endpoint, Protocol, Transport
from meshpy.model.resilience import (
    CheckProtocol,
    ConsistentHash,
    HashBy,
    HashTable,
    HealthCheck,
    LoadBalancing,
    Locality,
    LocalityShares,
    OutlierDetection,
    Warmup,
)
from proxy.decide.balance import Latency
from proxy.decide.hashing import hash64
from proxy.decide.hosts import Choice, Place
from proxy.decide.outlier import Health

CLUSTER = Cluster("c", Protocol.HTTP, Transport.PLAIN, load_balancing=LoadBalancing.RANDOM)
NODES = {
    "a1": "eu/a/1", "a2": "eu/a/2", "b1": "eu/b/1", "u1": "us/a/1", "x1": "ap/a/1",
}  # fmt: skip


@dataclass(eq=False)
class Host:
    name: str
    endpoint: Endpoint
    active: int = 0
    joined_at: float = float("-inf")
    latency: Latency = field(default_factory=Latency)
    health: Health = field(default_factory=Health)


def hosts(*nodes: str) -> list[Host]:
    return [
        Host(f"{node}/{number}", Endpoint(f"10.0.0.{number}", 80, node=node))
        for number, node in enumerate(nodes)
    ]


def choice(members: list[Host], node: str = "", **settings: object) -> tuple[Choice[Host], Place]:
    place = Place(node, NODES)
    made: Choice[Host] = Choice(replace(CLUSTER, **settings), random.Random(3).random)
    made.replace(members, 0.0, place)
    return made, place


def shares(chosen: Choice[Host], count: int = 4000, now: float = 0.0, **asked: object) -> dict[str, float]:
    picked = Counter(chosen.pick(now, (), **asked).endpoint.node for _ in range(count))
    return {node: number / count for node, number in picked.items()}


def eject(host: Host, until: float = 10.0) -> None:
    host.health.ejected_until = until


def test_an_ejected_host_is_not_chosen_and_comes_back_when_its_time_is_over():
    members = hosts("a1", "a2", "b1")
    eject(members[0])
    chosen, place = choice(members, outlier=OutlierDetection())
    assert set(shares(chosen)) == {"a2", "b1"}
    assert not chosen.is_due(9.9)
    assert chosen.is_due(10.0)
    chosen.refresh(10.0, place)
    assert set(shares(chosen, now=10.0)) == {"a1", "a2", "b1"}


def test_when_no_host_is_healthy_nobody_is_chosen_unless_panic_says_so():
    members = hosts("a1", "a2", "b1", "u1")
    for host in members[:3]:
        eject(host)
    assert set(shares(choice(members, outlier=OutlierDetection())[0])) == {"u1"}
    assert len(shares(choice(members, outlier=OutlierDetection(min_health_pct=50))[0])) == 4
    eject(members[3])
    assert choice(members, outlier=OutlierDetection())[0].pick(0.0, ()) is None


def test_failed_checks_take_a_host_out_and_half_of_them_bring_panic():
    members = hosts("a1", "a2", "b1")
    members[0].health.is_failing = True
    check = HealthCheck(CheckProtocol.TCP)
    assert set(shares(choice(members, health_check=check)[0])) == {"a2", "b1"}
    members[1].health.is_failing = True
    assert len(shares(choice(members, health_check=check)[0])) == 3
    assert set(shares(choice(members, health_check=replace(check, panic_pct=0.0))[0])) == {"b1"}


def test_the_nearest_are_taken_while_they_are_healthy_and_then_the_next():
    members = hosts("a1", "a1", "a2", "b1", "u1")
    settings = {"locality": Locality(), "outlier": OutlierDetection()}
    assert shares(choice(members, "a1", **settings)[0]) == {"a1": 1.0}
    eject(members[0])
    found = shares(choice(members, "a1", **settings)[0])
    assert found["a1"] == pytest.approx(0.7, abs=0.04)
    assert found["a2"] == pytest.approx(0.3, abs=0.04)
    eject(members[1])
    eject(members[2])
    assert shares(choice(members, "a1", **settings)[0]) == {"b1": 1.0}
    eject(members[3])
    assert shares(choice(members, "a1", **settings)[0]) == {"u1": 1.0}


def test_five_of_seven_near_hosts_are_enough_to_keep_everything():
    members = hosts(*["a1"] * 7, "b1")
    settings = {"locality": Locality(), "outlier": OutlierDetection()}
    for host in members[:2]:
        eject(host)
    assert shares(choice(members, "a1", **settings)[0]) == {"a1": 1.0}


def test_a_failover_region_precedes_the_others():
    members = hosts("a1", "u1", "x1")
    eject(members[0])
    settings = {"locality": Locality(failover=(("eu", "ap"),)), "outlier": OutlierDetection()}
    assert shares(choice(members, "a1", **settings)[0]) == {"x1": 1.0}


def test_priority_labels_decide_in_their_order():
    members = hosts("a2", "u1")
    zone_first = Locality(priority=("topology.kubernetes.io/region", "topology.kubernetes.io/zone"))
    assert shares(choice(members, "a1", locality=zone_first)[0]) == {"a2": 1.0}
    american = Locality(priority=("topology.kubernetes.io/region=us",))
    assert shares(choice(members, "a1", locality=american)[0]) == {"u1": 1.0}
    own_node = Locality(priority=("kubernetes.io/hostname",))
    assert shares(choice(hosts("a1", "a2"), "a1", locality=own_node)[0]) == {"a1": 1.0}


def test_distribute_gives_each_locality_its_share():
    spread = Locality((LocalityShares("eu/a/*", (("eu/a/*", 80), ("eu/b/*", 20))),))
    members = hosts("a1", "a2", "b1", "u1")
    found = shares(choice(members, "a1", locality=spread)[0], 8000)
    assert found["b1"] == pytest.approx(0.2, abs=0.02)
    assert found["a1"] == pytest.approx(0.4, abs=0.03)
    assert "u1" not in found
    assert len(shares(choice(members, "u1", locality=spread)[0])) == 4


def test_a_caller_that_knows_no_place_of_its_own_takes_all_alike():
    assert len(shares(choice(hosts("a1", "b1", "u1"), "", locality=Locality())[0])) == 3


def test_a_retry_may_leave_the_nearest():
    chosen, _ = choice(hosts("a1", "u1"), "a1", locality=Locality())
    assert set(shares(chosen, is_remote=True)) == {"a1", "u1"}


def test_a_host_that_joins_warms_up():
    members = hosts("a1", "a2", "b1")
    members[2].joined_at = 100.0
    chosen, _ = choice(members, warmup=Warmup(10.0))
    assert shares(chosen, now=101.0)["b1"] == pytest.approx(0.1 / 2.1, abs=0.015)
    assert shares(chosen, now=105.0)["b1"] == pytest.approx(0.5 / 2.5, abs=0.03)
    assert shares(chosen, now=110.0)["b1"] == pytest.approx(1 / 3, abs=0.03)


@pytest.mark.parametrize("table", list(HashTable))
def test_a_key_keeps_to_its_host_leaves_it_while_it_is_out_and_returns(table):
    members = hosts(*["a1"] * 5)
    affinity = ConsistentHash(HashBy.HEADER, "x-user", table=table, size=1009)
    chosen, place = choice(members, affinity=affinity, outlier=OutlierDetection())
    while not chosen.grow(100):
        pass
    key = hash64(b"jason")
    home = chosen.pick(0.0, (), key)
    assert all(chosen.pick(0.0, (), key) is home for _ in range(20))
    assert chosen.pick(0.0, (home,), key) is not home
    eject(home)
    chosen.refresh(0.0, place)
    away = chosen.pick(0.0, (), key)
    assert away is not home
    assert all(chosen.pick(0.0, (), key) is away for _ in range(20))
    chosen.refresh(10.0, place)
    assert chosen.pick(10.0, (), key) is home


def test_a_request_without_a_key_goes_anywhere():
    members = hosts("a1", "a2", "b1")
    chosen, _ = choice(members, affinity=ConsistentHash(HashBy.HEADER, "x-user"))
    assert len(shares(chosen)) == 3


def test_a_table_has_more_slots_than_hosts():
    members = hosts(*["a1"] * 30)
    chosen, _ = choice(members, affinity=ConsistentHash(HashBy.SOURCE_IP, table=HashTable.MAGLEV, size=7))
    while not chosen.grow(100):
        pass
    picked = {chosen.pick(0.0, (), hash64(b"%d" % number)).name for number in range(2000)}
    assert len(picked) == 30
