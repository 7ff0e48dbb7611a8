"""Attached routes: precedence, producers and consumers, grants, invalid backends, sessions."""

from __future__ import annotations

import pytest

from meshpy.compile import check, compile_mesh
from meshpy.engine.request import Request
from meshpy.engine.route import NoRoute, Redirected, Routed, Router, Routing
from meshpy.model.inventory import Inventory
from meshpy.model.names import ServiceName
from meshpy.model.snapshot import OutboundListener, Snapshot
from meshpy.wire import decode_snapshot, encode
from tests.helpers.policies import document, loaded, service, shop

PARENT = 'parentRefs: [{group: "", kind: Service, name: api}]\n'


TO_API = "backendRefs: [{name: api, port: 8080}]"


def http(
    rules: str,
    name: str = "p",
    namespace: str = "shop",
    parent: str = PARENT,
    kind: str = "HTTPRoute",
) -> str:
    return document(kind, parent + "rules:\n" + rules.replace("TO_API", TO_API), name, namespace)


def snapshot(caller: str, *texts: str, inventory: Inventory | None = None) -> Snapshot:
    namespace, _, name = caller.rpartition("/")
    mesh = compile_mesh(inventory or both(), loaded(*texts), trust_domain="cluster.local", revision=1)
    return mesh[ServiceName(namespace or "shop", name)]


def both() -> Inventory:
    return shop(service("blog/web", networks=frozenset({"shop_default"})))


def listener(found: Snapshot, port: int = 8080) -> OutboundListener:
    return next(one for one in found.outbound if one.port == port)


def ask(found: Snapshot, path: str = "/", method: str = "GET", draw: float = 0.0, **headers: str) -> Routing:
    fields = {name: [value] for name, value in headers.items()}
    query = path.partition("?")[2]
    asked = Request(method, path.partition("?")[0], query, "api.shop:8080", "http", fields)
    return Router.of_listener(listener(found)).route(asked, draw)


def rule_of(found: Snapshot, path: str = "/", method: str = "GET", **headers: str) -> str:
    routing = ask(found, path, method, **headers)
    return f"{routing.rule.policy} {routing.rule.name}" if isinstance(routing, Routed) else "none"


PRECEDENCE = (
    http(
        """
        - {name: root, TO_API}
        - {name: long, matches: [{path: {value: /a/b}}], TO_API}
        - {name: short, matches: [{path: {value: /a}}], TO_API}
        - {name: regex, matches: [{path: {type: RegularExpression, value: '/r/.*'}}], TO_API}
        - {name: query, matches: [{path: {value: /a}, queryParams: [{name: q, value: '1'}]}], TO_API}
        - {name: one, matches: [{path: {value: /a}, headers: [{name: x, value: y}]}], TO_API}
        """,
        "a",
    ),
    http(
        """
        - {name: exact, matches: [{path: {type: Exact, value: /a/b}}], TO_API}
        - {name: post, matches: [{path: {value: /a}, method: POST}], TO_API}
        - name: two
          matches: [{path: {value: /a}, headers: [{name: x, value: y}, {name: z, value: '1'}]}]
          TO_API
        - {name: late, matches: [{path: {value: /a}}], TO_API}
        - {name: prefix, matches: [{path: {value: /r}}], TO_API}
        """,
        "b",
    ),
)


@pytest.mark.parametrize("turn", [1, -1])
@pytest.mark.parametrize(
    ("path", "method", "headers", "rule"),
    [
        ("/a/b", "GET", {}, "b exact"),
        ("/a/b/", "GET", {}, "a long"),
        ("/a/bc", "GET", {}, "a short"),
        ("/a", "GET", {}, "a short"),
        ("/ab", "GET", {}, "a root"),
        ("/a", "POST", {"x": "y", "z": "1"}, "b post"),
        ("/a", "GET", {"x": "y", "z": "1"}, "b two"),
        ("/a?q=1", "GET", {"x": "y"}, "a one"),
        ("/a?q=1", "GET", {}, "a query"),
        ("/r/1", "GET", {}, "a regex"),
        ("/r", "GET", {}, "b prefix"),
    ],
)
def test_the_most_specific_rule_of_all_routes_decides(turn, path, method, headers, rule):
    found = snapshot("web", *PRECEDENCE[::turn])
    assert rule_of(found, path, method, **headers) == f"HTTPRoute shop/{rule}"


