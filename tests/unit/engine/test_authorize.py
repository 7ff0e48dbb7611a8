"""Authorization at the callee: Istio's truth tables, fail-closed on opaque ports, baseline first."""

import pytest

from meshpy.engine.authorize import InboundAuthorizer
from meshpy.engine.match import MatchError
from meshpy.engine.request import Peer, Request
from meshpy.model.authz import (
    Action,
    Authorization,
    AuthorizationPolicy,
    AuthorizationRule,
    Condition,
    NetworkAction,
    NetworkPolicy,
    NetworkRule,
    Operation,
    Source,
    Tier,
)
from meshpy.model.endpoint import Protocol
from meshpy.model.match import Exact, Prefix, Present, Suffix
from meshpy.model.names import ServiceName

WEB = ServiceName("shop", "web")
PEER = Peer(WEB, "cluster.local/ns/shop/sa/web", "10.0.1.7")
STRANGER = Peer(None, "", "192.0.2.9")
ANY = AuthorizationRule("rules[0]")


def rule(name="rules[0]", source=None, to=None, when=()):
    return AuthorizationRule(name, (source,) if source else (), (to,) if to else (), tuple(when))


def policy(action, *rules, name="p", dry_run=False):
    return AuthorizationPolicy(f"AuthorizationPolicy shop/{name}", Action(action), tuple(rules), dry_run)


def judge(
    *policies,
    method="GET",
    path="/",
    peer=PEER,
    port=8080,
    protocol=Protocol.HTTP,
    headers=None,
    authority="api:8080",
    sni="",
    local="",
    **auth,
):
    auth.setdefault("baseline", frozenset({WEB}))
    auth.setdefault("baseline_external", frozenset({8080, 6379}))
    authorizer = InboundAuthorizer(Authorization(policies=policies, **auth), "cluster.local")
    request = Request(method, path, "", authority, "http", headers or {}) if protocol.is_http else None
    verdict = authorizer.judge(request, peer, port, protocol, local, sni)
    on_connection = authorizer.for_connection(peer, port, protocol, local, sni)
    assert on_connection.judge(request) == verdict
    if on_connection.constant is not None:
        assert on_connection.constant == verdict
    return verdict


READ = Operation(methods=(Exact("GET"),))
ADMIN = Operation(paths=(Prefix("/admin"),))


@pytest.mark.parametrize(
    ("policies", "allowed", "stage"),
    [
        ((), True, "baseline"),
        ((policy("ALLOW"),), False, "allow"),
        ((policy("ALLOW", ANY),), True, "allow"),
        ((policy("DENY"),), True, "baseline"),
        ((policy("DENY", ANY),), False, "deny"),
        ((policy("ALLOW", ANY, name="a"), policy("DENY", ANY, name="z")), False, "deny"),
        ((policy("DENY", ANY, name="a"), policy("ALLOW", ANY, name="z")), False, "deny"),
        ((policy("ALLOW", rule(to=READ)),), True, "allow"),
        ((policy("ALLOW", rule(to=ADMIN)),), False, "allow"),
        (
            (policy("ALLOW", rule(to=ADMIN), name="a"), policy("ALLOW", rule(to=READ), name="b")),
            True,
            "allow",
        ),
        ((policy("DENY", rule(to=ADMIN)),), True, "baseline"),
        ((policy("AUDIT", ANY),), True, "baseline"),
        ((policy("DENY", ANY, dry_run=True),), True, "baseline"),
        ((policy("ALLOW", dry_run=True),), True, "baseline"),
    ],
)
def test_istio_order_and_empty_rules(policies, allowed, stage):
    verdict = judge(*policies)
    assert (verdict.allowed, verdict.stage) == (allowed, stage)


def test_a_refusal_names_policy_and_rule():
    verdict = judge(
        policy("DENY", rule(to=READ), rule("rules[1]", to=ADMIN), name="d"), method="PUT", path="/admin"
    )
    assert (verdict.policy, verdict.rule) == ("AuthorizationPolicy shop/d", "rules[1]")
    assert "rules[1]" in verdict.reason
    missed = judge(policy("ALLOW", rule(to=ADMIN), name="x"), policy("ALLOW", name="y"))
    assert missed.policy == "AuthorizationPolicy shop/x, AuthorizationPolicy shop/y"


OPAQUE = {"protocol": Protocol.TCP, "port": 6379}


@pytest.mark.parametrize(
    ("policies", "allowed"),
    [
        ((policy("ALLOW", rule(to=READ)),), False),
        ((policy("ALLOW", rule(to=Operation(ports=(6379,)))),), True),
        ((policy("ALLOW", rule(to=Operation(ports=(80,)))),), False),
        ((policy("DENY", rule(to=READ)),), False),
        ((policy("DENY", rule(to=Operation(not_methods=(Exact("GET"),)))),), False),
        ((policy("DENY", rule(to=Operation(ports=(80,), methods=(Exact("GET"),)))),), True),
        ((policy("DENY", rule(when=[Condition("request.headers[x]", (Exact("1"),))])),), False),
        ((policy("ALLOW", rule(when=[Condition("request.headers[x]", not_values=(Exact("1"),))])),), False),
        ((policy("DENY", rule(source=Source(namespaces=(Exact("blog"),)), to=READ)),), True),
    ],
)
def test_an_l7_rule_on_an_opaque_port_never_allows_and_always_denies(policies, allowed):
    assert judge(*policies, **OPAQUE).allowed is allowed


