"""Time limits beyond a request's own: silence, slow clients, long lives, what a caller will wait."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from meshpy.model.endpoint import Endpoint, Protocol
from meshpy.model.resilience import ConnectionPool
from meshpy.model.route import Destination, TcpRoute
from tests.helpers.backends import Received, backend, ok, raw_server
from tests.helpers.ports import free_port
from tests.helpers.sidecars import (
    LOOPBACK,
    Client,
    LogLines,
    inbound_snapshot,
    mesh_cluster,
    outbound_snapshot,
    plain_cluster,
    route,
    running,
)

pytestmark = pytest.mark.usefixtures("quick_checks")

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"


@pytest.fixture
def quick_checks(monkeypatch):
    """Connections are looked at ten times a second, and wait a third of a second for their clients."""
    monkeypatch.setattr("proxy.downstream.life.CHECK_S", 0.1)
    monkeypatch.setattr("proxy.downstream.life.STALL_S", 0.3)
    monkeypatch.setattr("proxy.downstream.life.HEAD_TIMEOUT_S", 0.5)


@contextlib.asynccontextmanager
async def road(pki, app_port: int, log: LogLines | None = None, rule=None, **pool):
    port = free_port()
    clusters = {"c": plain_cluster(app_port, name="c", pool=ConnectionPool(**pool))}
    snapshot = outbound_snapshot(port, clusters, (rule or route("c"),))
    async with running(snapshot, pki, **({"log": log.log} if log else {})) as sidecar:
        yield port, sidecar


@pytest.mark.parametrize("is_begun", [False, True])
async def test_an_exchange_on_which_nothing_moves_ends_after_the_stream_s_idle_time(pki, is_begun):
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(CHUNKED if is_begun else b"")
        await reader.read()

    log = LogLines()
    async with raw_server(serve) as app, road(pki, app, log, stream_idle_timeout_s=0.4) as (port, _):
        async with asyncio.timeout(5), await Client.connect(port) as client:
            if is_begun:
                with pytest.raises(ValueError, match="invalid literal"):  # the chunked body has no end
                    await client.get()
            else:
                assert (await client.get()).status == 504
        (line,) = log.lines()
        assert (line["response_flags"], line["response_code_details"]) == ("SI", "stream_idle_timeout")


async def test_a_stream_that_moves_goes_on_for_longer_than_its_idle_time(pki):
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(CHUNKED)
        for _ in range(10):
            await asyncio.sleep(0.1)
            writer.write(b"1\r\nx\r\n")
        writer.write(b"0\r\n\r\n")

    async with (
        raw_server(serve) as app,
        road(pki, app, stream_idle_timeout_s=0.4) as (port, _),
        await Client.connect(port) as client,
    ):
        assert (await client.get()).body == b"hello" + b"x" * 10


async def test_a_head_that_comes_a_drop_at_a_time_ends_with_408(pki):
    async with (
        backend() as app,
        road(pki, app.port) as (port, _),
        asyncio.timeout(5),
        await Client.connect(port) as client,
    ):
        await client.send(b"GET / HTTP/1.1\r\nHost: api\r\n")
        with contextlib.suppress(ConnectionError):
            for number in range(100):
                await client.send(b"X-%d: y\r\n" % number)
                await asyncio.sleep(0.03)
                if client.reader._buffer:
                    break
        assert (await client.head())[0] == 408
    assert app.requests == []


async def test_a_client_that_does_not_read_its_answer_is_cut(pki):
    log = LogLines()
    big = ok(b"x" * 30_000_000)
    async with backend(big) as app, road(pki, app.port, log) as (port, sidecar):
        client = await Client.connect(port)
        client.writer.transport.pause_reading()
        await client.send(b"GET / HTTP/1.1\r\nHost: api\r\n\r\n")
        for _ in range(100):
            if log.lines():
                break
            await asyncio.sleep(0.05)
        assert log.lines()[0]["response_flags"] == "SI"
        assert sidecar.clusters.live["c"].active_requests == 0
        client.writer.transport.abort()


@pytest.mark.parametrize(
    ("limits", "ends"),
    [
        ({"tunnel_idle_timeout_s": 0.4}, True),
        ({"max_connection_duration_s": 0.6}, True),
        ({"tunnel_idle_timeout_s": 30.0}, False),
        ({}, False),
    ],
)
async def test_an_opaque_connection_ends_when_idle_or_too_old_where_it_is_written(pki, limits, ends):
    async def echo(reader, writer):
        while data := await reader.read(100):
            writer.write(data)

    async with raw_server(echo) as app:
        port = free_port()
        cluster = plain_cluster(app, name="c", pool=ConnectionPool(**limits), protocol=Protocol.TCP)
        tcp = TcpRoute("api.shop", (Destination("c"),))
        async with running(outbound_snapshot(port, {"c": cluster}, tcp=tcp), pki):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            for _ in range(4):
                writer.write(b"ping")
                assert await reader.readexactly(4) == b"ping"
                await asyncio.sleep(0.1)
            end = asyncio.get_running_loop().create_task(reader.read(1))
            done, _ = await asyncio.wait([end], timeout=1.2)
            assert bool(done) is ends
            writer.close()
            await asyncio.wait([end])


async def test_an_upstream_connection_is_not_reused_beyond_its_longest_life(pki):
    async with (
        backend() as app,
        road(pki, app.port, max_connection_duration_s=0.1) as (port, sidecar),
        await Client.connect(port) as client,
    ):
        await client.get()
        await asyncio.sleep(0.15)
        sidecar.clusters.live["c"].sweep()
        await client.get()
    assert app.connections == 2


@contextlib.asynccontextmanager
async def pair(pki, app_port: int, **rule):
    mesh, call, edge = free_port(), free_port(), free_port()
    inside = inbound_snapshot(edge, (Endpoint(LOOPBACK, app_port),), ingress=True)
    cluster = mesh_cluster(mesh, edge)
    outside = outbound_snapshot(call, {cluster.name: cluster}, (route(cluster.name, **rule),))
    log = LogLines()
    async with (
        running(inside, pki, mesh_port=mesh, log=log.log, binds={"edge": (LOOPBACK,)}),
        running(outside, pki),
    ):
        yield call, edge, log


async def test_a_caller_s_patience_ends_the_work_at_the_callee_too(pki):
    ended: list[bool] = []

    async def reply(_request: Received) -> bytes:
        try:
            await asyncio.sleep(5)
        finally:
            ended.append(True)
        return ok()

    async with backend(reply) as app, pair(pki, app.port, timeout_s=0.3) as (call, _, log):
        async with await Client.connect(call) as client:
            assert (await client.get()).status == 504
        await asyncio.sleep(0.1)
        assert app.requests[0].headers("x-meshpy-timeout-ms") == []
        assert log.lines()[0]["response_flags"] in ("UT", "DC")


async def test_only_a_peer_of_the_mesh_can_shorten_what_the_callee_waits(pki):
    async def reply(_request: Received) -> bytes:
        await asyncio.sleep(0.2)
        return ok()

    header = "x-meshpy-timeout-ms: 1\r\n"
    async with backend(reply) as app, pair(pki, app.port) as (call, edge, _log):
        for port in (call, edge):
            async with await Client.connect(port) as client:
                assert (await client.get("/", headers=header)).status == 200
    assert all(request.headers("x-meshpy-timeout-ms") == [] for request in app.requests)