def test_grpc_routes_prefer_the_longest_service_then_method_then_headers():
    inventory = both()
    text = http(
        """
- {name: any, TO_API}
- {name: method, matches: [{method: {method: Get}}], TO_API}
- {name: service, matches: [{method: {service: a.Long}}], TO_API}
- {name: both, matches: [{method: {service: a.Long, method: Get}}], TO_API}
- name: header
  matches: [{method: {service: a.Long, method: Get}, headers: [{name: x, value: y}]}]
  TO_API
""",
        kind="GRPCRoute",
    )
    found = snapshot("web", text, inventory=inventory)
    for path, headers, rule in (
        ("/a.Long/Get", {"x": "y"}, "header"),
        ("/a.Long/Get", {}, "both"),
        ("/a.Long/Put", {}, "service"),
        ("/b/Get", {}, "method"),
        ("/b/Put", {}, "any"),
    ):
        assert rule_of(found, path, "POST", **headers) == f"GRPCRoute shop/p {rule}"


OTHER = PARENT.replace("name: api", "name: api, namespace: shop")


def test_a_consumer_s_route_is_for_its_own_namespace_and_replaces_the_producer_s_there():
    producer = http("- {name: produced, matches: [{path: {value: /p}}], TO_API}")
    consumer = http("- {name: consumed, backendRefs: [{name: web, port: 8080}]}", "c", "blog", OTHER)
    assert rule_of(snapshot("web", producer, consumer), "/p") == "HTTPRoute shop/p produced"
    assert rule_of(snapshot("web", producer, consumer), "/x") == "none"
    assert rule_of(snapshot("blog/web", producer, consumer), "/p") == "HTTPRoute blog/c consumed"
    assert rule_of(snapshot("blog/web", producer), "/p") == "HTTPRoute shop/p produced"


def test_a_parent_s_port_narrows_the_route():
    inventory = shop(service("blog/web", networks=frozenset({"shop_default"})))
    parent = 'parentRefs: [{group: "", kind: Service, name: web, namespace: blog, port: 8080}]\n'
    text = http("- {name: x, backendRefs: [{name: web, port: 8080}]}", "c", "blog", parent)
    assert not check(inventory, loaded(text)).errors
    wrong = text.replace("port: 8080}]\n", "port: 81}]\n", 1)
    (problem,) = check(inventory, loaded(wrong)).errors
    assert "web.blog has no port 81" in problem.what


def test_no_rule_that_matches_is_404():
    routing = ask(
        snapshot("web", http("- {matches: [{path: {value: /a}}], TO_API}")),
        "/b",
    )
    assert isinstance(routing, NoRoute)
    assert routing.status == 404


GRANT = document(
    "ReferenceGrant",
    """
    from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: shop}]
    to: [{group: "", kind: Service, name: web}]
    """,
    namespace="blog",
)
CROSS = http("- backendRefs: [{name: api, port: 8080, weight: 3}, {name: web, namespace: blog, port: 8080}]")


