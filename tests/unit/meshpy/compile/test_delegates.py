"""Delegation: merged as Istio documents it, and what does not fit is said."""

from __future__ import annotations

import pytest

from meshpy.compile import check, compile_mesh
from meshpy.errors import Problem
from meshpy.model.match import Exact, HeaderMatch, Prefix
from meshpy.model.names import ServiceName
from meshpy.model.route import DirectResponse, Forward, RouteRule
from tests.helpers.policies import document, loaded, shop


def rules(*texts: str, caller: str = "web", host: str = "api.shop") -> tuple[RouteRule, ...]:
    mesh = compile_mesh(shop(), loaded(*texts), trust_domain="cluster.local", revision=1)
    snapshot = mesh[ServiceName("shop", caller)]
    hosts = [one for listener in snapshot.outbound for one in listener.virtual_hosts]
    return next(one.rules for one in hosts if one.host == host)


def errors(*texts: str) -> tuple[Problem, ...]:
    return check(shop(), loaded(*texts)).errors


ROOT = document(
    "VirtualService",
    """
    hosts: [api]
    http:
    - match: [{uri: {prefix: /a}, headers: {x: {exact: y}}}]
      name: root
      delegate: {name: leaf}
      timeout: 5s
      headers: {request: {set: {from: root}}}
    - directResponse: {status: 404}
    """,
    "root",
)


def leaf(http: str, **meta: str) -> str:
    return document("VirtualService", http, meta.get("name", "leaf"), meta.get("namespace", "shop"))


def test_the_delegate_s_rules_stand_in_the_root_s_place_with_the_root_s_match():
    found = rules(
        ROOT,
        leaf(
            """
            http:
            - name: deep
              match: [{uri: {exact: /a/b}}]
              route: [{destination: {host: catalog}}]
            - route: [{destination: {host: api}}]
              timeout: 1s
              headers: {request: {set: {from: leaf}}}
            """
        ),
    )
    deep, rest, last = found
    assert (deep.policy, deep.via) == ("VirtualService shop/leaf", "VirtualService shop/root")
    assert (deep.name, deep.timeout_s, deep.request_headers.set) == ("root-deep", 5.0, (("from", "root"),))
    assert [(m.path, m.headers) for m in deep.matches] == [
        (Exact("/a/b"), (HeaderMatch("x", Exact("y")),)),
    ]
    assert isinstance(deep.action, Forward)
    assert deep.action.destinations[0].cluster == "outbound|8080||catalog.shop"
    assert (rest.name, rest.timeout_s, rest.request_headers.set) == ("root", 1.0, (("from", "leaf"),))
    assert [m.path for m in rest.matches] == [Prefix("/a")]
    assert (last.via, last.action) == ("", DirectResponse(404))


def test_short_hosts_of_a_delegate_belong_to_its_namespace():
    root = document("VirtualService", "hosts: [api]\nhttp: [{delegate: {name: leaf, namespace: blog}}]")
    other = leaf("http: [{route: [{destination: {host: web, port: {number: 80}}}]}]", namespace="blog")
    (rule,) = rules(root, other)
    assert isinstance(rule.action, Forward)
    assert rule.action.destinations[0].cluster == "outbound|80||web.blog"
    assert rule.policy == "VirtualService blog/leaf"


@pytest.mark.parametrize(
    ("match", "fits"),
    [
        ("{uri: {prefix: /a/b}}", True),
        ("{uri: {exact: /a}}", True),
        ("{uri: {prefix: /b}}", False),
        ("{uri: {exact: /b}}", False),
        ("{uri: {prefix: /}}", False),
        ("{uri: {regex: '/a/.*'}}", False),
        ("{method: {exact: GET}}", True),
        ("{headers: {x: {exact: y}, z: {}}}", True),
        ("{headers: {x: {exact: other}}}", False),
        ("{uri: {prefix: /a/b}, ignoreUriCase: true}", False),
        ("{sourceNamespace: shop}", True),
    ],
)
def test_a_delegate_s_match_is_within_the_root_s_or_refused(match: str, fits: bool):
    text = leaf(f"http: [{{match: [{match}], route: [{{destination: {{host: api}}}}]}}]")
    found = errors(ROOT, text)
    assert (not found) == fits
    if not fits:
        assert "is not within that of VirtualService shop/root" in found[0].what
        assert str(found[0].place).startswith("1.yml:")


def test_where_delegation_leaves_nothing_requests_get_404_and_not_the_default_route():
    root = document("VirtualService", "hosts: [api]\nhttp: [{delegate: {name: gone}}]")
    (rule,) = rules(root)
    assert rule.action == DirectResponse(404)
    (problem,) = errors(root)
    assert "no VirtualService without hosts is called shop/gone" in problem.what


def test_delegation_has_one_level():
    nested = leaf("http: [{delegate: {name: leaf2}}]")
    last = leaf("http: [{route: [{destination: {host: api}}]}]", name="leaf2")
    assert any("delegates itself" in problem.what for problem in errors(ROOT, nested, last))


def test_a_delegate_is_exported_to_the_root_or_refused():
    hidden = leaf('exportTo: ["."]\nhttp: [{route: [{destination: {host: web}}]}]', namespace="blog")
    root = document("VirtualService", "hosts: [api]\nhttp: [{delegate: {name: leaf, namespace: blog}}]")
    assert any("is not exported to shop" in problem.what for problem in errors(root, hidden))


def test_a_delegate_that_nobody_names_is_a_warning():
    found = check(shop(), loaded(leaf("http: [{route: [{destination: {host: api}}]}]")))
    assert any("no VirtualService delegates to it" in problem.what for problem in found.warnings)
