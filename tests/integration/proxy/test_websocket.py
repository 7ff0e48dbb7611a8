"""The sidecar's WebSocket and its one POST, against a real server: what it says, takes, and gives up on."""

from __future__ import annotations

import asyncio
import contextlib

import aiohttp
import pytest
from aiohttp import web

from proxy import posting, websocket
from proxy.posting import PostingError, post
from proxy.replicas import dial
from proxy.websocket import WebSocket, WebSocketError

HOST = "127.0.0.1"
_FOR_ANOTHER_KEY = (
    b"HTTP/1.1 101 a\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: no\r\n\r\n"
)


@contextlib.asynccontextmanager
async def served(handle, method="GET"):
    """The port of a server with one path."""
    app = web.Application(client_max_size=1 << 26)
    app.router.add_route(method, "/v1", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def opened(port):
    made = await WebSocket.open(await dial(HOST, port, None), f"{HOST}:{port}", "/v1")
    try:
        yield made
    finally:
        made.close()


async def answering(request):
    """Says what it hears, whole and in parts."""
    peer = web.WebSocketResponse(max_msg_size=1 << 24)
    await peer.prepare(request)
    async for message in peer:
        value = message.json()
        if value == "bye":
            await peer.close(code=1013, message=b"another replica")
            break
        await peer.ping()
        await peer.send_str(message.data)
    return peer


async def test_texts_of_any_length_go_both_ways_and_the_other_side_may_end():
    async with served(answering) as port, opened(port) as ours:
        texts = ours.texts()
        for value in ("", "ä" * 100, "x" * 70_000, {"a": ["€" * 1_000_000]}):
            await ours.send_json(value)
            heard = await anext(texts)
            assert websocket.json.loads(heard) == value
        await ours.send_json("bye")
        assert [each async for each in texts] == []
        await ours.send_json("what nobody hears any more")


async def test_we_end_and_hear_what_was_said_before():
    closed = asyncio.Queue()

    async def handle(request):
        peer = await answering(request)
        await closed.put(peer.close_code)
        return peer

    async with served(handle) as port, opened(port) as ours:
        await ours.send_json("last")
        ours.begin_close("coming back")
        async with asyncio.timeout(5):
            assert [each async for each in ours.texts()] == ['"last"']
            assert await closed.get() == 1000


async def test_who_does_not_close_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(websocket, "_CLOSING_S", 0.05)
    over = asyncio.Event()

    async def deaf(request):
        peer = web.WebSocketResponse(autoclose=False)
        await peer.prepare(request)
        await over.wait()
        return peer

    async with served(deaf) as port, opened(port) as ours:
        ours.begin_close("coming back")
        async with asyncio.timeout(5):
            with contextlib.suppress(OSError):
                assert [each async for each in ours.texts()] == []
        over.set()


async def test_a_silent_server_is_asked_and_given_up(monkeypatch):
    monkeypatch.setattr(websocket, "_HEARTBEAT_S", 0.05)
    monkeypatch.setattr(websocket, "_PONG_S", 0.05)
    heard = []

    async def silent(request):
        peer = web.WebSocketResponse(autoping=False)
        await peer.prepare(request)
        heard.extend([message.type async for message in peer])
        return peer

    async with served(silent) as port, opened(port) as ours:
        with pytest.raises(WebSocketError, match="no ping"):
            await anext(ours.texts())
    assert heard == [aiohttp.WSMsgType.PING]


async def test_a_server_that_answers_pings_is_kept(monkeypatch):
    monkeypatch.setattr(websocket, "_HEARTBEAT_S", 0.02)

    async def late(request):
        peer = web.WebSocketResponse()
        await peer.prepare(request)
        reading = asyncio.create_task(peer.receive())  # answers pings
        await asyncio.sleep(0.2)
        await peer.send_str("at last")
        reading.cancel()
        return peer

    async with served(late) as port, opened(port) as ours:
        assert await anext(ours.texts()) == "at last"


async def test_a_text_beyond_the_limit_ends_it(monkeypatch):
    monkeypatch.setattr(websocket, "_MAX_CHARS", 1000)
    async with served(answering) as port, opened(port) as ours:
        await ours.send_json("y" * 1001)
        with pytest.raises(WebSocketError, match="1000 characters"):
            await anext(ours.texts())


async def test_a_refusal_is_told_with_its_status():
    async def refuse(_request):
        return web.Response(status=403, text="not you")

    async with served(refuse) as port:
        with pytest.raises(WebSocketError, match="403"):
            await WebSocket.open(await dial(HOST, port, None), "a", "/v1")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"", "ended the connection"),
        (b"SSH-2.0-x\r\n\r\n", "no WebSocket"),
        (_FOR_ANOTHER_KEY, "no WebSocket"),
    ],
)
async def test_what_is_no_websocket_is_refused(said, why):
    async with speaking(said) as port:
        with pytest.raises(WebSocketError, match=why):
            await WebSocket.open(await dial(HOST, port, None), "a", "/v1")


@contextlib.asynccontextmanager
async def speaking(said):
    """Answers anything with these bytes, and ends."""

    async def serve(reader, writer):
        await reader.read(1000)
        writer.write(said)
        with contextlib.suppress(OSError):
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, HOST, 0) as server:
        yield server.sockets[0].getsockname()[1]


async def test_a_post_is_answered_with_status_and_text():
    async def handle(request):
        return web.Response(status=401, text=(await request.text()) * 2 + request.headers["Host"])

    async with served(handle, "POST") as port:
        link = await dial(HOST, port, None)
        assert await post(link, "cp:1", "/v1", {"a": "ö"}) == (401, '{"a": "\\u00f6"}{"a": "\\u00f6"}cp:1')
        link[1].transport.abort()


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"", "no HTTP"),
        (b"SSH-2.0-x\r\n\r\n", "no HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut", "no HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + b"x" * 2000, "more than 1000 bytes"),
    ],
)
async def test_an_answer_that_is_none_is_refused(monkeypatch, said, why):
    monkeypatch.setattr(posting, "_MAX_ANSWER", 1000)
    async with speaking(said) as port:
        link = await dial(HOST, port, None)
        with pytest.raises(PostingError, match=why):
            await post(link, "a", "/v1", {})
        link[1].transport.abort()
