"""The stand-in for Redis answers the shop's own client as Redis does."""

import asyncio

import pytest

from meshpy.demo.redis_client import Redis, RedisError
from meshpy.demo.redis_stand_in import StandIn


async def test_the_shops_client_counts_and_keeps_orders():
    async with await asyncio.start_server(StandIn().serve, "127.0.0.1", 0) as server:
        redis = Redis("127.0.0.1", server.sockets[0].getsockname()[1])
        assert [await redis.command("INCR", "views") for _ in range(2)] == [1, 2]
        assert [await redis.command("RPUSH", "orders", "größe", str(n)) for n in range(2)] == [2, 4]
        assert await redis.command("LLEN", "orders") == 4
        assert await redis.command("LLEN", "nothing") == 0
        assert await redis.command("PING") == "PONG"
        with pytest.raises(RedisError, match="stand-in"):
            await redis.command("FLUSHALL")
        redis._close()


@pytest.mark.parametrize("junk", [b"*x\r\n", b"*99\r\n", b"*1\r\n$-1\r\n", b"\xff\xfe\r\n"])
async def test_what_is_no_command_ends_the_connection(junk):
    async with await asyncio.start_server(StandIn().serve, "127.0.0.1", 0) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.sockets[0].getsockname()[1])
        writer.write(junk)
        async with asyncio.timeout(5):
            assert await reader.read() == b""
        writer.close()