def test_an_opaque_connection_is_settled_without_a_request():
    authorizer = InboundAuthorizer(
        Authorization(policies=(policy("DENY", rule(to=READ)),), baseline=frozenset({WEB}))
    )
    assert authorizer.for_connection(PEER, 6379, Protocol.TCP).constant is not None
    assert authorizer.for_connection(PEER, 8080, Protocol.HTTP).constant is None


def test_an_http_port_without_a_request_is_refused():
    authorizer = InboundAuthorizer(
        Authorization(policies=(policy("DENY", rule(to=ADMIN)),), baseline=frozenset({WEB}))
    )
    assert not authorizer.for_connection(PEER, 8080, Protocol.HTTP).judge(None).allowed
    assert not authorizer.judge(None, PEER, 8080, Protocol.HTTP).allowed


@pytest.mark.parametrize(
    ("source", "peer", "matches"),
    [
        (Source(principals=(Exact("cluster.local/ns/shop/sa/web"),)), PEER, True),
        (Source(principals=(Exact("cluster.local/ns/shop/sa/we.b"),)), PEER, False),
        (Source(principals=(Suffix("/sa/web"),)), PEER, True),
        (Source(principals=(Prefix("cluster.local/ns/shop/"),)), PEER, True),
        (Source(principals=(Present(),)), PEER, True),
        (Source(principals=(Present(),)), STRANGER, False),
        (Source(principals=(Prefix(""),)), STRANGER, False),
        (Source(not_principals=(Exact("cluster.local/ns/shop/sa/web"),)), PEER, False),
        (Source(not_principals=(Exact("cluster.local/ns/shop/sa/web"),)), STRANGER, True),
        (Source(namespaces=(Exact("shop"),)), PEER, True),
        (Source(namespaces=(Prefix("sh"),)), PEER, True),
        (Source(namespaces=(Exact("sho"),)), PEER, False),
        (Source(namespaces=(Present(),)), STRANGER, False),
        (Source(not_namespaces=(Exact("shop"),)), PEER, False),
        (Source(ip_blocks=("10.0.0.0/8",)), PEER, True),
        (Source(ip_blocks=("10.0.1.7",)), PEER, True),
        (Source(ip_blocks=("10.0.2.0/24",)), PEER, False),
        (Source(not_ip_blocks=("10.0.0.0/8",)), PEER, False),
        (Source(not_ip_blocks=("10.0.0.0/8",)), STRANGER, True),
        (Source(not_ip_blocks=("10.0.0.0/8",)), Peer(WEB, PEER.principal, ""), False),
        (Source(ip_blocks=("10.0.0.0/8",)), Peer(WEB, PEER.principal, "::ffff:10.0.1.7"), True),
        (Source(principals=(Exact(PEER.principal),), namespaces=(Exact("blog"),)), PEER, False),
    ],
)
def test_sources(source, peer, matches):
    assert judge(policy("ALLOW", rule(source=source)), peer=peer).allowed is matches


def test_an_unknown_address_is_outside_of_every_net_for_a_deny_rule():
    source = Source(not_ip_blocks=("10.0.0.0/8",))
    assert not judge(policy("DENY", rule(source=source)), peer=Peer(WEB, PEER.principal, "")).allowed


def test_cluster_local_in_a_principal_is_the_own_trust_domain():
    auth = Authorization(
        policies=(policy("ALLOW", rule(source=Source(principals=(Exact("cluster.local/ns/shop/sa/web"),)))),),
        baseline=frozenset({WEB}),
    )
    request = Request("GET", "/", "", "api", "http", {})
    for domain, principal, allowed in (
        ("acme.org", "acme.org/ns/shop/sa/web", True),
        ("acme.org", "cluster.local/ns/shop/sa/web", False),
        ("cluster.local", "cluster.local/ns/shop/sa/web", True),
    ):
        verdict = InboundAuthorizer(auth, domain).judge(request, Peer(WEB, principal), 8080, Protocol.HTTP)
        assert verdict.allowed is allowed


@pytest.mark.parametrize(
    ("condition", "matches"),
    [
        (Condition("request.headers[X-Role]", (Exact("admin"),)), True),
        (Condition("request.headers[x-role]", not_values=(Exact("admin"),)), False),
        (Condition("request.headers[x-none]", (Present(),)), False),
        (Condition("request.headers[x-none]", not_values=(Present(),)), True),
        (Condition("source.ip", (Exact("10.0.0.0/8"),)), True),
        (Condition("source.ip", not_values=(Exact("10.0.1.7"),)), False),
        (Condition("source.namespace", (Exact("shop"),)), True),
        (Condition("source.principal", (Suffix("/sa/web"),)), True),
        (Condition("destination.ip", (Exact("10.0.9.0/24"),)), True),
        (Condition("destination.port", (Exact("8080"),)), True),
        (Condition("destination.port", (Exact("80"),)), False),
        (Condition("connection.sni", (Suffix(".mesh"),)), True),
        (Condition("connection.sni", not_values=(Suffix(".mesh"),)), False),
    ],
)
def test_conditions(condition, matches):
    verdict = judge(
        policy("ALLOW", rule(when=[condition])),
        headers={"x-role": ["admin"]},
        sni="p8080.api.shop.mesh",
        local="10.0.9.1",
    )
    assert verdict.allowed is matches


