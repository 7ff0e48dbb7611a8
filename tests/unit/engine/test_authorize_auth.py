"""Rules on JWTs and on the client's address behind proxies: Istio's meanings, value by value."""

import pytest

from meshpy.engine.authorize import InboundAuthorizer
from meshpy.engine.claims import RequestAuth
from meshpy.engine.request import Peer, Request
from meshpy.model.authz import (
    Action,
    Authorization,
    AuthorizationPolicy,
    AuthorizationRule,
    Condition,
    Operation,
    Source,
)
from meshpy.model.endpoint import Protocol
from meshpy.model.match import Exact, Prefix, Present, Suffix

STRANGER = Peer(None, "", "192.0.2.9")
PRINCIPAL = "https://idp.example/jane"
JANE = RequestAuth(
    PRINCIPAL,
    ("api", "web"),
    "spa",
    {
        "iss": "https://idp.example",
        "scope": ["read", "write"],
        "realm": {"groups": ["ops", "dev"], "level": 3},
        "verified": True,
        "ratio": 0.5,
        "empty": "",
        "https://x/y": "z",
    },
)


def authorizer(action, source=None, when=(), to=None, hops=0):
    rule = AuthorizationRule("rules[0]", (source,) if source else (), (to,) if to else (), tuple(when))
    policy = AuthorizationPolicy("AuthorizationPolicy shop/p", Action(action), (rule,))
    return InboundAuthorizer(
        Authorization(policies=(policy,), baseline_external=frozenset({80}), trusted_proxies=hops)
    )


def is_allowed(action, auth=None, forwarded=(), protocol=Protocol.HTTP, peer=STRANGER, **rule):
    headers = {"x-forwarded-for": list(forwarded)} if forwarded else {}
    request = Request("GET", "/", "", "api", "http", headers, auth) if protocol.is_http else None
    return authorizer(action, **rule).judge(request, peer, 80, protocol).allowed


@pytest.mark.parametrize(
    ("source", "auth", "matches"),
    [
        (Source(request_principals=(Present(),)), JANE, True),
        (Source(request_principals=(Present(),)), None, False),
        (Source(request_principals=(Present(),)), RequestAuth(""), False),
        (Source(request_principals=(Exact(PRINCIPAL),)), JANE, True),
        (Source(request_principals=(Exact("https://idpXexample/jane"),)), JANE, False),
        (Source(request_principals=(Prefix("https://idp.example/"),)), JANE, True),
        (Source(request_principals=(Suffix("/jane"),)), JANE, True),
        (Source(request_principals=(Suffix("/john"),)), JANE, False),
        (Source(not_request_principals=(Present(),)), JANE, False),
        (Source(not_request_principals=(Present(),)), None, True),
        (Source(not_request_principals=(Suffix("/john"),)), JANE, True),
    ],
)
def test_request_principals(source, auth, matches):
    assert is_allowed("ALLOW", auth, source=source) is matches
    assert is_allowed("DENY", auth, source=source) is not matches


@pytest.mark.parametrize(
    ("condition", "matches", "without_token"),
    [
        (Condition("request.auth.principal", (Exact(PRINCIPAL),)), True, False),
        (Condition("request.auth.audiences", (Exact("web"),)), True, False),
        (Condition("request.auth.audiences", (Exact("db"),)), False, False),
        (Condition("request.auth.audiences", not_values=(Exact("web"),)), False, True),
        (Condition("request.auth.presenter", (Exact("spa"),)), True, False),
        (Condition("request.auth.presenter", (Prefix("x"),)), False, False),
        (Condition("request.auth.claims[iss]", (Exact("https://idp.example"),)), True, False),
        (Condition("request.auth.claims[scope]", (Exact("write"),)), True, False),
        (Condition("request.auth.claims[scope]", (Exact("read write"),)), False, False),
        (Condition("request.auth.claims[realm][groups]", (Exact("dev"),)), True, False),
        (Condition("request.auth.claims[realm][groups]", not_values=(Exact("dev"),)), False, True),
        (Condition("request.auth.claims[realm][groups]", (Present(),), (Exact("root"),)), True, False),
        (Condition("request.auth.claims[realm][level]", (Exact("3"),)), True, False),
        (Condition("request.auth.claims[realm]", (Present(),)), False, False),
        (Condition("request.auth.claims[realm][groups][0]", (Present(),)), False, False),
        (Condition("request.auth.claims[verified]", (Exact("true"),)), True, False),
        (Condition("request.auth.claims[ratio]", (Present(),)), False, False),
        (Condition("request.auth.claims[empty]", (Present(),)), False, False),
        (Condition("request.auth.claims[empty]", (Prefix(""),)), False, False),
        (Condition("request.auth.claims[https://x/y]", (Exact("z"),)), True, False),
        (Condition("request.auth.claims[none]", (Present(),)), False, False),
        (Condition("request.auth.claims[none]", not_values=(Present(),)), True, True),
    ],
)
def test_conditions_on_a_token(condition, matches, without_token):
    for action, expected in (("ALLOW", True), ("DENY", False)):
        assert is_allowed(action, JANE, when=[condition]) is (matches is expected)
        assert is_allowed(action, None, when=[condition]) is (without_token is expected)


