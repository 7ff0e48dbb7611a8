"""What `explain` tells of a route: both documents of a delegation, mirrors, CORS, faults, refused shares."""

from __future__ import annotations

from typing import Any

from meshpy.cli.policy_route import route_lines
from meshpy.compile import compile_mesh
from meshpy.engine.claims import auth_of
from meshpy.engine.explain import Explanation, Source, explain
from meshpy.engine.request import Request
from meshpy.model.endpoint import Protocol
from meshpy.model.inventory import EgressHost
from meshpy.model.names import ServiceName
from tests.helpers.policies import document, loaded, service, shop

WEB = Source(ServiceName("shop", "web"))
API_TO_BOTH = service(
    "api", egress=(EgressHost("a.example", 443, Protocol.TLS), EgressHost("b.example", 443, Protocol.TLS))
)


def explained(
    *texts: str, to: str = "api", port: int = 8080, source: Source = WEB, path: str = "/", **more: Any
) -> Explanation:
    mesh = compile_mesh(
        more.pop("inventory", shop()), loaded(*texts), trust_domain="cluster.local", revision=1
    )
    headers = {name.replace("_", "-"): [value] for name, value in more.pop("headers", {}).items()}
    request = Request(more.pop("method", "GET"), path, "", f"{to}:{port}", "http", headers)
    return explain(mesh, source, to, port, request)


ROOT = document("VirtualService", "hosts: [api]\nhttp: [{name: root, delegate: {name: leaf}}]", "root")
LEAF = document(
    "VirtualService",
    """
    http:
    - name: all
      route: [{destination: {host: api}}]
      rewrite: {uri: /v2/}
      mirror: {host: catalog}
      mirrorPercentage: {value: 10}
      fault: {abort: {grpcStatus: UNAVAILABLE, percentage: {value: 5}}}
      corsPolicy: {allowOrigins: [{exact: 'https://a.example'}]}
    """,
    "leaf",
)


def test_a_delegated_route_names_both_documents_and_all_that_it_does() -> None:
    found = explained(ROOT, LEAF, path="/x")
    assert found.verdict.allowed
    assert found.route is not None
    route = found.route
    assert (route["policy"], route["delegated_by"], route["rule"]) == (
        "VirtualService shop/leaf",
        "VirtualService shop/root",
        "root-all",
    )
    assert route["mirrors"] == [
        {"host": "catalog", "subset": None, "cluster": "outbound|8080||catalog.shop", "percent": 10.0}
    ]
    assert route["fault"]["abort_grpc_status"] == 14
    assert route["cors"]["origins"] == ["exact https://a.example"]
    assert list(route_lines(route)) == [
        "route: VirtualService shop/leaf rule root-all, delegated by VirtualService shop/root",
        "path rewritten to /v2/x",
        "mirrored: 10 % to catalog",
        "CORS: origins exact https://a.example",
        "fault: 5 % aborted with gRPC status 14",
    ]


def test_a_preflight_ends_at_the_caller_s_sidecar() -> None:
    headers = {"origin": "https://a.example", "access_control_request_method": "GET"}
    found = explained(ROOT, LEAF, method="OPTIONS", headers=headers)
    assert found.verdict.allowed
    assert "answers the preflight with 200" in found.verdict.reason


def test_a_host_s_own_route_has_nothing_to_tell() -> None:
    found = explained()
    assert found.route is not None
    assert not list(route_lines(found.route))


GATEWAY = document(
    "HTTPRoute",
    """
    parentRefs: [{group: "", kind: Service, name: api}]
    rules: [{backendRefs: [{name: gone, port: 1, weight: 1}, {name: api, port: 8080, weight: 3}]}]
    """,
)


def test_an_invalid_backend_is_refused_with_its_share_whatever_its_place() -> None:
    found = explained(GATEWAY)
    assert not found.verdict.allowed
    assert "no service is called gone" in found.verdict.reason
    assert [(leg.share, leg.verdict.allowed) for leg in found.legs] == [(0.25, False), (0.75, True)]


def test_tls_destinations_are_explained_by_the_name_that_was_asked_for() -> None:
    source = Source(API_TO_BOTH.name)
    for name in ("a.example", "b.example"):
        found = explained(to=name, port=443, source=source, inventory=shop(API_TO_BOTH))
        assert found.route is not None
        assert (found.route["host"], found.route["server_names"]) == (name, [name])
        assert found.verdict.allowed


def test_claims_that_nobody_reads_are_said_to_count_for_nothing() -> None:
    request = Request("GET", "/", "", "api:8080", "http", {}, auth_of({"iss": "i", "sub": "ann"}))
    mesh = compile_mesh(shop(), loaded(), trust_domain="cluster.local", revision=1)
    first = explain(mesh, WEB, "api", 8080, request).steps[0]
    assert (first.stage, first.action) == ("jwt", "ignore")


def test_the_address_that_is_called_is_that_of_an_endpoint_and_may_be_unknown() -> None:
    rule = "selector: {matchLabels: {app: api}}\naction: DENY\n"
    rule += "rules: [{when: [{key: destination.ip, values: [10.0.1.3]}]}]"
    policy = document("AuthorizationPolicy", rule)
    told = explained(policy)
    assert (told.verdict.allowed, told.verdict.stage) == (False, "deny")
    nowhere = explained(policy, inventory=shop(service("api", endpoints=())))
    assert nowhere.verdict.allowed
    assert nowhere.steps[-1].why.endswith("does not hold for an unknown address")
