"""aiohttp's client and server through two sidecars: WebSockets, streams, and what its defaults do."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io

import aiohttp
import pytest
from aiohttp import web

from meshpy.model.endpoint import Endpoint
from tests.helpers.ports import free_port
from tests.helpers.sidecars import (
    LOOPBACK,
    inbound_snapshot,
    mesh_cluster,
    outbound_snapshot,
    running,
)


async def _socket(request: web.Request) -> web.WebSocketResponse:
    answer = web.WebSocketResponse(protocols=("chat",), heartbeat=5)
    await answer.prepare(request)
    async for message in answer:
        if message.type is aiohttp.WSMsgType.TEXT:
            await answer.send_str(message.data.upper())
        elif message.type is aiohttp.WSMsgType.BINARY:
            await answer.send_bytes(message.data[::-1])
    return answer


async def _digest(request: web.Request) -> web.Response:
    digest, size = hashlib.sha256(), 0
    async for part in request.content.iter_chunked(65536):
        digest.update(part)
        size += len(part)
    return web.json_response({"sha256": digest.hexdigest(), "bytes": size, "http": request.version.minor})


async def _events(request: web.Request) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await answer.prepare(request)
    for number in range(20):
        await answer.write(b"data: %d\n\n" % number)
        await asyncio.sleep(0)
    return answer


async def _early(_request: web.Request) -> web.Response:
    return web.Response(status=413, text="too much")


@pytest.fixture
async def shop(pki):
    """A session of aiohttp, and where it finds the application through both sidecars."""
    app = web.Application(client_max_size=1 << 30)
    app.add_routes([web.get("/ws", _socket), web.post("/digest", _digest), web.get("/events", _events)])
    app.add_routes([web.post("/early", _early), web.get("/redirect", _redirect), web.get("/", _hello)])
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, LOOPBACK, free_port())
    await site.start()
    listens = runner.addresses[0][1]
    door, mesh_port = free_port(), free_port()
    async with contextlib.AsyncExitStack() as stack:
        snapshot = inbound_snapshot(80, (Endpoint(LOOPBACK, listens),))
        await stack.enter_async_context(running(snapshot, pki, mesh_port=mesh_port))
        await stack.enter_async_context(running(outbound_snapshot(door, {"c": mesh_cluster(mesh_port)}), pki))
        session = await stack.enter_async_context(aiohttp.ClientSession(f"http://{LOOPBACK}:{door}"))
        yield session
    await runner.cleanup()


async def _hello(request: web.Request) -> web.Response:
    return web.json_response({"host": request.host, "cookies": dict(request.cookies)})


async def _redirect(_request: web.Request) -> web.Response:
    raise web.HTTPFound("/")


async def test_a_websocket_talks_in_frames_of_every_size(shop):
    async with shop.ws_connect("/ws", protocols=("chat",), autoping=True, max_msg_size=1 << 24) as socket:
        assert socket.protocol == "chat"
        for size in (0, 1, 125, 126, 65535, 65536, 1 << 20):
            await socket.send_bytes(bytes(range(256)) * (size // 256) + b"x" * (size % 256))
            assert len(await socket.receive_bytes()) == size
        await socket.send_str("hello")
        assert await socket.receive_str() == "HELLO"
        await socket.ping(b"?")
        await socket.close(code=4000)
        assert socket.closed


async def test_twenty_websockets_at_once_do_not_mix(shop):
    async def talk(number: int) -> bool:
        async with shop.ws_connect("/ws") as socket:
            for turn in range(20):
                await socket.send_str(f"n{number}-{turn}")
                if await socket.receive_str() != f"N{number}-{turn}":
                    return False
        return True

    assert await asyncio.gather(*map(talk, range(20))) == [True] * 20


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_content_of_either_framing_arrives_whole(shop, is_chunked):
    data = bytes(range(256)) * 16384

    async def parts():
        for start in range(0, len(data), 100_000):
            yield data[start : start + 100_000]

    async with shop.post("/digest", data=parts() if is_chunked else io.BytesIO(data)) as answer:
        found = await answer.json()
    assert (found["sha256"], found["bytes"]) == (hashlib.sha256(data).hexdigest(), len(data))


async def test_expect_100_continue_is_kept(shop):
    async with shop.post("/digest", data=b"abc", expect100=True) as answer:
        assert (answer.status, (await answer.json())["bytes"]) == (200, 3)


async def test_events_arrive_as_they_are_sent(shop):
    async with shop.get("/events") as answer:
        assert [line async for line in answer.content if line.strip()] == [
            b"data: %d\n" % number for number in range(20)
        ]


async def test_an_answer_before_the_content_was_read_arrives(shop):
    async with shop.post("/early", data=io.BytesIO(b"x" * (8 << 20))) as answer:
        assert (answer.status, await answer.text()) == (413, "too much")


async def test_redirects_cookies_and_hosts_pass(shop):
    async with shop.get("/redirect", cookies={"a": "1"}) as answer:
        found = await answer.json()
    assert (found["cookies"], len(answer.history)) == ({"a": "1"}, 1)
    assert found["host"].startswith(LOOPBACK)


async def test_a_client_that_gives_up_leaves_nothing_behind(shop):
    with pytest.raises(TimeoutError):
        async with shop.ws_connect("/ws") as socket:
            await socket.receive(timeout=0.1)
    async with shop.get("/") as answer:
        assert answer.status == 200
