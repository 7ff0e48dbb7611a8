"""Cilium's policies where a table of calls cannot show it: hosts by name, rule names, findings, headers."""

from __future__ import annotations

import pytest

from meshpy.compile import check
from tests.helpers.policies import document, loaded, shop
from tests.helpers.verdicts import Tried

C = "CiliumNetworkPolicy"


def names(rule: str) -> Tried:
    return Tried(
        document(C, f"endpointSelector: {{matchLabels: {{app: web}}}}\negress: [{{toFQDNs: [{rule}]}}]")
    )


@pytest.mark.parametrize(
    ("rule", "host", "allowed"),
    [
        ("{matchName: api.stripe.com}", "api.stripe.com", True),
        ("{matchName: API.stripe.com.}", "api.stripe.com", True),
        ("{matchName: api.stripe.com}", "apixstripe.com", False),
        ("{matchName: stripe.com}", "api.stripe.com", False),
        ("{matchPattern: '*.stripe.com'}", "api.stripe.com", True),
        ("{matchPattern: '*.stripe.com'}", "a.api.stripe.com", False),
        ("{matchPattern: '*.stripe.com'}", "stripe.com", False),
        ("{matchPattern: '**.stripe.com'}", "a.api.stripe.com", True),
        ("{matchPattern: 'api*.stripe.com'}", "api2.stripe.com", True),
        ("{matchPattern: '*'}", "any.where.org", True),
    ],
)
def test_to_fqdns_names_hosts_outside_the_mesh(rule: str, host: str, allowed: bool) -> None:
    assert names(rule).leave("web", host, 443).allowed is allowed


def test_to_fqdns_allows_no_service_of_the_mesh() -> None:
    assert not names("{matchPattern: '*'}").allowed("web", "api")


def test_to_cidr_needs_every_address_of_a_host() -> None:
    text = document(C, "endpointSelector: {}\negress: [{toCIDR: [192.0.2.0/24]}]")
    tried = Tried(text)
    assert tried.leave("web", "a.com", 443, "192.0.2.1", "192.0.2.2").allowed
    assert not tried.leave("web", "a.com", 443, "192.0.2.1", "198.51.100.1").allowed
    assert not tried.leave("web", "a.com", 443).allowed


def test_egress_deny_by_cidr_holds_for_a_host_without_an_address_yet() -> None:
    spec = "endpointSelector: {}\negress: [{toEntities: [all]}]\negressDeny: [{toCIDR: [169.254.0.0/16]}]"
    tried = Tried(document(C, spec))
    assert not tried.leave("web", "a.com", 443).allowed
    assert not tried.leave("web", "a.com", 443, "169.254.169.254").allowed
    assert tried.leave("web", "a.com", 443, "192.0.2.1").allowed
    assert tried.allowed("web", "api")


HEADERS = """
endpointSelector: {matchLabels: {app: api}}
ingress:
- toPorts:
  - ports: [{port: "8080"}]
    rules:
      http:
      - {headers: ["X-Team: a b", X-Seen], headerMatches: [{name: X-Key, value: "1"}]}
"""


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"x-team": ["a b"], "x-seen": [""], "x-key": ["1"]}, True),
        ({"x-team": ["a"], "x-seen": [""], "x-key": ["1"]}, False),
        ({"x-team": ["a b"], "x-key": ["1"]}, False),
        ({"x-team": ["a b"], "x-seen": [""], "x-key": ["1", "2"]}, False),
        ({}, False),
    ],
)
def test_every_header_holds_with_each_of_its_values(headers: dict[str, list[str]], allowed: bool) -> None:
    assert Tried(document(C, HEADERS)).allowed("web", "api", headers=headers) is allowed


def test_a_verdict_names_the_alternative() -> None:
    verdict = Tried(document(C, HEADERS)).ask(
        "web", "api", headers={"x-team": ["a b"], "x-seen": [""], "x-key": ["1"]}
    )
    assert (verdict.policy, verdict.rule) == (
        "CiliumNetworkPolicy shop/p",
        "ingress[0].toPorts[0].rules.http[0]",
    )


def test_requests_that_another_rule_allows_whole_are_told() -> None:
    limited = "ingress: [{toPorts: [{ports: [{port: '8080'}], rules: {http: [{method: GET}]}}]}]"
    select = "endpointSelector: {matchLabels: {app: api}}\n"
    whole = "ingress: [{fromEndpoints: [{}], toPorts: [{ports: [{port: '8080'}]}]}]"
    findings = check(shop(), loaded(document(C, select + limited), document(C, select + whole, "whole")))
    (warning,) = findings.warnings
    assert warning.what == (
        "CiliumNetworkPolicy shop/p limits requests that CiliumNetworkPolicy shop/whole allows whole"
    )
    other = "ingress: [{fromEndpoints: [{}], toPorts: [{ports: [{port: '81'}]}]}]"
    assert not check(shop(), loaded(document(C, select + limited), document(C, select + other, "o"))).warnings
