"""Rate limits: what is admitted, who shares a rate, how much is remembered."""

from __future__ import annotations

import pytest

from meshpy.engine.rate_limits import rate_rules, steps_of
from meshpy.engine.request import Peer, Request
from meshpy.model.match import Exact, HeaderMatch, RequestMatch, SegmentPrefix
from meshpy.model.names import ServiceName
from meshpy.model.rate_limit import RateLimit, RateOverride
from proxy.decide.limit import MAX_IDENTITIES, Gcra, Limiter, admit

WEB, CRON = ServiceName("shop", "web"), ServiceName("shop", "cron")
TITLE = "HTTPLocalRateLimitPolicy shop/api"


def peer(name: ServiceName) -> Peer:
    return Peer(name, f"mesh.test{name.spiffe_path}")


def get(path: str = "/", **headers: str) -> Request:
    return Request("GET", path, "", "api", "http", {name: [value] for name, value in headers.items()})


def limiters(*limits: RateLimit) -> tuple[Limiter, ...]:
    return tuple(Limiter(rule) for rule in rate_rules(limits))


def admitted(
    made: tuple[Limiter, ...], who: Peer, count: int, now: float, request: Request | None = None
) -> int:
    return sum(admit(made, who, request or get(), now) is None for _ in range(count))


@pytest.mark.parametrize("rps", [1, 7, 100, 3333])
def test_a_second_of_silence_is_one_second_s_burst_and_then_the_rate_holds(rps):
    rate = Gcra(rps)
    taken = 0
    while not rate.wait_s(1000.0):
        rate.take(1000.0)
        taken += 1
    assert taken == rps
    assert rate.wait_s(1000.0) == pytest.approx(1 / rps)
    for second in range(1, 11):
        for step in range(10):
            now = 1000.0 + second + step / 10
            while not rate.wait_s(now):
                rate.take(now)
                taken += 1
    assert taken == pytest.approx(rps * 11.9, abs=rps * 0.2 + 1)


def test_callers_have_a_rate_each_and_share_the_total():
    made = limiters(RateLimit(TITLE, total_rps=15, identity_rps=10))
    assert admitted(made, peer(WEB), 50, 10.0) == 10
    assert admitted(made, peer(CRON), 50, 10.0) == 5


def test_a_refused_request_uses_up_nothing():
    made = limiters(RateLimit(TITLE, total_rps=100, identity_rps=1))
    assert admitted(made, peer(WEB), 1000, 10.0) == 1
    others = [peer(ServiceName("shop", f"s{number}")) for number in range(200)]
    assert sum(admitted(made, who, 1, 10.0) for who in others) == 99


def test_an_override_replaces_the_rate_of_its_clients():
    limit = RateLimit(TITLE, identity_rps=2, overrides=(RateOverride(20, (WEB,)),))
    made = limiters(limit)
    assert (admitted(made, peer(WEB), 50, 10.0), admitted(made, peer(CRON), 50, 10.0)) == (20, 2)


def test_callers_without_identity_are_one():
    made = limiters(RateLimit(TITLE, identity_rps=5))
    strangers = [Peer(None, "", f"10.0.0.{number}") for number in range(10)]
    assert sum(admitted(made, who, 10, 10.0) for who in strangers) == 5


def test_a_refusal_says_who_made_it_and_how_long_to_wait():
    made = limiters(RateLimit(TITLE, identity_rps=2))
    admitted(made, peer(WEB), 2, 10.0)
    refusal = admit(made, peer(WEB), get(), 10.25)
    assert refusal is not None
    assert (refusal.policy, refusal.share.rule, refusal.share.key) == (TITLE, "identity", "shop/web")
    assert refusal.wait_s == pytest.approx(0.25)


def test_matches_choose_the_requests_that_count():
    search = RequestMatch(path=SegmentPrefix("/search"))
    acme = RequestMatch(method=Exact("GET"), headers=(HeaderMatch("x-tenant", Exact("acme")),))
    made = limiters(RateLimit(TITLE, (search, acme), total_rps=3))
    assert admitted(made, peer(WEB), 10, 10.0, get("/searches")) == 10
    assert admitted(made, peer(WEB), 2, 10.0, get("/search/x")) == 2
    assert admitted(made, peer(WEB), 10, 10.0, get("/", **{"x-tenant": "acme"})) == 1


def test_what_is_remembered_of_callers_is_bounded_and_who_is_beyond_shares_a_rate():
    made = limiters(RateLimit(TITLE, identity_rps=1))
    for number in range(MAX_IDENTITIES * 2):
        admit(made, peer(ServiceName("shop", f"s{number}")), get(), 10.0)
    assert made[0].size <= MAX_IDENTITIES + 1
    assert admitted(made, peer(ServiceName("shop", "new")), 5, 10.0) == 0
    assert admitted(made, peer(ServiceName("shop", "new")), 5, 100.0) == 1
    assert made[0].size <= MAX_IDENTITIES


def test_explain_names_every_rate_that_a_request_counts_against():
    limit = RateLimit(TITLE, total_rps=100, identity_rps=10, overrides=(RateOverride(50, (WEB,)),))
    steps = steps_of([limit], peer(WEB), get())
    assert [(step.stage, step.policy, step.rule, step.matched) for step in steps] == [
        ("rate limit", TITLE, "overrides[0]", True),
        ("rate limit", TITLE, "total", True),
    ]
    other = RateLimit(TITLE, (RequestMatch(path=Exact("/x")),), total_rps=1)
    assert [step.matched for step in steps_of([other], peer(WEB), get())] == [False]
