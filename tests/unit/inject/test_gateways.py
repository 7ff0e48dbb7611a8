"""Gateways: published ports that documents open, in the stack file's own and in those from elsewhere."""

from __future__ import annotations

import pytest

from control_plane.discovery.labels import gateway_ports_of, ports_of
from meshpy.compile import check, compile_mesh
from meshpy.compile.bindings import narrower
from meshpy.engine.explain import ExplainError, Source, explain
from meshpy.engine.request import Request
from meshpy.inject import inventory_of_stack, policies_of_stack, uninject
from meshpy.model.endpoint import Transport
from meshpy.model.ingress import TlsMode, covers_host
from meshpy.model.inventory import GatewayPort, Inventory
from meshpy.model.names import ServiceName
from meshpy.model.route import Forward
from meshpy.model.snapshot import Snapshot
from meshpy.policy import PolicySet, load, load_documents
from meshpy.wire import decode_snapshot, encode
from tests.helpers.stacks import injected, problems, services

WEB = ServiceName("shop", "web")
GATEWAY = """\
    - apiVersion: networking.istio.io/v1
      kind: Gateway
      metadata: {name: front}
      spec:
        selector: {app: web}
        servers:
          - port: {number: 443, name: https, protocol: HTTPS}
            hosts: [shop.example.com, "*.api.example.com"]
            tls: {mode: SIMPLE, credentialName: shop, cipherSuites: [ECDHE-RSA-AES128-GCM-SHA256]}
          - port: {number: 443, name: partners, protocol: HTTPS}
            hosts: [partners.example.com]
            tls: {mode: MUTUAL, credentialName: shop, minProtocolVersion: TLSV1_3}
          - port: {number: 80, name: http, protocol: HTTP}
            hosts: ["*"]
            tls: {httpsRedirect: true}
"""
ROUTE = """\
    - apiVersion: networking.istio.io/v1
      kind: VirtualService
      metadata: {name: front}
      spec:
        hosts: [shop.example.com, v2.api.example.com]
        gateways: [front]
        http:
          - match: [{uri: {prefix: /api}, port: 443}]
            route: [{destination: {host: api}}]
          - match: [{uri: {prefix: /old}, port: 444}]
            redirect: {uri: /}
          - route: [{destination: {host: web}}]
"""
SIMPLE = "{mode: SIMPLE, credentialName: shop, cipherSuites: [ECDHE-RSA-AES128-GCM-SHA256]}"


def alone(text: str) -> str:
    """A document of the file as one of its own."""
    return text.replace("    - api", "api", 1).replace("\n      ", "\n")


def stack(*policies: str, labels: str = "", ports: str = '["443:8080", "80:8080"]', web: str = "http") -> str:
    below = "  policies:\n" + "".join(policies) if policies else ""
    return f"""version: "3.8"
services:
  web:
    image: nginx
    ports: {ports}
    deploy: {{labels: {{meshpy.ports: "8080/{web}"{labels}}}}}
  api:
    image: nginx
    deploy: {{labels: {{meshpy.ports: 8080/http}}}}
x-mesh:
  trust_domain: mesh.test
{below}secrets:
  shop.crt: {{file: ./shop.crt}}
  shop.key: {{file: ./shop.key}}
  shop-cacert: {{external: true}}
"""


def policies_in(text: str, *more: str) -> PolicySet:
    own = [(f"{index}.yml", each) for index, each in enumerate(more)]
    return load_documents((*policies_of_stack(text, "shop"), *load(own, "shop").documents))


def compiled(text: str, *more: str, inventory: Inventory | None = None) -> dict[ServiceName, Snapshot]:
    there = inventory or inventory_of_stack(text, "shop")
    found = compile_mesh(there, policies_in(text, *more), trust_domain="mesh.test", revision=1)
    return {name: decode_snapshot(encode(each)) for name, each in found.items()}


def test_a_gateway_of_the_file_gets_listening_ports_and_secrets_of_its_own() -> None:
    text = stack(GATEWAY)
    found = services(text)["web-sidecar"]
    assert [(each["published"], each["target"]) for each in found["ports"]] == [(443, 443), (80, 80)]
    assert {each["target"] for each in found["secrets"]} == {
        "meshpy-join", "meshpy-tls-shop.crt", "meshpy-tls-shop.key", "meshpy-tls-shop-cacert"
    }  # fmt: skip
    labels = found["deploy"]["labels"]
    assert labels["meshpy.secured"] == "8080"
    service = inventory_of_stack(text, "shop").services[WEB]
    assert service.gateway_ports == gateway_ports_of(labels["meshpy.gateway"])
    assert service.gateway_ports == (GatewayPort(80, 80, 8080), GatewayPort(443, 443, 8080))
    assert service.ports == ports_of(labels)
    assert uninject(injected(text).text) == text


