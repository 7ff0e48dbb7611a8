"""Which servers of Gateways are opened at one published port, and who answers for their hosts."""

from __future__ import annotations

import pytest

from meshpy.compile import check, compile_mesh
from meshpy.errors import Problem
from meshpy.model.endpoint import Protocol, inbound_name
from meshpy.model.inventory import GatewayPort, Inventory, Port
from meshpy.model.route import Forward, RouteRule
from meshpy.model.snapshot import Snapshot
from tests.helpers.policies import document, loaded, problems_of, service

PORTS = (Port(8080, Protocol.HTTP, True, False, True), Port(8443, Protocol.TLS, True, False, True))
WEB = service(
    "web",
    ports=PORTS,
    labels={"app": "web"},
    gateway_ports=(GatewayPort(80, 80, 8080), GatewayPort(443, 443, 8443)),
    credentials=("have",),
)
MESH = Inventory({each.name: each for each in (WEB, service("api"), service("blog/api"))})
API = "outbound|8080||api.shop"

HAVE, LOST = (f"tls: {{mode: SIMPLE, credentialName: {name}}}" for name in ("have", "lost"))


def server(protocol: str, host: str, tls: str = "", port: int = 80) -> str:
    named = f"{{number: {port}, name: {protocol.lower()}-{port}, protocol: {protocol}}}"
    return f"- {{port: {named}, hosts: ['{host}'], {tls}}}\n"


def front(*servers: str, name: str = "front") -> str:
    return document("Gateway", "selector: {app: web}\nservers:\n" + "".join(servers), name)


def bound(host: str, namespace: str = "shop", name: str = "v", gateway: str = "front") -> str:
    text = (
        f"hosts: ['{host}']\ngateways: [shop/{gateway}]\nhttp: [{{route: [{{destination: {{host: api}}}}]}}]"
    )
    return document("VirtualService", text, name, namespace)


def listener(protocol: str, more: str = "", name: str = "front") -> str:
    text = f"gatewayClassName: meshpy\nlisteners:\n- {{name: a, port: 80, protocol: {protocol}{more}}}\n"
    return document("Gateway.gateway.networking.k8s.io", text, name)


def compiled(*texts: str) -> Snapshot:
    return compile_mesh(MESH, loaded(*texts), trust_domain="mesh.test", revision=1)[WEB.name]


def clusters(*texts: str) -> dict[str, list[str]]:
    """Where requests for each host are led."""
    found = [host for each in compiled(*texts).edge for host in each.virtual_hosts]
    return {host.host: [_cluster(rule) for rule in host.rules] for host in found}


def _cluster(rule: RouteRule) -> str:
    assert isinstance(rule.action, Forward)
    return rule.action.destinations[0].cluster


def errors(*texts: str) -> tuple[Problem, ...]:
    return check(MESH, loaded(*texts)).errors


@pytest.mark.parametrize("closed", [server("HTTPS", "a.test", LOST), server("HTTP", "a.test")])
@pytest.mark.parametrize("name", ["front", "second"])
def test_routes_of_a_server_that_is_not_opened_are_not_led_on_by_others_of_the_port(
    closed: str, name: str
) -> None:
    """Of a missing secret, or of another kind; in the same Gateway or in one of its own."""
    opened, routes = (
        server("HTTPS", "*.test", HAVE),
        (bound("a.test", gateway=name), bound("b.test", name="w")),
    )
    gateways = [front(opened, closed)] if name == "front" else [front(opened), front(closed, name=name)]
    assert clusters(*gateways, *routes) == {"b.test": [API], "*.test": [inbound_name(8080)]}
    (served,) = compiled(*gateways, *routes).servers
    assert served.tls_for("a.test") is None


def test_routes_of_an_https_server_do_not_reach_a_host_whose_tls_server_leads_to_the_app() -> None:
    gateway = front(server("HTTPS", "*.test", HAVE), server("TLS", "a.test", HAVE))
    found = clusters(gateway, bound("*.test"), bound("a.test", name="w"))
    assert found == {"*.test": [API], "a.test": [inbound_name(8080)]}
    assert errors(gateway, bound("*.test")) == ()
    (problem,) = errors(gateway, bound("a.test"))
    assert "has a host that is more specific for a.test" in problem.what


def test_the_virtual_service_of_the_gateways_own_stack_precedes_another_stacks_of_an_earlier_name() -> None:
    texts = (bound("a.test", "blog", "a"), bound("a.test", "shop", "z"))
    found = clusters(front(server("HTTP", "a.test")), *texts)
    assert found == {"a.test": [API, "outbound|8080||api.blog"]}


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_a_host_in_plaintext_of_an_istio_and_a_gateway_api_gateway_is_found_in_either_order(
    names: tuple[str, str],
) -> None:
    istio = front(server("HTTP", "a.test"), name=names[0])
    (problem,) = errors(istio, listener("HTTP", ", hostname: a.test", names[1]))
    assert " shop/b: port 80 has a server for a.test at" in problem.what
    assert problem.instead == "remove one of them"


@pytest.mark.parametrize("turn", [1, -1])
def test_tcp_and_http_in_plaintext_on_one_port_exclude_each_other(turn: int) -> None:
    (problem,) = errors(front(*(server("HTTP", "a.test"), server("TCP", "*"))[::turn]))
    assert "port 80 has another kind of server at" in problem.what
    assert "is HTTP or is TCP: write one of these" in problem.instead
    assert problem.place.line > 1


@pytest.mark.parametrize("more", ["TLS, tls: {certificateRefs: [{name: have}]}", "TCP"])
def test_routes_cannot_be_allowed_at_a_listener_that_hands_bytes_to_the_app(more: str) -> None:
    allowed = ", allowedRoutes: {namespaces: {from: All}}"
    assert problems_of(listener(more)) == ()
    (problem,) = problems_of(listener(more, allowed))
    assert "hands bytes to the app, and no route is for them" in problem.what
    assert problem.instead == "remove it, or write protocol: HTTP or HTTPS"
    assert problem.place.line > 1


@pytest.mark.parametrize("protocol", ["HTTPS", "TLS"])
def test_a_port_in_plaintext_redirects_to_https_that_the_app_ends(protocol: str) -> None:
    to_https = server("HTTP", "*", "tls: {httpsRedirect: true}")
    passed = server(protocol, "a.test", "tls: {mode: PASSTHROUGH}", 443)
    assert errors(front(to_https, passed)) == ()
    found = {each.published: each.redirect_to for each in compiled(front(to_https, passed)).servers}
    assert found == {80: 443, 443: 0}
