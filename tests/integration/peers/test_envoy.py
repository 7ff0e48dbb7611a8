"""Envoy as the other sidecar, both ways, over HTTP/1.1 and HTTP/2; each checks the other's SPIFFE id."""

from __future__ import annotations

import asyncio
import contextlib
import itertools

import pytest

from meshpy.model.endpoint import Endpoint, Protocol
from meshpy.model.names import ServiceName
from meshpy.model.route import Destination, TcpRoute
from meshpy.model.snapshot import mesh_sni
from proxy.net.tls import ALPN_TUNNEL
from tests.helpers.backends import backend, ok, raw_server
from tests.helpers.envoy import config, find_envoy, opaque_config
from tests.helpers.ports import free_port
from tests.helpers.sidecars import (
    API,
    LOOPBACK,
    Client,
    inbound_snapshot,
    mesh_cluster,
    outbound_snapshot,
    route,
    running,
)

ENVOY = find_envoy()
pytestmark = pytest.mark.skipif(
    ENVOY is None, reason="Envoy is neither installed nor fetched by `make bench`"
)

BOTH = pytest.mark.parametrize("protocol", [Protocol.HTTP, Protocol.HTTP2])
_base_ids = itertools.count(4200)


def _spiffe(name: str) -> str:
    return f"spiffe://mesh.test/ns/shop/sa/{name}"


def _start(processes, listen: int, text: str) -> None:
    base_id = next(_base_ids)
    file = processes.folder / f"envoy-{base_id}.json"
    file.write_text(text)
    argv = [ENVOY, "-c", file, "--concurrency", 1, "--base-id", base_id, "-l", "error"]
    processes.start(argv, listen)


def _identity(processes, pki, name: str):
    folder = processes.folder / f"identity-{name}"
    pki.save_identity(folder, "shop", name)
    return folder


def _as_caller(processes, pki, mesh_port: int, *, is_h2: bool, expects: str = "api", port: int = 80) -> int:
    """Envoy calls as `web`; returns the plaintext port to call it by."""
    listen = free_port()
    dials = (_identity(processes, pki, "web"), _spiffe(expects), mesh_sni(API, port))
    _start(processes, listen, config(listen, mesh_port, is_h2=is_h2, dials=dials))
    return listen


def _as_callee(processes, pki, app_port: int, *, is_h2: bool, who: str = "api", caller: str = "web") -> int:
    """Envoy before the application as `api`; returns its mTLS port."""
    listen = free_port()
    accepts = (_identity(processes, pki, who), _spiffe(caller))
    _start(processes, listen, config(listen, app_port, is_h2=is_h2, accepts=accepts))
    return listen


async def _get(port: int):
    async with await Client.connect(port) as client:
        return await client.get("/a?b=c")


@BOTH
async def test_envoy_calls_our_sidecar(processes, pki, protocol):
    mesh = free_port()
    async with backend(ok(b"hello")) as app:
        snapshot = inbound_snapshot(80, (Endpoint(LOOPBACK, app.port),))
        async with running(snapshot, pki, mesh_port=mesh) as api:
            listen = await asyncio.to_thread(
                _as_caller, processes, pki, mesh, is_h2=protocol is Protocol.HTTP2
            )
            answer = await _get(listen)
            assert (answer.status, answer.body) == (200, b"hello")
            kinds = {type(down).__name__ for down in api.shared.open}
            assert kinds == {"H2Downstream" if protocol is Protocol.HTTP2 else "Downstream"}
        seen = app.requests[0]
        assert seen.target == "/a?b=c"
        assert f"URI={_spiffe('web')}" in seen.headers("x-forwarded-client-cert")[0]


@BOTH
async def test_our_sidecar_calls_envoy(processes, pki, protocol):
    async with backend(ok(b"hello")) as app:
        mesh = await asyncio.to_thread(_as_callee, processes, pki, app.port, is_h2=False)
        port = free_port()
        async with running(outbound_snapshot(port, {"c": mesh_cluster(mesh, protocol=protocol)}), pki):
            answer = await _get(port)
            assert (answer.status, answer.body) == (200, b"hello")
            assert (await _get(port)).status == 200
        assert [each.target for each in app.requests] == ["/a?b=c"] * 2


@BOTH
async def test_our_sidecar_refuses_an_envoy_that_is_somebody_else(processes, pki, protocol):
    async with backend() as app:
        mesh = await asyncio.to_thread(_as_callee, processes, pki, app.port, is_h2=False, who="db")
        port = free_port()
        cluster = mesh_cluster(mesh, protocol=protocol)
        async with running(outbound_snapshot(port, {"c": cluster}, (route("c"),)), pki):
            assert (await _get(port)).status == 503
        assert not app.requests


