"""GRPCRoute and gRPC faults, from documents to what grpcio's client is told."""

from __future__ import annotations

import asyncio

import pytest

from meshpy.compile import compile_mesh
from meshpy.model.endpoint import Protocol
from meshpy.model.inventory import AppAddress, Inventory, Port, Service
from meshpy.model.names import ServiceName
from meshpy.policy import load
from tests.helpers.policies import document
from tests.helpers.sidecars import LOOPBACK, running

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

from tests.helpers.grpc_calls import SERVICE, Failed, grpc_app, tried  # noqa: E402

WEB = "127.0.0.2"
"""Where the sidecar of `web` listens, beside the application on LOOPBACK."""


def snapshot_of_web(port: int, text: str):
    network = frozenset({"shop_default"})
    web = Service(ServiceName("shop", "web"), networks=network, bind={"": WEB})
    api = Service(
        ServiceName("shop", "api"),
        ports=(Port(port, Protocol.GRPC),),
        networks=network,
        app=AppAddress((LOOPBACK,)),
        exempt="a test without its sidecar",
    )
    policies = load([("p.yml", text.replace("PORT_OF_API", str(port)))])
    inventory = Inventory({one.name: one for one in (web, api)})
    return compile_mesh(inventory, policies, trust_domain="mesh.test", revision=1)[web.name]


def call(port: int, method: str) -> bytes | Failed:
    options = (
        ("grpc.enable_retries", 0),
        ("grpc.default_authority", "api"),
        ("grpc.use_local_subchannel_pool", 1),
    )
    with grpc.insecure_channel(f"{WEB}:{port}", options) as made:
        return tried(lambda: made.unary_unary(SERVICE + method)(b"hi", timeout=10))


ROUTE = document(
    "GRPCRoute",
    """
    parentRefs: [{group: "", kind: Service, name: api}]
    rules:
    - matches: [{method: {service: shop.Catalog, method: Echo}}]
      backendRefs: [{name: api, port: PORT_OF_API}]
      filters: [{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: x-by, value: mesh}]}}]
    - matches: [{method: {service: shop.Catalog, method: Flaky}}]
      backendRefs: [{name: gone, port: 1}]
    """,
)


async def test_a_grpc_route_answers_as_its_kind_documents(pki):
    with grpc_app() as app:
        async with running(snapshot_of_web(app.port, ROUTE), pki):
            assert await asyncio.to_thread(call, app.port, "Echo") == b"re:hi"
            unmatched = await asyncio.to_thread(call, app.port, "Refuse")
            invalid = await asyncio.to_thread(call, app.port, "Flaky")
        assert app.calls == ["Echo"]
        assert app.metadata["x-by"] == "mesh"
    assert isinstance(unmatched, Failed)
    assert isinstance(invalid, Failed)
    assert (unmatched.code, invalid.code) == (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNAVAILABLE)
    assert "no service is called gone" in invalid.details


FAULT = document(
    "VirtualService",
    """
    hosts: [api]
    http:
    - route: [{destination: {host: api}}]
      fault: {abort: {grpcStatus: RESOURCE_EXHAUSTED, percentage: {value: 100}}}
    """,
)


async def test_a_fault_of_grpc_is_what_the_client_is_told(pki):
    with grpc_app() as app:
        async with running(snapshot_of_web(app.port, FAULT), pki):
            failed = await asyncio.to_thread(call, app.port, "Echo")
        assert not app.calls
    assert isinstance(failed, Failed)
    assert (failed.code, failed.details) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "fault filter abort")
