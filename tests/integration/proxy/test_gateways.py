"""A Gateway at published ports, from documents to requests: to the app, on to another service, or refused."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from pathlib import Path

import pytest

from meshpy.compile import check, compile_mesh
from meshpy.engine.explain import Source, explain
from meshpy.engine.request import Request
from meshpy.model.endpoint import Endpoint, Protocol
from meshpy.model.ingress import KeyPair
from meshpy.model.inventory import AppAddress, GatewayPort, Inventory, Port
from meshpy.model.names import ServiceName
from meshpy.model.snapshot import Snapshot
from tests.helpers.backends import backend
from tests.helpers.policies import document, loaded, service
from tests.helpers.ports import free_port
from tests.helpers.sidecars import API, LOOPBACK, WEB, Client, LogLines, running
from tests.helpers.web_pki import WebCa

EDGE = {"edge": (LOOPBACK,)}
GATEWAY = document(
    "Gateway",
    """
    selector: {app: web}
    servers:
    - port: {number: 443, name: https, protocol: HTTPS}
      hosts: [shop.example.com]
      tls: {mode: SIMPLE, credentialName: shop}
    - port: {number: 80, name: http, protocol: HTTP}
      hosts: [shop.example.com, "*.plain.example.com"]
    """,
    "front",
)
ROUTES = document(
    "VirtualService",
    """
    hosts: [shop.example.com]
    gateways: [front]
    http:
    - match: [{uri: {prefix: /api/}}]
      rewrite: {uri: /}
      route: [{destination: {host: api}, headers: {response: {set: {x-by: api}}}}]
    - match: [{uri: {prefix: /old}}]
      redirect: {uri: /new}
    - route: [{destination: {host: web}}]
    """,
)
GUARD = document(
    "AuthorizationPolicy",
    """
    selector: {matchLabels: {app: web}}
    action: DENY
    rules: [{to: [{operation: {paths: ["/api/secret*", "/old/secret"]}}]}]
    """,
)
CLOSED = document("AuthorizationPolicy", "selector: {matchLabels: {app: api}}\nrules: []", "closed")


def mesh(
    https: int, http: int, mesh_port: int, apps: tuple[int, int], *texts: str, errors: int = 0
) -> dict[str, Snapshot]:
    """web with two ports for Gateways, and api: what is compiled for each, its app on this machine."""
    http_port = (Port(8080, Protocol.HTTP, True, False, True),)
    web = service(
        "web",
        ports=http_port,
        labels={"app": "web"},
        gateway_ports=(GatewayPort(443, https, 8080), GatewayPort(80, http, 8080)),
        credentials=("shop.crt", "shop.key"),
    )
    api = service("api", labels={"app": "api"}, endpoints=(Endpoint(LOOPBACK, mesh_port, API),))
    found = {WEB: web, API: api}
    ready = {name: replace(each, app=AppAddress((LOOPBACK,))) for name, each in found.items()}
    inventory, policies = Inventory(ready), loaded(*texts)
    assert len(check(inventory, policies).errors) == errors
    compiled = compile_mesh(inventory, policies, trust_domain="mesh.test", revision=1)
    return {
        name.name: _at(snapshot, app)
        for (name, snapshot), app in zip(sorted(compiled.items()), apps, strict=True)
    }


def _at(snapshot: Snapshot, app: int) -> Snapshot:
    """With the app at a port of this machine, and no listener for an app that nobody calls from."""
    name = "inbound|8080||"
    cluster = replace(snapshot.clusters[name], endpoints=(Endpoint(LOOPBACK, app),))
    return replace(snapshot, clusters={**snapshot.clusters, name: cluster}, outbound=())


def presenting(snapshot: Snapshot, files: tuple[Path, Path]) -> Snapshot:
    """With a certificate of the test's where the secrets would be."""
    pair = KeyPair(*map(str, files))
    servers = tuple(
        replace(each, tls=tuple(replace(tls, pairs=(pair,)) for tls in each.tls)) for each in snapshot.servers
    )
    return replace(snapshot, servers=servers)


ASKED = {"/a": 200, "/api/x": 200, "/old/a": 301, "/api/secret": 403, "/old/secret": 403}
HOSTS = {"shop.example.com": 200, "a.plain.example.com": 200, "else.test": 404}


HALF_OPEN = document(
    "Gateway",
    """
    selector: {app: web}
    servers:
    - port: {number: 443, name: any, protocol: HTTPS}
      hosts: ["*.example.com"]
      tls: {mode: SIMPLE, credentialName: shop}
    - port: {number: 443, name: safe, protocol: HTTPS}
      hosts: [safe.example.com]
      tls: {mode: MUTUAL, credentialName: not-there}
    """,
    "front",
)


async def secured(port: int, ca: WebCa, name: str = "shop.example.com") -> Client:
    context = ssl.create_default_context(cafile=str(ca.path))
    return Client(*await asyncio.open_connection(LOOPBACK, port, ssl=context, server_hostname=name))


@pytest.fixture
def ca(tmp_path: Path) -> WebCa:
    return WebCa(tmp_path)