def test_its_servers_are_those_of_x_mesh_servers() -> None:
    web = compiled(stack(GATEWAY))[WEB]
    redirect, https = web.servers
    assert (redirect.published, redirect.redirect_to, redirect.hosts) == (80, 443, ())
    simple, mutual = https.tls
    assert (simple.hosts, simple.mode) == (("shop.example.com", "*.api.example.com"), TlsMode.SIMPLE)
    assert simple.ciphers == ("ECDHE-RSA-AES128-GCM-SHA256",)
    assert simple.pairs[0].key == "/run/secrets/meshpy-tls-shop.key"
    assert (mutual.mode, mutual.ca) == (TlsMode.MUTUAL, "/run/secrets/meshpy-tls-shop-cacert")
    assert web.edge == ()
    assert [(port.port, port.ingress) for port in web.inbound] == [(8080, False)]


def test_a_port_that_no_gateway_opens_is_closed() -> None:
    text = stack(labels=', meshpy.gateway: "443,80", meshpy.credentials: shop')
    web = compiled(text)[WEB]
    assert web.servers == ()
    assert not any(port.ingress for port in web.inbound)
    outside = alone(GATEWAY)
    assert len(compiled(text, outside)[WEB].servers) == 2
    assert check(inventory_of_stack(text, "shop"), policies_in(text, outside)).errors == ()


def test_routes_bound_to_it_lead_strangers_on_and_the_inside_nowhere() -> None:
    found = compiled(stack(GATEWAY, ROUTE))
    (listener,) = found[WEB].edge
    assert listener.port == 443
    hosts = {host.host: host.rules for host in listener.virtual_hosts}
    assert set(hosts) == {
        "shop.example.com", "v2.api.example.com", "*.api.example.com", "partners.example.com"
    }  # fmt: skip
    first, last = hosts["shop.example.com"]  # the match for port 444 never holds here
    assert isinstance(first.action, Forward)
    assert found[WEB].clusters[first.action.destinations[0].cluster].transport is Transport.MTLS
    assert isinstance(last.action, Forward)
    assert last.action.destinations[0].cluster == "inbound|8080||"
    assert hosts["v2.api.example.com"] == hosts["shop.example.com"]
    (app,) = hosts["partners.example.com"]
    assert (app.policy, app.action) == ("", Forward((app.action.destinations[0],)))
    inside = found[ServiceName("shop", "api")].outbound
    assert all(
        "VirtualService" not in rule.policy for each in inside for h in each.virtual_hosts for rule in h.rules
    )


def test_a_match_may_be_for_the_gateway_alone() -> None:
    text = ROUTE.replace("hosts: [shop.example.com, v2.api.example.com]", "hosts: [web, shop.example.com]")
    text = text.replace("gateways: [front]", "gateways: [front, mesh]").replace(
        "port: 443", "gateways: [front]"
    )
    found = compiled(stack(GATEWAY, text))
    edge = {host.host: host.rules for host in found[WEB].edge[0].virtual_hosts}
    assert len(edge["shop.example.com"]) == 2
    (listener,) = found[ServiceName("shop", "api")].outbound
    host = next(each for each in listener.virtual_hosts if each.host == "web.shop")
    assert [rule.matches for rule in host.rules] == [()]


LISTENERS = """\
    - apiVersion: gateway.networking.k8s.io/v1
      kind: Gateway
      metadata: {name: front}
      spec:
        gatewayClassName: meshpy
        listeners:
          - {name: http, port: 80, protocol: HTTP, hostname: "*.example.com"}
          - name: https
            port: 443
            protocol: HTTPS
            tls: {certificateRefs: [{name: shop}]}
"""
ATTACHED = """\
    - apiVersion: gateway.networking.k8s.io/v1
      kind: HTTPRoute
      metadata: {name: front}
      spec:
        parentRefs: [{name: front, sectionName: http}]
        hostnames: [shop.example.com]
        rules:
          - matches: [{path: {type: PathPrefix, value: /api}}]
            backendRefs: [{name: api, port: 8080}]
"""


