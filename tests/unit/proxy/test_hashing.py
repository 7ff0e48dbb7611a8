"""Consistent hashing: even, and nobody moves who need not."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import pytest

from proxy.decide.hashing import Maglev, Ring, hash64


@dataclass(frozen=True)
class Host:
    name: str


def everyone(_host: Host) -> bool:
    return True


def hosts(count: int) -> list[Host]:
    return [Host(f"10.0.{number // 250}.{number % 250}:8080") for number in range(count)]


KEYS = [hash64(f"user-{number}".encode()) for number in range(20_000)]


def table(kind: str, members: list[Host]) -> Ring[Host] | Maglev[Host]:
    if kind == "ring":
        return Ring(members, 1024)
    maglev = Maglev(members, 65537)
    assert maglev.build(65537)
    return maglev


@pytest.mark.parametrize(("kind", "low", "high"), [("ring", 0.6, 1.5), ("maglev", 0.85, 1.15)])
def test_keys_are_spread_over_the_hosts(kind, low, high):
    chosen = table(kind, hosts(10))
    counts = Counter(chosen.pick(key, everyone).name for key in KEYS)
    fair = len(KEYS) / 10
    assert len(counts) == 10
    assert all(low * fair < count < high * fair for count in counts.values())


@pytest.mark.parametrize("kind", ["ring", "maglev"])
def test_a_key_keeps_its_host(kind):
    one, other = table(kind, hosts(10)), table(kind, hosts(10))
    assert all(one.pick(key, everyone) == other.pick(key, everyone) for key in KEYS[:1000])


@pytest.mark.parametrize(("kind", "moved"), [("ring", 0.0), ("maglev", 0.05)])
def test_a_host_that_goes_moves_its_own_keys_and_few_others(kind, moved):
    before, after = table(kind, hosts(10)), table(kind, hosts(9))
    gone = hosts(10)[9]
    stayed = [key for key in KEYS if before.pick(key, everyone) != gone]
    changed = sum(before.pick(key, everyone) != after.pick(key, everyone) for key in stayed)
    assert changed <= moved * len(stayed)


@pytest.mark.parametrize("kind", ["ring", "maglev"])
def test_a_host_that_is_passed_over_moves_its_own_keys_alone_and_spreads_them(kind):
    members = hosts(10)
    chosen, bad = table(kind, members), members[3]
    moved = Counter()
    for key in KEYS:
        first, second = chosen.pick(key, everyone), chosen.pick(key, lambda host: host is not bad)
        if first is bad:
            moved[second.name] += 1
        else:
            assert second is first
    assert len(moved) == 9
    assert max(moved.values()) < sum(moved.values()) * 0.4


@pytest.mark.parametrize("kind", ["ring", "maglev"])
def test_one_usable_host_of_many_is_found_and_none_is_none(kind):
    members = hosts(50)
    chosen = table(kind, members)
    assert all(chosen.pick(key, lambda host: host is members[7]) is members[7] for key in KEYS[:50])
    assert table("ring", members[:3]).pick(KEYS[0], lambda _host: False) is None


def test_a_maglev_table_built_in_steps_is_the_one_built_at_once():
    whole, steps = Maglev(hosts(7), 1009), Maglev(hosts(7), 1009)
    whole.build(10_000)
    turns = 0
    while not steps.build(100):
        turns += 1
    assert turns == 10
    assert all(whole.pick(key, everyone) == steps.pick(key, everyone) for key in KEYS[:500])


def test_tables_without_hosts_pick_nobody():
    assert Ring([], 1024).pick(1, everyone) is None
    assert Maglev([], 7).build(1)
