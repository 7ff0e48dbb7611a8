"""What is open when a policy, a mode or a deny-list changes: streams get a moment, tunnels none."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import pytest

from meshpy.model.authz import (
    Action,
    Authorization,
    AuthorizationPolicy,
    AuthorizationRule,
    NetworkAction,
    NetworkPolicy,
    NetworkRule,
    Operation,
    Tier,
)
from meshpy.model.endpoint import Endpoint, Protocol
from meshpy.model.match import Prefix
from meshpy.model.route import Destination, TcpRoute
from proxy import recheck
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

OPEN = Authorization(baseline=frozenset({WEB}))
DENY_EVENTS = replace(
    OPEN,
    policies=(
        AuthorizationPolicy(
            "AuthorizationPolicy shop/no-events",
            Action.DENY,
            (AuthorizationRule("rules[0]", operations=(Operation(paths=(Prefix("/events"),)),)),),
        ),
    ),
)
DENY_ALL = Authorization(
    ingress=(
        Tier(
            "default",
            (NetworkPolicy("NetworkPolicy shop/no", (NetworkRule("ingress[0]", NetworkAction.DENY),)),),
        ),
    )
)


@pytest.fixture(autouse=True)
def short_grace(monkeypatch):
    monkeypatch.setattr(recheck, "GRACE_S", 0.4)


async def events(reader, writer):
    """A stream of events, one each 50 ms, until nobody listens; /short ends by itself."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while not reader.at_eof():
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            count = 4 if b"/short" in head else 1000
            for _ in range(count):
                if reader.at_eof():
                    return
                writer.write(b"1\r\ne\r\n")
                await writer.drain()
                await asyncio.sleep(0.05)
            writer.write(b"0\r\n\r\n")


@contextlib.asynccontextmanager
async def pair(pki, serve, protocol=Protocol.HTTP, log=None):
    door, mesh_port, port = free_port(), free_port(), 80 if protocol.is_http else 5432
    tcp = None if protocol.is_http else TcpRoute("api.shop", (Destination("c", services=(API,)),))
    extra = {"log": log.log} if log else {}
    async with raw_server(serve) as app:
        snapshot = inbound_snapshot(port, (Endpoint(LOOPBACK, app),), protocol=protocol, authorization=OPEN)
        cluster = mesh_cluster(mesh_port, port, protocol=protocol)
        async with (
            running(snapshot, pki, mesh_port=mesh_port, **extra) as api,
            running(outbound_snapshot(door, {"c": cluster}, tcp=tcp), pki),
            await Client.connect(door) as client,
        ):
            yield client, snapshot, api
        await asyncio.sleep(0.1)  # for the app to see that nobody listens


async def begin(client: Client, path: str) -> None:
    await client.send(f"GET {path} HTTP/1.1\r\nHost: api\r\n\r\n".encode())
    assert (await client.head())[0] == 200
    assert await client.reader.readexactly(6) == b"1\r\ne\r\n"


async def rest(client: Client) -> bytes:
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionError):
            return await client.reader.read()
    return b""


@pytest.mark.parametrize("authorization", [DENY_EVENTS, DENY_ALL])
async def test_a_stream_gets_a_moment_and_is_then_broken_off(pki, authorization):
    log = LogLines()
    async with pair(pki, events, log=log) as (client, snapshot, api):
        await begin(client, "/events")
        await api.apply(replace(snapshot, version="deny", authorization=authorization))
        begun = asyncio.get_running_loop().time()
        data = await rest(client)
        lasted_s = asyncio.get_running_loop().time() - begun
        await asyncio.sleep(0.05)
        line = log.lines()[-1]
    assert lasted_s > 0.3
    assert data.count(b"e") >= 4
    assert not data.endswith(b"0\r\n\r\n")
    assert line["stage"] in ("deny", "network")
    assert line["policy"]


async def test_an_answer_that_ends_in_time_is_whole_and_the_next_request_is_refused(pki):
    async with pair(pki, events) as (client, snapshot, api):
        await begin(client, "/events/short")
        await api.apply(replace(snapshot, version="deny", authorization=DENY_EVENTS))
        assert await client.chunks() == b"eee"
        assert (await client.get("/events")).status == 403


async def test_a_stream_that_is_still_allowed_goes_on(pki):
    async with pair(pki, events) as (client, snapshot, api):
        await begin(client, "/other")
        await api.apply(replace(snapshot, version="deny", authorization=DENY_EVENTS))
        for _ in range(12):
            assert await client.reader.readexactly(6) == b"1\r\ne\r\n"


async def test_a_denial_that_is_taken_back_in_time_ends_nothing(pki):
    async with pair(pki, events) as (client, snapshot, api):
        await begin(client, "/events")
        await api.apply(replace(snapshot, version="deny", authorization=DENY_EVENTS))
        await api.apply(replace(snapshot, version="open"))
        for _ in range(12):
            assert await client.reader.readexactly(6) == b"1\r\ne\r\n"


async def test_an_idle_connection_that_may_not_speak_any_more_is_closed(pki):
    async with pair(pki, events) as (client, snapshot, api):
        await begin(client, "/short")
        assert await client.chunks() == b"eee"
        assert api.capacity.open == 1
        await api.apply(replace(snapshot, version="deny", authorization=DENY_ALL))
        async with asyncio.timeout(3):
            while api.capacity.open:  # noqa: ASYNC110 - no event to wait for
                await asyncio.sleep(0.02)


async def test_a_revoked_identity_is_cut_at_once_in_the_middle_of_a_stream(pki):
    async with pair(pki, events) as (client, snapshot, api):
        await begin(client, "/events")
        denied = frozenset({"spiffe://mesh.test/ns/shop/sa/web"})
        begun = asyncio.get_running_loop().time()
        await api.apply(replace(snapshot, version="denied", denied=denied))
        data = await rest(client)
        assert asyncio.get_running_loop().time() - begun < 0.35
        assert not data.endswith(b"0\r\n\r\n")


async def test_tunnels_are_cut_at_once(pki):
    async def echo(reader, writer):
        while data := await reader.read(100):
            writer.write(data)

    async with pair(pki, echo, Protocol.TCP) as (client, snapshot, api):
        await client.send(b"a")
        assert await client.reader.readexactly(1) == b"a"
        begun = asyncio.get_running_loop().time()
        await api.apply(replace(snapshot, version="deny", authorization=DENY_ALL))
        assert await client.is_closed()
        assert asyncio.get_running_loop().time() - begun < 0.35


async def test_others_have_their_turn_between_two_judgements(pki, monkeypatch):
    """However much is open when a snapshot comes, the loop is held up by one piece of it at a time."""
    monkeypatch.setattr("proxy.turns.TURN_S", 0.0)
    order: list[str] = []
    judged = recheck.recheck_exchange

    def noted(exchange, role):
        order.append("judged")
        judged(exchange, role)

    async def others():
        while True:
            order.append("turn")
            await asyncio.sleep(0)

    monkeypatch.setattr("proxy.sidecar.recheck_exchange", noted)
    async with pair(pki, events) as (client, snapshot, api), contextlib.AsyncExitStack() as stack:
        door = client.writer.get_extra_info("peername")[1]
        clients = [client, *[await stack.enter_async_context(await Client.connect(door)) for _ in range(4)]]
        for each in clients:
            await begin(each, "/events")
        async with asyncio.TaskGroup() as group:
            busy = group.create_task(others())
            await api.apply(replace(snapshot, version="again"))
            busy.cancel()
    assert order.count("judged") == len(clients)
    assert "judged,judged" not in ",".join(order)
