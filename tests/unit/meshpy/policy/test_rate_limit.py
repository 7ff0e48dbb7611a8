"""HTTPLocalRateLimitPolicy: what it means, and where it is checked against the stack."""

from __future__ import annotations

from meshpy.compile import check, compile_mesh
from meshpy.model.endpoint import Protocol
from meshpy.model.inventory import Port
from meshpy.model.match import Exact, HeaderMatch, Regex, RequestMatch, SegmentPrefix
from meshpy.model.names import ServiceName
from meshpy.model.rate_limit import RateLimit, RateOverride
from tests.helpers.policies import document, loaded, service, shop

KIND = "HTTPLocalRateLimitPolicy"
LINKERD = """
targetRef: {kind: Service, name: api}
total: {requestsPerSecond: 100}
identity: {requestsPerSecond: 20}
overrides:
- requestsPerSecond: 50
  clientRefs: [{kind: ServiceAccount, name: web}, {kind: ServiceAccount, name: cron, namespace: blog}]
"""


def test_it_reaches_the_sidecar_of_its_service_and_no_other() -> None:
    mesh = compile_mesh(shop(), loaded(document(KIND, LINKERD)), trust_domain="cluster.local", revision=1)
    clients = (ServiceName("shop", "web"), ServiceName("blog", "cron"))
    limit = RateLimit(f"{KIND} shop/p", (), 100, 20, (RateOverride(50, clients),))
    assert mesh[ServiceName("shop", "api")].rate_limits == (limit,)
    assert mesh[ServiceName("shop", "web")].rate_limits == ()


def test_matches_are_read_as_an_http_route_s() -> None:
    text = document(
        KIND,
        """
        targetRef: {kind: Service, name: api}
        total: {requestsPerSecond: 5}
        matches:
        - path: {value: /search}
          method: GET
        - path: {type: RegularExpression, value: '/v[0-9]+/x'}
          headers: [{name: X-Tenant, value: acme}]
        - queryParams: [{name: q, value: a, type: RegularExpression}]
        """,
    )
    assert loaded(text).rate_limits[0].limit.matches == (
        RequestMatch(path=SegmentPrefix("/search"), method=Exact("GET")),
        RequestMatch(path=Regex("/v[0-9]+/x"), headers=(HeaderMatch("x-tenant", Exact("acme")),)),
        RequestMatch(query={"q": Regex("a")}),
    )


def test_targets_and_clients_that_are_not_there_are_named() -> None:
    gone = document(KIND, LINKERD.replace("name: api", "name: apo"), "gone")
    opaque = document(KIND, LINKERD.replace("name: api", "name: db"), "opaque")
    twice = document(KIND, LINKERD, "twice")
    stack = shop(service("db", ports=(Port(5432, Protocol.TCP),)))
    found = check(stack, loaded(gone, opaque, document(KIND, LINKERD), twice))
    assert [problem.what for problem in found.errors] == [
        f"{KIND} shop/gone: shop has no service apo",
        f"{KIND} shop/opaque: shop/db has opaque ports only, there is no request to count",
        f"{KIND} shop/twice and {KIND} shop/p both limit all of shop/api",
    ]
    assert any("no service blog/cron is known" in problem.what for problem in found.warnings)