def test_conditions_are_all_asked_and_unknown_keys_are_refused():
    both = [Condition("destination.port", (Exact("8080"),)), Condition("source.namespace", (Exact("blog"),))]
    assert not judge(policy("ALLOW", rule(when=both))).allowed
    with pytest.raises(MatchError, match="experimental"):
        judge(policy("ALLOW", rule(when=[Condition("experimental.envoy", (Exact("x"),))])))


@pytest.mark.parametrize(
    ("operation", "matches"),
    [
        (Operation(hosts=(Exact("API"),)), True),
        (Operation(not_hosts=(Exact("api"),)), False),
        (Operation(ports=(8080,)), True),
        (Operation(not_ports=(8080,)), False),
        (Operation(methods=(Exact("get"),)), False),
        (Operation(not_methods=(Exact("POST"),)), True),
        (Operation(paths=(Suffix(".json"), Exact("/orders"))), True),
        (Operation(not_paths=(Prefix("/ord"),)), False),
        (Operation(methods=(Exact("GET"),), paths=(Exact("/x"),)), False),
    ],
)
def test_operations(operation, matches):
    assert judge(policy("ALLOW", rule(to=operation)), path="/orders").allowed is matches


def test_sources_and_operations_are_alternatives_and_both_are_needed():
    two = AuthorizationRule(
        "rules[0]",
        (Source(namespaces=(Exact("blog"),)), Source(namespaces=(Exact("shop"),))),
        (ADMIN, READ),
    )
    assert judge(policy("ALLOW", two)).allowed
    assert not judge(policy("ALLOW", two), method="POST").allowed
    assert judge(policy("ALLOW", two), method="POST", path="/admin").allowed


def test_the_baseline_is_what_the_networks_allowed():
    assert judge().stage == "baseline"
    refused = judge(peer=Peer(ServiceName("blog", "web"), "cluster.local/ns/blog/sa/web"))
    assert (refused.allowed, refused.stage) == (False, "baseline")
    assert "NetworkPolicy" in refused.reason
    assert judge(peer=STRANGER, port=8080).allowed
    assert not judge(peer=STRANGER, port=9090).allowed


def test_an_allow_policy_cannot_widen_the_baseline_but_a_network_policy_can():
    blog = Peer(ServiceName("blog", "web"), "cluster.local/ns/blog/sa/web")
    assert judge(policy("ALLOW", ANY), peer=blog).stage == "baseline"
    opened = Tier(
        "default",
        (NetworkPolicy("NetworkPolicy shop/open", (NetworkRule("ingress[0]", NetworkAction.ALLOW),)),),
    )
    verdict = judge(peer=blog, ingress=(opened,))
    assert (verdict.allowed, verdict.stage, verdict.policy) == (True, "network", "NetworkPolicy shop/open")
    assert judge(policy("DENY", ANY), peer=blog, ingress=(opened,)).stage == "deny"


def test_audit_and_dry_run_policies_are_told_and_decide_nothing():
    verdict = judge(
        policy("AUDIT", rule(to=READ), name="see"),
        policy("DENY", ANY, name="later", dry_run=True),
        policy("AUDIT", rule(to=ADMIN), name="other"),
    )
    assert verdict.allowed
    assert verdict.audited == (
        "AuthorizationPolicy shop/see rules[0]",
        "AuthorizationPolicy shop/later rules[0]",
    )


def test_verdicts_may_be_kept_unless_headers_are_asked():
    plain = Authorization(policies=(policy("ALLOW", rule(to=READ)),))
    asked = Authorization(
        policies=(policy("ALLOW", rule(when=[Condition("request.headers[x]", (Present(),))])),)
    )
    assert not InboundAuthorizer(plain).depends_on_headers
    assert InboundAuthorizer(asked).depends_on_headers


def test_steps_say_of_each_rule_why_it_did_not_match():
    auth = Authorization(
        policies=(policy("DENY", rule(to=ADMIN)), policy("ALLOW", rule(to=READ), rule("rules[1]"))),
        baseline=frozenset({WEB}),
    )
    request = Request("PUT", "/x", "", "api", "http", {})
    steps = InboundAuthorizer(auth).evaluate_all(request, PEER, 8080, Protocol.HTTP)
    assert [(step.stage, step.rule, step.matched) for step in steps] == [
        ("baseline", "", True),
        ("deny", "rules[0]", False),
        ("allow", "rules[0]", False),
        ("allow", "rules[1]", True),
    ]
    assert "/x" in steps[1].why
    assert "PUT" in steps[2].why
