"""Calico's tiers: order, Pass, Log, default actions, http rules, unknown peers."""

import pytest

from meshpy.engine.authorize import InboundAuthorizer
from meshpy.engine.egress import EgressAuthorizer
from meshpy.engine.request import Peer, Request
from meshpy.model.authz import (
    Authorization,
    HttpMatch,
    NetworkAction,
    NetworkPolicy,
    NetworkRule,
    PeerMatch,
    PortRange,
    Tier,
)
from meshpy.model.endpoint import Protocol
from meshpy.model.match import Exact, SegmentPrefix
from meshpy.model.names import ServiceName

WEB, API = ServiceName("shop", "web"), ServiceName("shop", "api")
PEER = Peer(WEB, "cluster.local/ns/shop/sa/web", "10.0.1.7")
GET = Request("GET", "/foo/x", "", "api:8080", "http", {})
A, D, L, P = NetworkAction.ALLOW, NetworkAction.DENY, NetworkAction.LOG, NetworkAction.PASS
NOBODY = PeerMatch(services=frozenset())


def np(name, *actions, **fields):
    rules = tuple(
        action if isinstance(action, NetworkRule) else NetworkRule(f"ingress[{i}]", action)
        for i, action in enumerate(actions)
    )
    return NetworkPolicy(f"NetworkPolicy shop/{name}", rules, **fields)


def tier(name, *policies, default=D):
    return Tier(name, tuple(policies), default)


def judge(*tiers, peer=PEER, port=8080, request=GET, protocol=Protocol.HTTP, baseline=frozenset({WEB})):
    authorizer = InboundAuthorizer(Authorization(ingress=tiers, baseline=baseline))
    return authorizer.judge(request, peer, port, protocol)


@pytest.mark.parametrize(
    ("tiers", "allowed", "stage", "policy"),
    [
        ((tier("t", np("a", A)),), True, "network", "NetworkPolicy shop/a"),
        ((tier("t", np("a", D)),), False, "network", "NetworkPolicy shop/a"),
        ((tier("t", np("a", D), np("b", A)),), False, "network", "NetworkPolicy shop/a"),
        ((tier("t", np("a", L, A), np("b", D)),), True, "network", "NetworkPolicy shop/a"),
        ((tier("t", np("a", L)),), False, "network", "NetworkPolicy shop/a"),
        ((tier("t", np("a")),), False, "network", "NetworkPolicy shop/a"),
        ((tier("t", np("a"), np("b")),), False, "network", "NetworkPolicy shop/b"),
        ((tier("t", np("a"), default=P),), True, "baseline", ""),
        ((tier("t", np("a", P)),), True, "baseline", ""),
        ((tier("t", np("a", P), np("b", D)),), True, "baseline", ""),
        ((tier("t", np("a", P)), tier("u", np("b", D))), False, "network", "NetworkPolicy shop/b"),
        ((tier("t", np("a", A)), tier("u", np("b", D))), True, "network", "NetworkPolicy shop/a"),
        ((tier("t", np("a"), default=P), tier("u", np("b", A))), True, "network", "NetworkPolicy shop/b"),
        ((), True, "baseline", ""),
    ],
)
def test_tiers_in_order(tiers, allowed, stage, policy):
    verdict = judge(*tiers)
    assert (verdict.allowed, verdict.stage, verdict.policy) == (allowed, stage, policy)


def test_pass_and_log_are_seen_in_the_verdict():
    verdict = judge(tier("t", np("a", L, P)), tier("u", np("b", L, D)))
    assert verdict.audited == ("NetworkPolicy shop/a ingress[0]", "NetworkPolicy shop/b ingress[0]")


def test_a_pass_from_the_last_tier_leaves_it_to_the_baseline():
    assert not judge(tier("t", np("a", P)), baseline=frozenset()).allowed


@pytest.mark.parametrize(
    ("match", "peer", "matches"),
    [
        (PeerMatch(services=frozenset({WEB})), PEER, True),
        (PeerMatch(services=frozenset({API})), PEER, False),
        (PeerMatch(services=frozenset({WEB})), Peer(None, "", "10.0.1.7"), False),
        (PeerMatch(not_services=frozenset({WEB})), PEER, False),
        (PeerMatch(not_services=frozenset({WEB})), Peer(None, "", "10.0.1.7"), True),
        (PeerMatch(nets=("10.0.0.0/8",)), PEER, True),
        (PeerMatch(nets=()), PEER, False),
        (PeerMatch(nets=("10.0.0.0/8",)), Peer(WEB), False),
        (PeerMatch(not_nets=("10.0.0.0/8",)), PEER, False),
        (PeerMatch(not_nets=("10.0.0.0/8",)), Peer(WEB), False),
        (PeerMatch(services=frozenset({WEB}), nets=("192.0.2.0/24",)), PEER, False),
        (PeerMatch(), Peer(), True),
    ],
)
def test_who_a_rule_allows(match, peer, matches):
    assert judge(tier("t", np("a", NetworkRule("ingress[0]", A, match))), peer=peer).allowed is matches


