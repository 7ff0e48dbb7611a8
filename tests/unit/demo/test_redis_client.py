"""The shop's Redis client, before a server that behaves as Redis does."""

import asyncio

from meshpy.demo.redis_client import Redis


async def test_a_connection_that_ended_while_idle_is_opened_again():
    """The server closes each connection after one answer; no command fails."""
    connections = 0

    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await reader.readuntil(b"PING\r\n")
        writer.write(b"+PONG\r\n")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(answer_once, "127.0.0.1", 0)
    async with server:
        redis = Redis("127.0.0.1", server.sockets[0].getsockname()[1])
        for _ in range(3):
            assert await redis.command("PING") == "PONG"
            await asyncio.sleep(0.05)
        redis._close()
    assert connections == 3
