"""What routes bound to Gateways come to, and what check says of those that come to nothing."""

from __future__ import annotations

import pytest

from meshpy.compile import Findings, check, compile_mesh
from meshpy.model.endpoint import Protocol
from meshpy.model.inventory import GatewayPort, Inventory, Port
from meshpy.model.route import VirtualHost
from tests.helpers.policies import document, loaded, problems_of, service

HTTP = (Port(8080, Protocol.HTTP, True, False, True),)
WEB = service("web", ports=HTTP, labels={"app": "web"}, gateway_ports=(GatewayPort(80, 80, 8080),))
MESH = Inventory({each.name: each for each in (WEB, service("api"))})

LISTENER = "gatewayClassName: meshpy\nlisteners:\n- {name: a, port: 80, protocol: HTTP%s}\n"
SERVERS = "selector: {app: web}\nservers:\n- port: {number: 80, name: http, protocol: HTTP}\n  hosts: [%s]\n"
ROUTE = "parentRefs: [{name: front}]\n%srules: [{%sbackendRefs: [{name: api, port: 8080}]}]"
BOUND = "hosts: [%s]\ngateways: [%s]\nhttp: [{route: [{destination: {host: api}}]}]"


def listeners(more: str = "", again: str = "") -> str:
    return document("Gateway.gateway.networking.k8s.io", LISTENER % more + again, "front")


def servers(hosts: str) -> str:
    return document("Gateway", SERVERS % hosts, "front")


def route(hostnames: str = "", match: str = "", name: str = "r", namespace: str = "shop") -> str:
    names = f"hostnames: [{hostnames}]\n" if hostnames else ""
    return document("HTTPRoute", ROUTE % (names, match), name, namespace=namespace)


def bound(hosts: str, gateways: str = "front") -> str:
    return document("VirtualService", BOUND % (hosts, gateways), "v")


def hosts_of(*texts: str) -> dict[str, VirtualHost]:
    found = compile_mesh(MESH, loaded(*texts), trust_domain="mesh.test", revision=1)
    return {each.host: each for listener in found[WEB.name].edge for each in listener.virtual_hosts}


def said(*texts: str) -> Findings:
    return check(MESH, loaded(*texts))


@pytest.mark.parametrize("more", ["", ", hostname: shop.test"])
def test_a_host_of_gateway_api_without_any_route_is_nobodys_and_never_the_apps(more: str) -> None:
    (host,) = hosts_of(listeners(more)).values()
    assert host.rules == ()
    assert hosts_of(servers("shop.test")) == {}  # Istio's: to the app


def test_the_route_with_the_more_specific_hostname_comes_first_whatever_it_matches() -> None:
    exact = "matches: [{path: {type: Exact, value: /x}}], "
    texts = [
        route("", exact, "a"),
        route("'*.test'", exact, "b"),
        route("shop.test", "", "c"),
        route("'*.shop.test', '*.test'", "", "d"),
    ]
    found = hosts_of(listeners(", hostname: shop.test"), *texts)
    assert list(found) == ["shop.test"]
    assert [rule.policy[-1] for rule in found["shop.test"].rules] == ["c", "b", "d", "a"]


ONLY_GRPC = ", allowedRoutes: {kinds: [{kind: GRPCRoute}]}"
AGAIN = "- {name: b, port: 80, protocol: HTTP}\n"


@pytest.mark.parametrize(
    ("texts", "what", "instead"),
    [
        ((listeners(), bound("shop.test")), "is Gateway API's, which knows no V", "networking.istio"),
        ((servers("shop.test"), route()), "is Istio's, which knows no H", "gateway.networking"),
        ((listeners(ONLY_GRPC), route()), "takes no HTTPRoute of shop there", "kinds: [{kind: HTTPRoute}]"),
        ((listeners(), route(namespace="blog").replace("name: front", "name: front, namespace: shop")),
         "takes no HTTPRoute of blog there", "from: All"),
        ((servers("blog/shop.test"), bound("shop.test")), "takes no VirtualService of shop", "NAMESPACE/"),
        ((listeners().replace("HTTP", "TCP"), route()), "has no HTTP server there", "protocol: HTTP"),
        ((listeners(again=AGAIN), route()), "has a server for *", "remove one"),
        ((servers("a.test"), bound("b.test")), "has no HTTP server for b.test", "known are a.test"),
        ((servers("'*.test'"), servers("a.test").replace("front", "second"), bound("a.test")),
         "a host that is more specific for a.test", "name its Gateway"),
    ],
)  # fmt: skip
def test_check_says_what_a_gateway_does_not_take(texts: tuple[str, ...], what: str, instead: str) -> None:
    (error,) = said(*texts).errors
    assert what in error.what
    assert instead in error.instead
    assert error.place.line > 1