def test_a_rule_on_a_token_never_allows_and_always_denies_on_an_opaque_port():
    for rule in (
        {"source": Source(request_principals=(Present(),))},
        {"when": [Condition("request.auth.claims[a]", (Exact("b"),))]},
    ):
        assert not is_allowed("ALLOW", protocol=Protocol.TCP, **rule)
        assert not is_allowed("DENY", protocol=Protocol.TCP, **rule)


BEHIND = "10.9.0.0/16"


@pytest.mark.parametrize(
    ("hops", "forwarded", "matches"),
    [
        (0, ["10.9.0.1"], False),
        (1, ["10.9.0.1"], True),
        (1, ["10.9.0.1, 203.0.113.1"], False),
        (1, ["203.0.113.1, 10.9.0.1"], True),
        (1, ["203.0.113.1", "10.9.0.1"], True),
        (1, ["10.9.0.1", "203.0.113.1"], False),
        (2, ["203.0.113.1, 10.9.0.1, 198.51.100.7"], True),
        (2, ["10.9.0.1"], False),
        (1, [], False),
        (1, ["::ffff:10.9.0.1"], True),
        (1, ["10.9.0.1:4711"], False),
        (1, ["unknown"], False),
    ],
)
def test_remote_ip_is_the_entry_of_the_first_trusted_proxy(hops, forwarded, matches):
    for rule in (
        {"source": Source(remote_ip_blocks=(BEHIND,))},
        {"when": [Condition("remote.ip", (Exact(BEHIND),))]},
    ):
        assert is_allowed("ALLOW", forwarded=forwarded, hops=hops, **rule) is matches


def test_whoever_passed_too_few_proxies_is_its_own_client():
    source = Source(remote_ip_blocks=("192.0.2.0/24",))
    assert is_allowed("ALLOW", source=source, hops=0)
    assert is_allowed("ALLOW", source=source, hops=3, forwarded=["10.9.0.1"])
    assert is_allowed("ALLOW", source=source, hops=1, protocol=Protocol.TCP)


def test_an_unreadable_remote_address_is_outside_every_net_for_a_deny_rule_only():
    source = Source(not_remote_ip_blocks=(BEHIND,))
    assert not is_allowed("DENY", source=source, hops=1, forwarded=["unknown"])
    assert not is_allowed("ALLOW", source=source, hops=1, forwarded=["unknown"])
    assert is_allowed("ALLOW", source=source, hops=1, forwarded=["203.0.113.1"])


def test_a_verdict_may_be_kept_per_token_and_not_when_the_client_s_address_is_told_by_a_header():
    on_token = authorizer("ALLOW", source=Source(request_principals=(Present(),)))
    assert (on_token.depends_on_auth, on_token.depends_on_headers) == (True, False)
    on_remote = authorizer("ALLOW", source=Source(remote_ip_blocks=(BEHIND,)), hops=1)
    assert (on_remote.depends_on_auth, on_remote.depends_on_headers) == (False, True)
    on_peer = authorizer("ALLOW", source=Source(remote_ip_blocks=(BEHIND,)))
    assert (on_peer.depends_on_auth, on_peer.depends_on_headers) == (False, False)
    judge = on_token.for_connection(STRANGER, 80, Protocol.HTTP)
    assert (judge.depends_on_auth, judge.constant) == (True, None)


def test_a_step_says_which_claim_did_not_hold():
    condition = Condition("request.auth.claims[realm][groups]", (Exact("root"),))
    rules = authorizer("ALLOW", when=[condition], to=Operation(methods=(Exact("GET"),)))
    request = Request("GET", "/", "", "api", "http", {}, JANE)
    step = rules.evaluate_all(request, STRANGER, 80, Protocol.HTTP)[-1]
    assert step.why == "when: request.auth.claims[realm][groups] root does not hold for ops, dev"
    bare = Request("GET", "/", "", "api", "http", {})
    assert rules.evaluate_all(bare, STRANGER, 80, Protocol.HTTP)[-1].why.endswith("does not hold for nothing")
