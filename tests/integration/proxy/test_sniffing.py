"""A port declared `auto`: what a connection's first bytes are is what it becomes, at both sidecars."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest

from meshpy.model.authz import Action, Authorization, AuthorizationPolicy, AuthorizationRule, Operation
from meshpy.model.endpoint import Endpoint, Protocol
from meshpy.model.match import Prefix
from meshpy.model.resilience import ConnectionPool
from meshpy.model.route import Destination, TcpRoute
from tests.helpers.backends import raw_server
from tests.helpers.ports import free_port
from tests.helpers.sidecars import (
    API,
    LOOPBACK,
    WEB,
    Client,
    LogLines,
    inbound_snapshot,
    mesh_cluster,
    outbound_snapshot,
    running,
)

PORT = 7000
POOL = ConnectionPool(use_client_protocol=True)
NO_ADMIN = Authorization(
    baseline=frozenset({WEB}),
    policies=(
        AuthorizationPolicy(
            "AuthorizationPolicy shop/no-admin",
            Action.DENY,
            (AuthorizationRule("rules[0]", operations=(Operation(paths=(Prefix("/admin"),)),)),),
        ),
    ),
)


@contextlib.asynccontextmanager
async def pair(pki, app_port: int, authorization: Authorization | None = None, log: LogLines | None = None):
    """web's sidecar → api's sidecar → the app, on one `auto` port; yields where `web` finds it."""
    door, mesh_port = free_port(), free_port()
    inbound = inbound_snapshot(
        PORT, (Endpoint(LOOPBACK, app_port),), protocol=Protocol.AUTO, authorization=authorization
    )
    name = f"inbound|{PORT}||"
    inbound = replace(inbound, clusters={name: replace(inbound.clusters[name], pool=POOL)})
    cluster = replace(mesh_cluster(mesh_port, PORT, protocol=Protocol.AUTO), pool=POOL)
    outbound = outbound_snapshot(door, {"c": cluster})
    tcp = TcpRoute("api.shop", (Destination("c", services=(API,)),))
    listener = replace(outbound.outbound[0], protocol=Protocol.AUTO, tcp=tcp)
    extra = {"log": log.log} if log else {}
    async with (
        running(inbound, pki, mesh_port=mesh_port, **extra),
        running(replace(outbound, outbound=(listener,)), pki),
    ):
        yield door


async def ended(log: LogLines, count: int) -> list[dict[str, object]]:
    """The log once so many have ended: over TLS the end of an opaque connection travels for a second."""
    for _ in range(80):
        if len(log.lines()) >= count:
            break
        await asyncio.sleep(0.05)
    return log.lines()


async def any_app(reader, writer):
    """Answers HTTP as HTTP, and echoes all else in capitals."""
    while data := await reader.read(65536):
        if b" HTTP/1.1\r\n" in data:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        else:
            writer.write(data.upper())


async def test_http_is_read_and_everything_else_passes_as_it_is(pki):
    log = LogLines()
    async with raw_server(any_app) as app, pair(pki, app, log=log) as door:
        async with await Client.connect(door) as client:
            assert [(await client.get("/a")).status, (await client.get("/b")).status] == [200, 200]
        for first in (b"GET key\r\n", b"\x16\x03\x01\x00\x05hello", b"ping"):
            reader, writer = await asyncio.open_connection(LOOPBACK, door)
            writer.write(first)
            assert await reader.readexactly(len(first)) == first.upper()
            writer.close()
            await writer.wait_closed()
        lines = await ended(log, 5)
    assert [line.get("path") for line in lines[:2]] == ["/a", "/b"]
    assert [line["protocol"] for line in lines[2:]] == ["TCP"] * 3


async def test_bytes_that_come_one_by_one_are_read_all_the_same(pki):
    async with raw_server(any_app) as app, pair(pki, app) as door:
        reader, writer = await asyncio.open_connection(LOOPBACK, door)
        for octet in b"GET / HTTP/1.1\r\nHost: api\r\n\r\n":
            writer.write(bytes((octet,)))
            await asyncio.sleep(0.001)
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.close()


async def test_what_is_http_and_malformed_is_refused_and_never_opaque(pki):
    received = bytearray()

    async def recording(reader, _writer):
        while data := await reader.read(65536):
            received.extend(data)

    async with raw_server(recording) as app, pair(pki, app) as door:
        for raw in (
            b"GET / HTTP/1.1\nHost: api\n\n",
            b"POST / HTTP/1.1\r\nHost: api\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        ):
            reader, writer = await asyncio.open_connection(LOOPBACK, door)
            writer.write(raw)
            assert (await reader.readline()).startswith(b"HTTP/1.1 400")
            writer.close()
    assert not received


async def test_a_server_that_speaks_first_is_opaque_after_the_deadline(pki, monkeypatch):
    monkeypatch.setattr("proxy.sniffed.SNIFF_TIMEOUT_S", 0.1)

    async def banner(reader, writer):
        writer.write(b"220 ready\r\n")
        writer.write(b"250 " + await reader.readline())

    async with raw_server(banner) as app, pair(pki, app) as door:
        reader, writer = await asyncio.open_connection(LOOPBACK, door)
        assert await reader.readline() == b"220 ready\r\n"
        writer.write(b"EHLO me\r\n")
        assert await reader.readline() == b"250 EHLO me\r\n"
        writer.close()


async def test_a_client_that_ends_before_it_said_enough_is_opaque(pki):
    async with raw_server(any_app) as app, pair(pki, app) as door:
        reader, writer = await asyncio.open_connection(LOOPBACK, door)
        writer.write(b"GET")
        writer.write_eof()
        assert await reader.read() == b"GET"
        writer.close()


@pytest.mark.parametrize("first", [b"ping\r\n", b"\x16\x03\x01\x00\x05hello"])
async def test_a_rule_about_paths_closes_the_port_to_opaque_bytes(pki, first):
    """What cannot be judged by path might be anything: it is denied, as on an opaque port."""
    log = LogLines()
    async with raw_server(any_app) as app, pair(pki, app, NO_ADMIN, log) as door:
        async with await Client.connect(door) as client:
            assert (await client.get("/shop")).status == 200
            assert (await client.get("/admin")).status == 403
        reader, writer = await asyncio.open_connection(LOOPBACK, door)
        writer.write(first)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
        await asyncio.sleep(0.1)
        line = log.lines()[-1]
    assert (line["protocol"], line["stage"]) == ("TCP", "deny")


async def test_grpc_passes_as_http_2_from_end_to_end(pki):
    grpc_calls = pytest.importorskip("tests.helpers.grpc_calls", reason="grpcio is not installed")
    with grpc_calls.grpc_app() as app:
        async with pair(pki, app.port) as door:
            assert await asyncio.to_thread(grpc_calls.unary, door, "Echo") == b"re:hi"
