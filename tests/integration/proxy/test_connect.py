"""CONNECT: refused with 405, unless a route takes it by name; then a tunnel through both sidecars."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest

from meshpy.model.endpoint import Endpoint
from meshpy.model.match import Exact, RequestMatch
from tests.helpers.backends import backend, raw_server
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

CONNECT = b"CONNECT db.example:5432 HTTP/1.1\r\nHost: db.example:5432\r\n\r\n"
BY_NAME = RequestMatch(method=Exact("CONNECT"))


async def forward_proxy(reader, writer):
    """A proxy that grants every CONNECT and then shouts back."""
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"CONNECT db.example:5432 HTTP/1.1\r\n")
    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\nready ")
    while data := await reader.read(100):
        writer.write(data.upper())


@contextlib.asynccontextmanager
async def pair(pki, app: int, *rules, allows: bool = True, log=None):
    """Two sidecars before an application; yields the caller's port."""
    mesh, port, caller = free_port(), free_port(), free_port()
    behind = inbound_snapshot(port, (Endpoint(LOOPBACK, app),))
    behind = replace(behind, inbound=(replace(behind.inbound[0], allows_connect=allows),))
    cluster = mesh_cluster(mesh, port)
    rules = tuple(route(cluster.name, **rule) for rule in rules)
    options = {"log": log.log} if log else {}
    async with (
        running(behind, pki, mesh_port=mesh),
        running(outbound_snapshot(caller, {cluster.name: cluster}, rules), pki, **options) as sidecar,
    ):
        yield caller, sidecar


async def test_a_route_that_names_connect_makes_a_tunnel(pki):
    log = LogLines()
    async with (
        raw_server(forward_proxy) as app,
        pair(pki, app, {"matches": (BY_NAME,), "timeout_s": 0.3}, log=log) as (port, sidecar),
        await Client.connect(port) as client,
    ):
        await client.send(CONNECT + b"early ")
        status, headers = await client.head()
        assert status == 200
        assert not {"content-length", "transfer-encoding"} & set(headers)
        assert await client.reader.readexactly(12) == b"ready EARLY "
        await asyncio.sleep(0.5)
        await client.send(b"late")
        assert await client.reader.readexactly(4) == b"LATE"
        assert len(sidecar.shared.splices) == 1
        client.writer.write_eof()
        assert await client.reader.read() == b""
        await asyncio.sleep(0.1)
        (line,) = log.lines()
    assert (line["method"], line["response_code"], line["bytes_received"]) == ("CONNECT", 200, 10)


UPGRADE = b"GET /attach HTTP/1.1\r\nHost: api\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n"


@pytest.mark.parametrize(
    ("asked", "granted", "rules"),
    [(CONNECT, b"HTTP/1.1 200 OK\r\n\r\n", [{"matches": (BY_NAME,)}]), (UPGRADE, SWITCHED, [])],
    ids=["CONNECT", "upgrade"],
)
async def test_each_direction_of_such_a_tunnel_ends_by_itself(pki, asked, granted, rules):
    """As `docker attach` does it: the end of the input is sent, the output goes on."""
    heads = []

    async def serve(reader, writer):
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(granted)
        if await reader.readexactly(1) != b"o":
            writer.write(b"no more")
            writer.write_eof()
        told = await reader.read()
        await asyncio.sleep(0.2)
        writer.write(b"got %d" % len(told))

    async with raw_server(serve) as app, pair(pki, app, *(rules or [{}])) as (port, _):
        async with await Client.connect(port) as client:
            await client.send(asked)
            _, headers = await client.head()
            await client.send(b"o" + b"x" * 100_000)
            client.writer.write_eof()
            assert await client.reader.read() == b"got 100000"
        async with await Client.connect(port) as client:
            await client.send(asked)
            await client.head()
            await client.send(b"i")
            assert await client.reader.readexactly(7) == b"no more"
            assert await client.reader.read() == b""
            await asyncio.sleep(0.2)
            await client.send(b"late")
            client.writer.write_eof()
            await asyncio.sleep(0.3)
    assert not any(name.startswith("x-meshpy") for name in headers)
    assert b"x-meshpy-half-close" not in heads[0].lower()


async def test_without_such_a_route_connect_is_refused(pki):
    async with backend() as app, pair(pki, app.port, {}) as (port, _), await Client.connect(port) as client:
        await client.send(CONNECT)
        assert (await client.answer()).status == 405
    assert not app.requests


async def test_the_callee_refuses_what_no_route_leads_to_it(pki):
    async with (
        backend() as app,
        pair(pki, app.port, {"matches": (BY_NAME,)}, allows=False) as (port, _),
        await Client.connect(port) as client,
    ):
        await client.send(CONNECT)
        assert (await client.answer()).status == 405
    assert not app.requests


async def test_rules_for_other_methods_never_take_a_connect(pki):
    port = free_port()
    by_host = RequestMatch(method=Exact("CONNECT"), authority=Exact("other.example:443"))
    async with backend() as app:
        rules = (route("c", matches=(by_host,)), route("c"))
        async with (
            running(outbound_snapshot(port, {"c": plain_cluster(app.port, name="c")}, rules), pki),
            await Client.connect(port) as client,
        ):
            assert (await client.get()).status == 200
            await client.send(CONNECT)
            assert (await client.answer()).status == 404
    assert len(app.requests) == 1


@pytest.mark.parametrize("status", [403, 502])
async def test_a_proxy_that_refuses_is_heard_and_no_tunnel_is_made(pki, status):
    async with (
        backend(b"HTTP/1.1 %d No\r\nContent-Length: 2\r\n\r\nno" % status) as app,
        pair(pki, app.port, {"matches": (BY_NAME,)}) as (port, sidecar),
        await Client.connect(port) as client,
    ):
        await client.send(CONNECT)
        answer = await client.answer("CONNECT")
        assert (answer.status, answer.body) == (status, b"no")
        assert not sidecar.shared.splices