def test_gateway_apis_gateway_picks_by_port_and_hosts_without_a_route_are_nobodys() -> None:
    web = compiled(stack(LISTENERS, ATTACHED))[WEB]
    http, https = web.servers
    assert (http.published, http.hosts, http.tls, http.redirect_to) == (80, ("*.example.com",), (), 0)
    assert https.tls[0].hosts == ("*",)
    led = {each.port: {h.host: len(h.rules) for h in each.virtual_hosts} for each in web.edge}
    assert led[80] == {"*.example.com": 0, "shop.example.com": 1}
    assert led[443] == {"*": 0}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (stack(GATEWAY, ports='["443:8080"]'), "where no port 80 is published"),
        (stack(GATEWAY.replace("app: web", "app: none")), "picks no meshed service of the file"),
        (stack(GATEWAY.replace("credentialName: shop,", "credentialName: none,")), "the secret `none.crt`"),
        (stack(labels=', meshpy.gateway: "444"'), "`web` publishes no port 444"),
        (stack(labels=', meshpy.gateway: "443", meshpy.credentials: x'), "the file has no secret x or x.crt"),
        (
            stack(GATEWAY, labels=', meshpy.tls: "443=shop"'),
            "has a server under x-mesh.servers and",
        ),
        (stack(GATEWAY, labels=', meshpy.enable: "false"'), "picks no meshed service"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_deployed(text: str, says: str) -> None:
    found = problems(text)
    assert any(says in each.what for each in found), found
    assert all(each.place.line > 1 and each.instead for each in found)


@pytest.mark.parametrize(
    ("policies", "says"),
    [
        ((GATEWAY, ROUTE.replace("gateways: [front]", "gateways: [back]")), "no Gateway is called shop/back"),
        (
            (GATEWAY, ROUTE.replace("[shop.example.com, v2.api.example.com]", "[shop.test]")),
            "has no HTTP server for shop.test",
        ),
        ((LISTENERS, ATTACHED.replace("sectionName: http", "sectionName: x")), "has no such listener"),
        (
            (
                GATEWAY.replace("protocol: HTTPS", "protocol: TLS", 1),
                ROUTE.replace(", v2.api.example.com", ""),
            ),
            "has no HTTP server for shop",
        ),
        ((GATEWAY, ROUTE), ""),
        (
            (GATEWAY.replace("[partners.example.com]", "[shop.example.com]"),),
            "has a server for shop.example.com",
        ),
    ],
)
def test_check_names_what_would_have_no_effect(policies: tuple[str, ...], says: str) -> None:
    text = stack(*policies)
    errors = check(inventory_of_stack(text, "shop"), policies_in(text)).errors
    assert any(says in each.what for each in errors) if says else errors == ()


def test_a_gateway_does_not_open_ports_of_another_stack() -> None:
    text = stack(labels=', meshpy.gateway: "443,80", meshpy.credentials: shop')
    foreign = (
        GATEWAY.replace("    - api", "api", 1)
        .replace("\n      ", "\n")
        .replace("front}", "front, namespace: x}")
    )
    assert compiled(text, foreign)[WEB].servers == ()
    assert len(compiled(text, foreign.replace("namespace: x", "namespace: mesh-system"))[WEB].servers) == 2


def test_bytes_that_the_app_does_not_speak_keep_the_port_closed() -> None:
    passing = GATEWAY.replace(SIMPLE, "{mode: PASSTHROUGH}")
    text = stack(passing)
    errors = check(inventory_of_stack(text, "shop"), policies_in(text)).errors
    assert any("PASSTHROUGH leads to an app that speaks TLS" in each.what for each in errors)
    assert [tls.hosts for tls in compiled(text)[WEB].servers[1].tls] == [("partners.example.com",)]


@pytest.mark.parametrize(
    ("host", "port", "allowed", "reason"),
    [
        ("shop.example.com", 443, True, ""),
        ("shop.example.com", 80, True, "port 80 answers 301, to port 443 by HTTPS"),
        ("SHOP.example.com", None, True, ""),
        ("elsewhere.example.com", 443, False, "no server of port 443 is for 'elsewhere.example.com'"),
    ],
)
def test_explain_knows_what_a_stranger_gets_by_the_names_of_the_world(host, port, allowed, reason) -> None:
    snapshots = compiled(stack(GATEWAY, ROUTE))
    verdict = explain(
        snapshots, Source(None), host, port, Request("GET", "/api/x", "", host.lower(), "https", {})
    ).verdict
    assert (verdict.allowed, reason in verdict.reason) == (allowed, True)


@pytest.mark.parametrize(("host", "port"), [("nobody", 443), ("nobody.example.com", 8081)])
def test_explain_takes_no_typing_error_for_a_host_of_the_world(host, port) -> None:
    with pytest.raises(ExplainError, match="no service of the mesh"):
        explain(
            compiled(stack(GATEWAY, ROUTE)),
            Source(None),
            host,
            port,
            Request("GET", "/", "", host, "http", {}),
        )


NAMES = ("a.test", "b.a.test", "c.b.a.test", "x.b.a.test", "other.test", "test")
PATTERNS = ("*", "*.test", "*.a.test", "*.b.a.test", *NAMES)


@pytest.mark.parametrize("one", PATTERNS)
@pytest.mark.parametrize("other", PATTERNS)
def test_what_two_patterns_have_in_common_is_what_both_cover(one: str, other: str) -> None:
    both = narrower(one, other)
    for name in NAMES:
        meant = covers_host(one, name) and covers_host(other, name)
        assert (bool(both) and covers_host(both, name)) == meant, name
