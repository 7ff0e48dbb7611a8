"""PeerAuthentication at real sockets: what STRICT refuses, what it leaves, and what it cuts."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

from meshpy.model.authz import Authorization, StrictPort
from meshpy.model.endpoint import Endpoint, Protocol
from proxy.series import prometheus_text
from tests.helpers.backends import backend, raw_server
from tests.helpers.ports import free_port
from tests.helpers.sidecars import (
    LOOPBACK,
    WEB,
    Client,
    LogLines,
    inbound_snapshot,
    mesh_cluster,
    outbound_snapshot,
    running,
)

EDGE = "127.0.0.3"
POLICY = "PeerAuthentication shop/strict"


def open_to_all(port: int) -> Authorization:
    return Authorization(baseline=frozenset({WEB}), baseline_external=frozenset({port}))


def strict(port: int) -> Authorization:
    return replace(open_to_all(port), strict=(StrictPort(port, POLICY),))


@contextlib.asynccontextmanager
async def edge(
    pki, app: int, protocol: Protocol = Protocol.HTTP, *, is_strict: bool, log: LogLines | None = None
):
    port, mesh_port = free_port(), free_port()
    auth = strict(port) if is_strict else open_to_all(port)
    snapshot = inbound_snapshot(
        port, (Endpoint(LOOPBACK, app),), protocol=protocol, ingress=True, authorization=auth
    )
    extra = {"log": log.log} if log else {}
    async with running(snapshot, pki, mesh_port=mesh_port, binds={"edge": (EDGE,)}, **extra) as api:
        yield port, mesh_port, snapshot, api


async def echo(reader, writer):
    while data := await reader.read(65536):
        writer.write(data.upper())


async def test_strict_refuses_plaintext_at_a_published_port_before_it_says_anything(pki):
    log = LogLines()
    async with backend() as app, edge(pki, app.port, is_strict=True, log=log) as (port, _, _, api):
        async with await Client.connect(port, EDGE) as client:
            assert await client.is_closed()
        async with await Client.connect(port, EDGE) as client:
            with contextlib.suppress(ConnectionError):
                await client.send(b"GET / HTTP/1.1\r\nHost: api\r\n\r\n")
            assert await client.is_closed()
        await asyncio.sleep(0.05)
        line = log.lines()[0]
        metrics = prometheus_text(api.telemetry)
    assert app.connections == 0
    assert (line["stage"], line["policy"]) == ("mtls", POLICY)
    assert f'stage="mtls",policy="{POLICY}",rule="",action="deny"' in metrics


async def test_strict_lets_sidecars_in(pki):
    async with backend() as app, edge(pki, app.port, is_strict=True) as (port, mesh_port, *_):
        door = free_port()
        cluster = mesh_cluster(mesh_port, port)
        async with (
            running(outbound_snapshot(door, {"c": cluster}), pki),
            await Client.connect(door) as client,
        ):
            assert (await client.get()).status == 200


async def test_permissive_lets_both_in(pki):
    async with (
        backend() as app,
        edge(pki, app.port, is_strict=False) as (port, *_),
        await Client.connect(port, EDGE) as client,
    ):
        assert (await client.get()).status == 200


async def test_a_turn_to_strict_ends_open_connections_and_back_again_lets_callers_in(pki):
    async with backend() as app, edge(pki, app.port, is_strict=False) as (port, _, snapshot, api):
        async with await Client.connect(port, EDGE) as client:
            assert (await client.get()).status == 200
            await api.apply(replace(snapshot, version="strict", authorization=strict(port)))
            assert await client.is_closed()
        await api.apply(replace(snapshot, version="open"))
        async with await Client.connect(port, EDGE) as client:
            assert (await client.get()).status == 200


async def test_a_turn_to_strict_ends_opaque_connections_at_once(pki):
    async with (
        raw_server(echo) as app,
        edge(pki, app, Protocol.TCP, is_strict=False) as (port, _, snapshot, api),
        await Client.connect(port, EDGE) as client,
    ):
        await client.send(b"a")
        assert await client.reader.readexactly(1) == b"A"
        await api.apply(replace(snapshot, version="strict", authorization=strict(port)))
        assert await client.is_closed()