@pytest.mark.parametrize(
    "texts",
    [
        (servers("shop.test"), bound("shop.test, api", "front, mesh")),
        (servers("shop.test"), listeners().replace("port: 80", "port: 81"), bound("shop.test")),
        (
            listeners(", hostname: a.test", AGAIN.replace("HTTP}", "HTTP, hostname: b.test}")),
            route("a.test, b.test").replace("front}", "front, sectionName: a}, {name: front, port: 80}"),
        ),
        (servers("shop.test"), servers("shop.test").replace("front", "second"), bound("shop.test")),
        (servers("'*.test'"), servers("a.test").replace("front", "second"), bound("a.test", "front, second")),
        (servers("'*.test'"), servers("a.test").replace("front", "second"), bound("b.test")),
    ],
)  # fmt: skip
def test_check_has_nothing_against_hosts_that_one_of_the_gateways_serves(texts: tuple[str, ...]) -> None:
    found = said(*texts)
    assert [each for each in found.errors if "leaves a published port 81" not in each.what] == []
    assert found.warnings == ()


def grpc(hostnames: str = "") -> str:
    return route(hostnames, name="a").replace("HTTPRoute", "GRPCRoute")


@pytest.mark.parametrize("names", ["", "'*.test'", "shop.test"])
def test_of_routes_of_two_kinds_for_one_host_the_first_by_name_stays_and_check_names_both(names: str) -> None:
    """Their orders of precedence cannot be compared; Gateway API has one stand back (GEP-1016)."""
    texts = (listeners(", hostname: shop.test"), grpc(names), route("shop.test", name="b"))
    (error,) = said(*texts).errors
    assert "shop/front has GRPCRoute shop/a for the same host" in error.what
    assert [rule.policy[-1] for rule in hosts_of(*texts)["shop.test"].rules] == ["a"]


def test_routes_of_two_kinds_for_hosts_or_listeners_of_their_own_both_stay() -> None:
    apart = (listeners(), grpc("shop.test"), route("other.test", name="b"))
    assert said(*apart).errors == ()
    assert {"shop.test", "other.test"} <= set(hosts_of(*apart))
    two = listeners(", hostname: a.test", AGAIN.replace("HTTP}", "HTTP, hostname: b.test}"))
    first, second = (
        text.replace("front}", f"front, sectionName: {name}}}")
        for name, text in (("a", grpc()), ("b", route(name="b")))
    )
    assert said(two, first, second).errors == ()


@pytest.mark.parametrize(
    ("host", "what"),
    [
        ("'*'", "`*` alone"),
        ("192.0.2.1", "no host"),
        ("a..b", "no host"),
        ("'*a.test'", "no host"),
        ("a_b.test", "no host"),
    ],
)
def test_what_gateway_api_takes_for_no_host_is_refused(host: str, what: str) -> None:
    for text in (route(host), listeners(f", hostname: {host}")):
        (problem,) = problems_of(text)
        assert what in problem.what
        assert problem.place.line > 1


def test_check_warns_of_a_host_that_none_of_the_gateways_serves() -> None:
    (warning,) = said(servers("shop.test"), bound("shop.test, other.test")).warnings
    assert "no Gateway that it names has a server for other.test" in warning.what


def test_a_server_says_whether_it_ends_tls() -> None:
    """Istio takes a missing mode for PASSTHROUGH."""
    text = servers("shop.test").replace("HTTP}", "HTTPS}\n    tls: {credentialName: shop}")
    (problem,) = problems_of(text)
    assert "`mode` is missing, which is PASSTHROUGH" in problem.what
    assert "SIMPLE" in problem.instead