def test_a_backend_of_another_namespace_needs_a_grant():
    refused = ask(snapshot("web", CROSS), draw=0.9)
    assert isinstance(refused, NoRoute)
    assert refused.status == 500
    assert "no ReferenceGrant of blog" in refused.reason
    assert isinstance(ask(snapshot("web", CROSS), draw=0.7), Routed)
    granted = ask(snapshot("web", CROSS, GRANT), draw=0.9)
    assert isinstance(granted, Routed)
    assert granted.destination.cluster == "outbound|8080||web.blog"
    (problem,) = check(both(), loaded(CROSS)).errors
    assert "no ReferenceGrant" in problem.what
    assert not check(both(), loaded(CROSS, GRANT)).errors
    for change in (
        ("kind: HTTPRoute", "kind: GRPCRoute"),
        ("namespace: shop", "namespace: x"),
        ("name: web", "name: db"),
    ):
        other = (
            GRANT.replace(*change)
            if change[0] != "namespace: shop"
            else GRANT.replace("namespace: shop}", "namespace: x}")
        )
        assert isinstance(ask(snapshot("web", CROSS, other), draw=0.9), NoRoute)


@pytest.mark.parametrize(
    ("backends", "says"),
    [
        ("[{name: gone, port: 8080}]", "no service is called gone of shop"),
        ("[{name: catalog, port: 1}]", "catalog of shop has no port 1"),
        ("[{name: redis, port: 6379}]", "port 6379 of redis of shop is opaque"),
        ("[]", "the rule has no backend"),
        ("[{name: catalog, port: 8080, weight: 0}]", "the rule has no backend"),
    ],
)
def test_an_invalid_backend_is_500_and_for_grpc_503(backends: str, says: str):
    for kind, status in (("HTTPRoute", 500), ("GRPCRoute", 503)):
        text = document(kind, PARENT + f"rules: [{{backendRefs: {backends}}}]")
        routing = ask(snapshot("web", text))
        assert isinstance(routing, NoRoute)
        assert (routing.status, routing.cause) == (status, "invalid_backend")
        assert says in routing.reason


def test_a_redirect_has_no_backend_and_no_500():
    text = http(
        "- {filters: [{type: RequestRedirect, requestRedirect: {scheme: https, hostname: b.example}}]}"
    )
    routing = ask(snapshot("web", text), "/x?y=1")
    assert isinstance(routing, Redirected)
    assert (routing.status, routing.location) == (302, "https://b.example/x?y=1")


def test_a_redirect_without_a_scheme_goes_to_the_port_that_was_called():
    text = http("- {filters: [{type: RequestRedirect, requestRedirect: {hostname: b.example}}]}")
    routing = ask(snapshot("web", text), "/x")
    assert isinstance(routing, Redirected)
    assert routing.location == "http://b.example:8080/x"


def test_a_session_s_cluster_is_the_route_s_own():
    text = http(
        """
        - {matches: [{path: {value: /cart}}], TO_API, sessionPersistence: {sessionName: cart}}
        - {TO_API}
        """
    )
    found = snapshot("web", text)
    sticky, plain = ask(found, "/cart"), ask(found, "/x")
    assert isinstance(sticky, Routed)
    assert isinstance(plain, Routed)
    assert found.clusters[sticky.destination.cluster].affinity is not None
    assert found.clusters[plain.destination.cluster].affinity is None
    assert decode_snapshot(encode(found)) == found


PLAIN = http("- {TO_API}")


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ((PLAIN, http("- {TO_API}", "g", kind="GRPCRoute")), "both route api.shop"),
        (
            (PLAIN, document("VirtualService", "hosts: [api]\nhttp: [{directResponse: {status: 418}}]")),
            "both route api.shop",
        ),
        ((http("- {TO_API}", parent=PARENT.replace("api", "redis")),), "opaque ports only"),
        ((http("- {TO_API}", parent=PARENT.replace("api", "gone")),), "is called 'gone'"),
        ((http("- {backendRefs: [{name: gone, port: 8080}]}"),), "no service is called gone"),
    ],
)
def test_what_cannot_be_meant_is_an_error(texts: tuple[str, ...], says: str):
    problems = check(both(), loaded(*texts)).errors
    assert any(says in problem.what for problem in problems), problems


def test_a_route_may_come_before_its_stack():
    early = http(
        "- {backendRefs: [{name: x, port: 1}]}", namespace="later", parent=PARENT.replace("api", "x")
    )
    assert not check(both(), loaded(early)).errors