def test_a_deny_outside_of_nets_holds_for_an_unknown_address():
    rule = NetworkRule("ingress[0]", D, PeerMatch(not_nets=("10.0.0.0/8",)))
    assert not judge(tier("t", np("a", rule, NetworkRule("ingress[1]", A))), peer=Peer(WEB)).allowed
    assert judge(tier("t", np("a", rule, NetworkRule("ingress[1]", A)))).allowed


@pytest.mark.parametrize(("port", "allowed"), [(79, False), (80, True), (90, True), (91, False), (85, False)])
def test_ports_are_ranges_with_exceptions(port, allowed):
    rule = NetworkRule("ingress[0]", A, ports=(PortRange(80, 90),), not_ports=(PortRange(85, 85),))
    assert judge(tier("t", np("a", rule)), port=port).allowed is allowed


HTTP = HttpMatch((Exact("GET"),), (SegmentPrefix("/foo"), Exact("/bar")))


@pytest.mark.parametrize(
    ("method", "path", "matches"),
    [
        ("GET", "/foo", True),
        ("GET", "/foo/x", True),
        ("GET", "/foobar", False),
        ("GET", "/bar", True),
        ("GET", "/bar/x", False),
        ("POST", "/foo", False),
    ],
)
def test_http_of_an_allow_rule(method, path, matches):
    rule = NetworkRule("ingress[0]", A, http=HTTP)
    request = Request(method, path, "", "api", "http", {})
    assert judge(tier("t", np("a", rule)), request=request).allowed is matches


def test_an_http_rule_without_a_request_never_allows_and_always_denies():
    for http in (HTTP, HttpMatch()):
        allow = tier("t", np("a", NetworkRule("ingress[0]", A, http=http)))
        deny = tier("t", np("a", NetworkRule("ingress[0]", D, http=http), NetworkRule("ingress[1]", A)))
        for protocol, request in ((Protocol.TCP, None), (Protocol.HTTP, None)):
            assert not judge(allow, protocol=protocol, request=request).allowed
            assert not judge(deny, protocol=protocol, request=request).allowed
        assert not judge(allow, protocol=Protocol.TCP, request=GET).allowed


def test_steps_end_where_a_rule_acts():
    authorizer = InboundAuthorizer(
        Authorization(
            ingress=(
                tier("t", np("a", NetworkRule("ingress[0]", A, NOBODY), NetworkRule("ingress[1]", P))),
                tier("u", np("b", D), np("c", A)),
            )
        )
    )
    steps = authorizer.evaluate_all(GET, PEER, 8080, Protocol.HTTP)
    assert [(s.policy, s.action, s.matched) for s in steps] == [
        ("NetworkPolicy shop/a", "Allow", False),
        ("NetworkPolicy shop/a", "Pass", True),
        ("NetworkPolicy shop/b", "Deny", True),
    ]


def egress(*tiers, services=(API,), address="", port=8080, request=GET):
    addresses = (address,) if address else ()
    return EgressAuthorizer(Authorization(egress=tiers)).judge(services, addresses, port, request)


def test_egress_is_open_until_a_tier_decides():
    assert egress().allowed
    assert egress(tier("t", np("a", P))).allowed
    refused = egress(tier("t", np("a", D)))
    assert (refused.allowed, refused.stage, refused.policy) == (False, "egress", "NetworkPolicy shop/a")


def test_every_service_behind_a_destination_must_be_allowed():
    only_api = tier("t", np("a", NetworkRule("egress[0]", A, PeerMatch(services=frozenset({API})))))
    assert egress(only_api).allowed
    assert not egress(only_api, services=(API, WEB)).allowed
    assert not egress(only_api, services=()).allowed


def test_hosts_outside_the_mesh_are_judged_by_address():
    nets = tier("t", np("a", NetworkRule("egress[0]", A, PeerMatch(nets=("192.0.2.0/24",)))))
    assert egress(nets, services=(), address="192.0.2.1").allowed
    assert not egress(nets, services=(), address="198.51.100.1").allowed
    assert not egress(nets, services=(), address="").allowed
