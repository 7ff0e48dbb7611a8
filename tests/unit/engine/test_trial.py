"""AuthorizationPolicies on trial (`istio.io/dry-run`): what would be if they decided, beside what is."""

import pytest

from meshpy.engine.authorize import InboundAuthorizer
from meshpy.engine.request import Peer, Request
from meshpy.model.authz import (
    Action,
    Authorization,
    AuthorizationPolicy,
    AuthorizationRule,
    NetworkAction,
    NetworkPolicy,
    NetworkRule,
    Operation,
    Pending,
    Tier,
)
from meshpy.model.endpoint import Protocol
from meshpy.model.match import Exact
from meshpy.model.names import ServiceName

WEB = ServiceName("shop", "web")
PEER = Peer(WEB, "d/ns/shop/sa/web", "10.0.0.1")


def policy(name, action, *methods, dry_run=True):
    operations = (Operation(methods=tuple(map(Exact, methods))),) if methods else ()
    return AuthorizationPolicy(name, action, (AuthorizationRule("rules[0]", (), operations),), dry_run)


ENFORCED = policy("b", Action.ALLOW, "PUT", dry_run=False)


def asked(method, *policies, pending=None):
    auth = Authorization(policies=policies, baseline=frozenset({WEB}), pending=pending)
    return InboundAuthorizer(auth).judge(Request(method, "/", "", "api", "http", {}), PEER, 80, Protocol.HTTP)


@pytest.mark.parametrize(
    ("method", "policies", "would"),
    [
        ("GET", [policy("a", Action.ALLOW, "GET")], (True, "a")),
        ("POST", [policy("a", Action.ALLOW, "GET")], (False, "a")),
        ("GET", [policy("d", Action.DENY, "GET")], (False, "d")),
        ("GET", [policy("a", Action.ALLOW, "GET"), policy("d", Action.DENY)], (False, "d")),
        ("PUT", [policy("a", Action.ALLOW, "GET"), ENFORCED], (True, "b")),
        ("PUT", [policy("a", Action.ALLOW, "PUT"), ENFORCED], (True, "a")),
    ],
)
def test_the_pending_verdict_is_that_of_all_policies_together(method, policies, would):
    verdict = asked(method, *policies)
    assert verdict.allowed
    assert verdict.pending is not None
    assert (verdict.pending.allowed, verdict.pending.policy) == would


def test_a_policy_on_trial_never_decides():
    verdict = asked("GET", policy("a", Action.ALLOW, "GET"), ENFORCED)
    assert (verdict.allowed, verdict.policy) == (False, "b")
    assert verdict.pending is not None
    assert verdict.pending.allowed


def test_staged_network_policies_and_trials_are_pending_together():
    rule = NetworkRule("ingress[0]", NetworkAction.DENY)
    staged = Pending(ingress=(Tier("default", (NetworkPolicy("s", (rule,)),)),))
    verdict = asked("GET", policy("a", Action.ALLOW, "GET"), pending=staged)
    assert verdict.allowed
    assert verdict.pending is not None
    assert (verdict.pending.allowed, verdict.pending.policy) == (False, "s")


def test_without_a_trial_nothing_is_pending():
    assert asked("GET", policy("a", Action.ALLOW, "GET", dry_run=False)).pending is None
    assert asked("GET", policy("a", Action.AUDIT, "GET")).pending is None