@BOTH
async def test_envoy_refuses_our_sidecar_when_it_expects_another(processes, pki, protocol):
    mesh = free_port()
    async with backend() as app:
        snapshot = inbound_snapshot(80, (Endpoint(LOOPBACK, app.port),))
        async with running(snapshot, pki, mesh_port=mesh):
            listen = await asyncio.to_thread(
                _as_caller, processes, pki, mesh, is_h2=protocol is Protocol.HTTP2, expects="db"
            )
            assert (await _get(listen)).status == 503
        assert not app.requests


async def test_our_sidecar_refuses_a_caller_whom_policy_does_not_know(processes, pki):
    mesh = free_port()
    async with backend() as app:
        snapshot = inbound_snapshot(80, (Endpoint(LOOPBACK, app.port),))
        stranger = _identity(processes, pki, "stranger")
        async with running(snapshot, pki, mesh_port=mesh):
            listen = free_port()
            dials = (stranger, _spiffe("api"), mesh_sni(API, 80))
            text = config(listen, mesh, is_h2=True, dials=dials)
            await asyncio.to_thread(_start, processes, listen, text)
            assert (await _get(listen)).status == 403
        assert not app.requests


async def test_grpc_passes_through_envoy_and_our_sidecar_both_ways(processes, pki):
    pytest.importorskip("grpc", reason="grpcio is not installed")
    from tests.helpers.grpc_calls import grpc_app, unary

    with grpc_app() as app:
        mesh = free_port()
        snapshot = inbound_snapshot(50051, (Endpoint(LOOPBACK, app.port),), protocol=Protocol.GRPC)
        async with running(snapshot, pki, mesh_port=mesh):
            listen = await asyncio.to_thread(_as_caller, processes, pki, mesh, is_h2=True, port=50051)
            assert await asyncio.to_thread(unary, listen, "Echo") == b"re:hi"
            assert (await asyncio.to_thread(unary, listen, "Refuse")).trailers["x-reason"] == "why"
        callee = await asyncio.to_thread(_as_callee, processes, pki, app.port, is_h2=True)
        port = free_port()
        cluster = mesh_cluster(callee, 50051, ServiceName("shop", "api"), Protocol.GRPC)
        async with running(outbound_snapshot(port, {"c": cluster}), pki):
            assert await asyncio.to_thread(unary, port, "Echo") == b"re:hi"
            assert (await asyncio.to_thread(unary, port, "Refuse")).trailers["x-reason"] == "why"


@pytest.mark.parametrize("who_ends", ["client", "server"])
@pytest.mark.parametrize("ours", ["caller", "callee"])
async def test_each_direction_ends_by_itself_with_envoy_as_the_other_sidecar(processes, pki, ours, who_ends):
    """Envoy passes a half-close on as a goodbye, and takes a goodbye for one; by ALPN it says so here."""
    told = asyncio.get_running_loop().create_future()

    async def serve(reader, writer):
        if who_ends == "server":
            await reader.readexactly(1)
            writer.write_eof()
        rest = await reader.read()
        if who_ends == "client":
            await asyncio.sleep(0.2)
            writer.write(b"late")
        told.set_result(rest)

    port, mesh = free_port(), free_port()
    web, api = _identity(processes, pki, "web"), _identity(processes, pki, "api")
    async with raw_server(serve) as app, contextlib.AsyncExitStack() as stack:
        if ours == "caller":
            text = opaque_config(mesh, app, alpn=ALPN_TUNNEL, accepts=(api, _spiffe("web")))
            tcp = TcpRoute("db.shop", (Destination("c", services=(API,)),))
            cluster = mesh_cluster(mesh, 5432, protocol=Protocol.TCP)
            snapshot = outbound_snapshot(port, {"c": cluster}, tcp=tcp)
            await stack.enter_async_context(running(snapshot, pki))
            await asyncio.to_thread(_start, processes, mesh, text)
        else:
            dials = (web, _spiffe("api"), mesh_sni(API, 5432))
            text = opaque_config(port, mesh, alpn=ALPN_TUNNEL, dials=dials)
            snapshot = inbound_snapshot(5432, (Endpoint(LOOPBACK, app),), protocol=Protocol.TCP)
            await stack.enter_async_context(running(snapshot, pki, mesh_port=mesh))
            await asyncio.to_thread(_start, processes, port, text)
        async with await Client.connect(port) as client, asyncio.timeout(10):
            await client.send(b"x")
            if who_ends == "server":
                assert await client.reader.read() == b""
            await asyncio.sleep(0.2)
            await client.send(b"y" * 100_000)
            client.writer.write_eof()
            assert len(await told) == 100_001 - (who_ends == "server")
            assert await client.reader.read() == (b"late" if who_ends == "client" else b"")
