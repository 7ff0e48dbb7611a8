"""From documents to answers: read, checked, compiled for a caller, and routed by its real sidecar."""

from __future__ import annotations

import asyncio
import contextlib

from meshpy.compile import check, compile_mesh
from meshpy.model.endpoint import Protocol
from meshpy.model.inventory import AppAddress, Inventory, Port, Service
from meshpy.model.names import ServiceName
from meshpy.policy import load
from tests.helpers.backends import Backend, backend, ok
from tests.helpers.policies import document
from tests.helpers.sidecars import LOOPBACK, Client, running

WEB = "127.0.0.2"
"""Where the sidecar of `web` listens, beside the applications on LOOPBACK."""


def told(name: str):
    return lambda request: ok(f"{name} {request.target}".encode())


@contextlib.asynccontextmanager
async def shop(pki, *texts: str):
    """`web` before `api` and `catalog`, which have no sidecars; yields a client, and both applications."""
    async with backend(told("api")) as api, backend(told("catalog")) as catalog:
        inventory = Inventory({one.name: one for one in services(api, catalog)})
        ports = {"API": str(api.port), "CATALOG": str(catalog.port)}
        policies = load([(f"{n}.yml", _filled(text, ports)) for n, text in enumerate(texts)])
        assert not check(inventory, policies).errors
        mesh = compile_mesh(inventory, policies, trust_domain="mesh.test", revision=1)
        async with (
            running(mesh[ServiceName("shop", "web")], pki) as sidecar,
            await Client.connect(api.port, WEB) as client,
        ):
            yield client, api, catalog, sidecar


def _filled(text: str, ports: dict[str, str]) -> str:
    for name, port in ports.items():
        text = text.replace(f"PORT_OF_{name}", port)
    return text


def services(api: Backend, catalog: Backend) -> list[Service]:
    network = frozenset({"shop_default"})
    return [
        Service(ServiceName("shop", "web"), networks=network, bind={"": WEB}),
        *(
            Service(
                ServiceName("shop", name),
                ports=(Port(app.port, Protocol.HTTP),),
                networks=network,
                app=AppAddress((LOOPBACK,)),
                exempt="a test without its sidecar",
            )
            for name, app in (("api", api), ("catalog", catalog))
        ),
    ]


ROOT = document(
    "VirtualService",
    """
    hosts: [api]
    http:
    - match: [{uri: {prefix: /cart}}]
      delegate: {name: cart}
      corsPolicy: {allowOrigins: [{exact: 'https://a.example'}]}
    - match: [{uri: {prefix: /old/}}]
      redirect: {uri: /new/, redirectCode: 308}
    - route: [{destination: {host: api}}]
      headers: {response: {set: {x-route: rest}}}
    """,
    "root",
)
CART = document(
    "VirtualService",
    """
    http:
    - match: [{uri: {prefix: /cart/items/}}]
      route: [{destination: {host: catalog}}]
      rewrite: {uri: /products/}
    - directResponse: {status: 503, body: {string: closed}}
    """,
    "cart",
)


async def test_virtual_services_from_their_text_to_the_answers(pki):
    async with shop(pki, ROOT, CART) as (client, *_):
        assert (await client.get("/x")).body == b"api /x"
        assert (await client.get("/x")).headers["x-route"] == "rest"
        items = await client.get("/cart/items/7?a=b", headers="Origin: https://a.example\r\n")
        assert items.body == b"catalog /products/7?a=b"
        assert items.headers["access-control-allow-origin"] == "https://a.example"
        closed = await client.get("/cart")
        assert (closed.status, closed.body) == (503, b"closed")
        moved = await client.get("/old/thing")
        assert (moved.status, moved.headers["location"]) == (308, "http://api/new/")


HTTP_ROUTE = document(
    "HTTPRoute",
    """
    parentRefs: [{group: "", kind: Service, name: api}]
    rules:
    - matches: [{path: {value: /}}]
      backendRefs: [{name: api, port: PORT_OF_API}]
      filters:
      - {type: RequestMirror, requestMirror: {backendRef: {name: catalog, port: PORT_OF_CATALOG}}}
    - matches: [{path: {value: /shop}}]
      backendRefs:
      - name: catalog
        port: PORT_OF_CATALOG
        filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-by, value: mesh}]}}]
      filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /}}}]
    - matches: [{path: {type: Exact, value: /shop/none}}]
    - matches: [{path: {value: /go}}]
      filters: [{type: RequestRedirect, requestRedirect: {scheme: https, hostname: www.example}}]
    """,
)


async def test_an_http_route_from_its_text_to_the_answers(pki):
    async with shop(pki, HTTP_ROUTE) as (client, _, catalog, sidecar):
        assert (await client.get("/shop/7")).body == b"catalog /7"
        assert (await client.get("/shop")).body == b"catalog /"
        assert [r.headers("x-by") for r in catalog.requests] == [["mesh"], ["mesh"]]
        assert (await client.get("/shop/none")).status == 500
        moved = await client.get("/go/on")
        assert (moved.status, moved.headers["location"]) == (302, "https://www.example/go/on")
        assert not sidecar.telemetry.mirrors
        assert (await client.get("/shopping")).body == b"api /shopping"
        for _ in range(200):
            if sidecar.telemetry.mirrors:
                break
            await asyncio.sleep(0.01)
        assert sidecar.telemetry.mirrors == {("catalog", "2xx"): 1}
        assert catalog.requests[2].headers("host") == ["api-shadow"]
