"""What a sidecar has the kernel do about peers that are silent, read back from real sockets."""

import asyncio
import socket

from meshpy.model.resilience import ConnectionPool
from proxy.net.dial import LOST_AFTER_S, keep_alive


async def options(*arguments: float) -> tuple[int, int, int, int]:
    """Keep-alive time, interval, probes, and user timeout in ms, of a connection after `keep_alive`."""
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        pool = ConnectionPool(keepalive_time_s=70, keepalive_interval_s=7, keepalive_probes=2)
        keep_alive(writer.transport, pool, *arguments)
        sock = writer.get_extra_info("socket")
        names = (
            socket.TCP_KEEPIDLE,
            socket.TCP_KEEPINTVL,
            socket.TCP_KEEPCNT,
            socket.TCP_USER_TIMEOUT,
        )
        found = [sock.getsockopt(socket.IPPROTO_TCP, name) for name in names]
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        writer.close()
        await writer.wait_closed()
    return tuple(found)


async def test_an_idle_tunnel_is_probed_and_may_rest():
    """No user timeout: the kernel would count a window that the other end keeps closed."""
    assert await options() == (70, 7, 2, 0)


async def test_an_http_peer_that_acknowledges_nothing_is_given_up():
    """After a minute, not after the quarter of an hour for which the kernel sends again."""
    assert await options(LOST_AFTER_S) == (70, 7, 2, 60_000)