async def test_routes_of_a_gateway_lead_strangers_to_the_app_or_on_over_mtls(pki, ca):
    https, http, mesh_port = free_port(), free_port(), free_port()
    log = LogLines()
    async with backend() as web_app, backend() as api_app:
        found = mesh(https, http, mesh_port, (api_app.port, web_app.port), GATEWAY, ROUTES, GUARD)
        web = presenting(found["web"], ca.issue("shop", "shop.example.com"))
        async with (
            running(found["api"], pki, mesh_port=mesh_port, log=log.log),
            running(web, pki, binds=EDGE),
            await secured(https, ca) as client,
        ):
            for path, status in ASKED.items():
                await client.send(f"GET {path} HTTP/1.1\r\nHost: shop.example.com\r\n\r\n".encode())
                answer = await client.answer()
                assert answer.status == status, path
                assert (answer.headers.get("x-by") == "api") == (path == "/api/x")
            async with await Client.connect(http) as plain:
                for host, status in HOSTS.items():
                    await plain.send(f"GET /b HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                    assert (await plain.answer()).status == status, host
    assert [each.target for each in web_app.requests] == ["/a", "/b", "/b"]
    assert [each.target for each in api_app.requests] == ["/x"]
    (line,) = log.lines()
    assert line["principal"] == f"mesh.test{WEB.spiffe_path}"
    assert api_app.requests[0].headers("x-forwarded-proto") == ["https"]


@pytest.mark.parametrize(
    ("destination", "path", "allowed", "says"),
    [
        ("shop.example.com", "/a", True, "the app of shop/web"),
        ("shop.example.com", "/api/x", False, "AuthorizationPolicy shop/closed"),
        ("shop.example.com", "/api/secret", False, "AuthorizationPolicy shop/p"),
        ("shop.example.com", "/old", True, "answers 301"),
        ("web", "/a", False, "no server of port 443 is for 'web'"),
    ],
)
def test_explain_says_what_a_stranger_gets(destination: str, path: str, allowed: bool, says: str) -> None:
    snapshots = {
        ServiceName("shop", name): each
        for name, each in mesh(443, 80, 15443, (1, 2), GATEWAY, ROUTES, GUARD, CLOSED).items()
    }
    request = Request("GET", path, "", f"{destination}:443", "https", {})
    said = explain(snapshots, Source(None, "192.0.2.1"), destination, 443, request)
    assert said.verdict.allowed is allowed
    assert says in f"{said.verdict.policy} {said.verdict.reason} {[leg.verdict.reason for leg in said.legs]}"


LISTENERS = document(
    "Gateway.gateway.networking.k8s.io",
    """
    gatewayClassName: meshpy
    listeners:
    - {name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: shop}]}}
    - {name: http, port: 80, protocol: HTTP}
    """,
    "front",
)
ATTACHED = document(
    "HTTPRoute",
    """
    parentRefs: [{name: front, sectionName: http}]
    hostnames: [shop.example.com]
    rules:
    - matches: [{path: {value: /old}}]
      filters: [{type: RequestRedirect, requestRedirect: {scheme: https, statusCode: 301}}]
    - backendRefs: [{name: api, port: 8080}]
    """,
    "exact",
)
WIDER = document(
    "HTTPRoute",
    """
    parentRefs: [{name: front, sectionName: http}]
    rules:
    - matches: [{path: {type: Exact, value: /x}}]
      backendRefs: [{name: web, port: 8080}]
    """,
    "any-host",
)


async def test_gateway_apis_listeners_lead_where_routes_say_and_else_nowhere(pki, ca):
    https, http, mesh_port = free_port(), free_port(), free_port()
    async with backend() as web_app, backend() as api_app:
        found = mesh(https, http, mesh_port, (api_app.port, web_app.port), LISTENERS, ATTACHED, WIDER)
        web = presenting(found["web"], ca.issue("shop", "shop.example.com"))
        async with (
            running(found["api"], pki, mesh_port=mesh_port),
            running(web, pki, binds=EDGE),
            await secured(https, ca) as client,
            await Client.connect(http) as plain,
        ):
            await client.send(b"GET /x HTTP/1.1\r\nHost: shop.example.com\r\n\r\n")
            assert (await client.answer()).status == 404  # a listener without any route
            for host, path, status in (
                ("shop.example.com", "/x", 200),
                ("SHOP.example.com:80", "/old/a?b", 301),
                ("else.test", "/x", 200),
                ("else.test", "/y", 404),
            ):
                await plain.send(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
                answer = await plain.answer()
                assert answer.status == status, (host, path)
                if status == 301:
                    assert answer.headers["location"] == "https://shop.example.com/old/a?b"
    assert [each.target for each in api_app.requests] == ["/x"]
    assert [each.headers("host") for each in web_app.requests] == [["else.test"]]


async def test_a_host_whose_secret_is_missing_is_not_served_by_a_wildcard_that_asks_for_less(pki, ca):
    https, mesh_port = free_port(), free_port()
    async with backend() as web_app, backend() as api_app:
        apps = (api_app.port, web_app.port)
        found = mesh(https, free_port(), mesh_port, apps, HALF_OPEN, errors=3)  # .crt, .key and .ca
        web = presenting(found["web"], ca.issue("shop", "*.example.com"))
        async with running(web, pki, binds=EDGE):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await secured(https, ca, "safe.example.com")
            async with await secured(https, ca) as client:
                await client.send(b"GET /a HTTP/1.1\r\nHost: shop.example.com\r\n\r\n")
                assert (await client.answer()).status == 200
                await client.send(b"GET /b HTTP/1.1\r\nHost: safe.example.com\r\n\r\n")
                assert (await client.answer()).status in (404, 421)
    assert [each.target for each in web_app.requests] == ["/a"]
