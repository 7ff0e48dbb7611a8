"""PROXY headers in, where an edge port declares them, and out, where a policy asks for them."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from meshpy.model.endpoint import Endpoint, Protocol
from meshpy.model.route import Destination, TcpRoute
from proxy import proxied_edge
from proxy.http.proxy_protocol import header_v1, header_v2
from tests.helpers.backends import backend, raw_server
from tests.helpers.ports import free_port
from tests.helpers.sidecars import (
    LOOPBACK,
    Client,
    LogLines,
    inbound_snapshot,
    outbound_snapshot,
    plain_cluster,
    running,
)

SOURCE, HERE = ("203.0.113.9", 4711), (LOOPBACK, 80)
ADDRESSES = {"edge": (LOOPBACK,)}


def edge(port: int, app: int, protocol: Protocol = Protocol.HTTP):
    """The snapshot of `api` with one edge port that reads PROXY headers."""
    snapshot = inbound_snapshot(port, (Endpoint(LOOPBACK, app),), protocol=protocol, ingress=True)
    return replace(snapshot, inbound=(replace(snapshot.inbound[0], proxy_protocol=True),))


@pytest.mark.parametrize("write", [header_v1, header_v2])
async def test_an_http_app_is_told_the_client_that_the_header_names(pki, write):
    port, log = free_port(), LogLines()
    async with (
        backend() as app,
        running(edge(port, app.port), pki, binds=ADDRESSES, log=log.log),
        await Client.connect(port) as client,
    ):
        await client.send(write(SOURCE, HERE) + b"GET /a HTTP/1.1\r\nHost: api\r\n\r\n")
        assert (await client.answer()).status == 200
        assert (await client.get("/b")).status == 200
        assert {line["downstream_remote_address"] for line in log.lines()} == {SOURCE[0]}
    assert [r.headers("x-forwarded-for") for r in app.requests] == [[SOURCE[0]]] * 2


async def test_without_a_header_or_in_time_the_connection_ends_and_is_counted(pki, monkeypatch):
    monkeypatch.setattr(proxied_edge, "HEADER_TIMEOUT_S", 0.2)
    port = free_port()
    async with backend() as app, running(edge(port, app.port), pki, binds=ADDRESSES) as sidecar:
        for data in (b"GET / HTTP/1.1\r\nHost: api\r\n\r\n", b"PROXY TCP4 x\r\n", b"PROXY "):
            async with await Client.connect(port) as client:
                await client.send(data)
                assert await client.is_closed()
        counted = sidecar.telemetry.refused_handshakes
        assert sidecar.listeners.capacity.open == 0
    assert counted == {
        "proxy-protocol-no-header": 1,
        "proxy-protocol-malformed": 1,
        "proxy-protocol-timeout": 1,
    }
    assert not app.requests


async def test_an_opaque_port_takes_its_bytes_behind_the_header(pki):
    async def echo(reader, writer):
        writer.write((await reader.readline()).upper())

    port, log = free_port(), LogLines()
    async with (
        raw_server(echo) as app,
        running(edge(port, app, Protocol.TCP), pki, binds=ADDRESSES, log=log.log),
        await Client.connect(port) as client,
    ):
        await client.send(header_v2(SOURCE, HERE)[:20])
        await asyncio.sleep(0.02)
        await client.send(header_v2(SOURCE, HERE)[20:] + b"hello\n")
        assert await client.reader.readline() == b"HELLO\n"
        assert await client.reader.read() == b""
        client.writer.close()
        await asyncio.sleep(0.05)
        (line,) = log.lines()
    assert line["downstream_remote_address"] == SOURCE[0]


@pytest.mark.parametrize("version", [1, 2])
async def test_a_server_that_asks_for_it_is_told_who_a_connection_is_for(pki, version):
    received = asyncio.get_running_loop().create_future()

    async def serve(reader, writer):
        received.set_result(await reader.readuntil(b"hello\n"))
        writer.write(b"thanks\n")

    port = free_port()
    async with raw_server(serve) as app:
        cluster = plain_cluster(app, name="c", protocol=Protocol.TCP, proxy_protocol=version)
        tcp = TcpRoute("db.shop", (Destination("c"),))
        async with (
            running(outbound_snapshot(port, {"c": cluster}, tcp=tcp), pki),
            await Client.connect(port) as client,
        ):
            own = client.writer.get_extra_info("sockname")[:2]
            await client.send(b"hello\n")
            assert await client.reader.readline() == b"thanks\n"
    write = header_v1 if version == 1 else header_v2
    assert await received == write(tuple(own), (LOOPBACK, port)) + b"hello\n"
