"""Whoever takes less than it is sent: nobody else waits for it, and no more is read for it than has room."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from tests.helpers.backends import backend, ok, raw_server
from tests.helpers.ports import free_port
from tests.helpers.sidecars import (
    LOOPBACK,
    Client,
    outbound_snapshot,
    plain_cluster,
    route,
    running,
)

GET = b"GET / HTTP/1.1\r\nHost: api\r\n\r\n"
SMALL_BUFFER = 4096
WATERMARK = 64 * 1024


@contextlib.asynccontextmanager
async def road(pki, app_port):
    port = free_port()
    snapshot = outbound_snapshot(port, {"c": plain_cluster(app_port, name="c")}, (route("c"),))
    async with running(snapshot, pki) as sidecar:
        yield port, sidecar


async def unread_client(port, sidecar):
    """A client that reads nothing yet, for which kernels hold next to nothing; and our end of it."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, (LOOPBACK, port))
    reader, writer = await asyncio.open_connection(sock=sock)
    writer.transport.pause_reading()
    await until(lambda: sidecar.shared.open)
    (down,) = sidecar.shared.open
    accepted = down.transport.get_extra_info("socket")
    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
    return Client(reader, writer), down


async def until(is_so):
    async with asyncio.timeout(5):
        while not is_so():  # noqa: ASYNC110 - what it waits for happens in sockets
            await asyncio.sleep(0.01)


async def test_a_connection_whose_last_answer_is_not_yet_read_serves_the_next_client(pki):
    """The end of the answer is what crosses the watermark: nobody is left to take the pause back."""
    is_first_read = asyncio.Event()

    async def serve(reader, writer):
        for number in range(2):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 110000\r\n\r\n" + b"x" * 60_000)
            if not number:
                await is_first_read.wait()
            writer.write(b"y" * 50_000)

    async with raw_server(serve) as app, road(pki, app) as (port, sidecar):
        slow, down = await unread_client(port, sidecar)
        await slow.send(GET)
        await until(lambda: down.transport.get_write_buffer_size() > 40_000)
        is_first_read.set()
        await until(lambda: sidecar.clusters.live["c"].active_requests == 0)
        assert down.transport.get_write_buffer_size() > WATERMARK
        async with asyncio.timeout(5), await Client.connect(port) as quick:
            assert (await quick.get()).body == b"x" * 60_000 + b"y" * 50_000
        slow.writer.transport.resume_reading()
        async with asyncio.timeout(5):
            assert (await slow.answer()).body == b"x" * 60_000 + b"y" * 50_000
        slow.writer.transport.abort()


async def test_requests_of_a_client_that_reads_no_answer_wait_and_are_answered_when_it_does(pki):
    async with backend(ok(b"z" * 200_000)) as app, road(pki, app.port) as (port, sidecar):
        client, down = await unread_client(port, sidecar)
        await client.send(GET * 30)
        await until(lambda: down.transport.get_write_buffer_size() > WATERMARK)
        await asyncio.sleep(0.3)
        asked = len(app.requests)
        assert asked <= 3
        assert down.transport.get_write_buffer_size() < WATERMARK + 2 * 200_000
        client.writer.transport.resume_reading()
        async with asyncio.timeout(10):
            for _ in range(30):
                assert (await client.answer()).body == b"z" * 200_000
        assert len(app.requests) == 30
        client.writer.transport.abort()


async def test_content_that_cannot_be_sent_again_is_not_kept_for_it(pki):
    """A POST in the application's hands: its 60 KiB are nobody's any more. A PUT may be sent again."""
    has_come = asyncio.Event()
    held = []

    async def serve(reader, _writer):
        await reader.readexactly(60_000)
        has_come.set()
        await reader.read()

    for method in ("POST", "PUT"):
        async with raw_server(serve) as app, road(pki, app) as (port, sidecar):
            client = await Client.connect(port)
            await client.send(f"{method} / HTTP/1.1\r\nHost: api\r\nContent-Length: 60000\r\n\r\n".encode())
            await client.send(b"x" * 60_000)
            async with asyncio.timeout(5):
                await has_come.wait()
            (down,) = sidecar.shared.open
            await until(lambda down=down: not down.transport.get_write_buffer_size())
            held.append(down.exchange.held_bytes)
            client.writer.transport.abort()
        has_come.clear()
    assert held == [0, 60_000]
