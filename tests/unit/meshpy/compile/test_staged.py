"""Staged policies are judged beside the enforced ones and never decide."""

from __future__ import annotations

import pytest

from meshpy.compile import check
from meshpy.policy.kinds import StagedAction
from tests.helpers.policies import document, loaded, problems_of, shop
from tests.helpers.verdicts import Tried

ALLOW_WEB = "selector: app == 'api'\ningress: [{action: Allow, source: {selector: app == 'web'}}]"
DENY_ALL = "selector: app == 'api'\ningress: [{action: Deny}]"


def staged(spec: str, action: str = "Set", kind: str = "StagedNetworkPolicy", **more: str) -> str:
    return document(kind, f"{spec}\nstagedAction: {action}", **more)


def test_without_staged_policies_nothing_is_pending() -> None:
    assert Tried(document("NetworkPolicy", DENY_ALL)).ask("web", "api").pending is None


def test_a_staged_policy_decides_nothing_and_says_what_it_would() -> None:
    tried = Tried(staged(DENY_ALL))
    verdict = tried.ask("web", "api")
    assert (verdict.allowed, verdict.stage) == (True, "baseline")
    pending = verdict.pending
    assert pending is not None
    assert (pending.allowed, pending.stage) == (False, "pending")
    assert (pending.policy, pending.rule) == ("StagedNetworkPolicy shop/p", "ingress[0]")
    assert tried.ask("api", "web").pending is None


def test_set_stands_in_the_place_of_the_policy_of_its_name() -> None:
    tried = Tried(document("NetworkPolicy", DENY_ALL), staged(ALLOW_WEB))
    verdict = tried.ask("web", "api")
    assert not verdict.allowed
    assert verdict.pending is not None
    assert verdict.pending.allowed
    report = tried.ask("report", "api")
    assert report.pending is not None
    assert not report.pending.allowed


@pytest.mark.parametrize(
    ("action", "pending"), [("Set", False), ("Learn", False), ("Delete", True), ("Ignore", None)]
)
def test_what_each_action_makes_pending(action: str, pending: bool | None) -> None:
    """Delete takes the enforced policy of its name away; Ignore is kept and judged nowhere."""
    enforced = document("NetworkPolicy", "selector: app == 'api'\ningress: [{action: Deny}]")
    tried = Tried(
        enforced, staged("selector: app == 'api'\ningress: [{action: Deny}, {action: Log}]", action)
    )
    verdict = tried.ask("web", "api")
    assert not verdict.allowed
    assert (verdict.pending.allowed if verdict.pending is not None else None) is pending


def test_a_staged_tier_order_is_that_of_the_enforced() -> None:
    tried = Tried(
        document("Tier", "order: 10", "platform"),
        staged("selector: app == 'api'\ntier: platform\ningress: [{action: Pass}]", name="guard"),
        staged(DENY_ALL),
    )
    verdict = tried.ask("web", "api")
    assert verdict.allowed
    assert verdict.pending is not None
    assert verdict.pending.policy == "StagedNetworkPolicy shop/p"


def test_the_global_and_the_kubernetes_forms() -> None:
    tried = Tried(
        document("NetworkPolicy.networking.k8s.io", "podSelector: {}\ningress: [{}]"),
        document("StagedKubernetesNetworkPolicy", "podSelector: {matchLabels: {app: api}}"),
        document("StagedGlobalNetworkPolicy", "selector: app == 'web'\ningress: [{action: Deny}]"),
    )
    api, web = tried.ask("web", "api"), tried.ask("api", "web")
    assert api.allowed
    assert web.allowed
    assert api.pending is not None
    assert web.pending is not None
    assert not api.pending.allowed
    assert (web.pending.allowed, web.pending.policy) == (False, "StagedGlobalNetworkPolicy p")


def test_egress_is_pending_at_the_caller() -> None:
    verdict = Tried(staged("selector: app == 'web'\negress: [{action: Deny}]")).leave("web", "a.com", 443)
    assert verdict.allowed
    assert verdict.pending is not None
    assert verdict.pending.policy == "StagedNetworkPolicy shop/p"


def test_a_pending_deny_of_a_request_depends_on_the_request() -> None:
    http = "selector: app == 'api'\ningress: [{action: Allow, http: {methods: [GET]}}]"
    tried = Tried(staged(http))
    get, post = tried.ask("web", "api"), tried.ask("web", "api", method="POST")
    assert get.pending is not None
    assert post.pending is not None
    assert (get.pending.allowed, post.pending.allowed) == (True, False)


def test_the_annotation_names_the_day_a_staged_policy_expires() -> None:
    more = ", annotations: {meshpy.io/expires: '2027-03-31'}"
    (policy,) = loaded(staged(DENY_ALL, more=more)).network_policies
    assert (policy.expires, policy.staged) == ("2027-03-31", StagedAction.SET)
    (problem,) = problems_of(staged(DENY_ALL, more=", annotations: {meshpy.io/expires: soon}"))
    assert problem.what == "the annotation meshpy.io/expires is 'soon', which is no day"
    (problem,) = problems_of(document("NetworkPolicy", DENY_ALL, more=more))
    assert "is for staged policies" in problem.what


def test_a_delete_of_nothing_is_told() -> None:
    (warning,) = check(shop(), loaded(staged(DENY_ALL, "Delete"))).warnings
    assert "there is no NetworkPolicy shop/p to delete" in warning.what
