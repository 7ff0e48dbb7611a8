"""How long a connection may take to be made, and whose fault it is when it is not."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace

import pytest

from meshpy.live import Live
from meshpy.model.resilience import ConnectionPool
from proxy.net.dial import Dialed, Dialer, DialError, _within
from tests.helpers.backends import raw_server
from tests.helpers.ports import free_port
from tests.helpers.sidecars import (
    Client,
    LogLines,
    mesh_cluster,
    outbound_snapshot,
    running,
)
from tests.helpers.sidecars import plain_cluster as plain


async def test_a_pause_of_the_process_uses_up_an_eighth_of_the_limit():
    """However long it is: the answer that came meanwhile has yet to be looked at."""
    answered = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def pause():
        loop.call_later(0.35, answered.set)
        await asyncio.sleep(0)
        time.sleep(0.3)  # noqa: ASYNC251 - the pause is what is tested

    async with _within(0.2, "it"):
        await asyncio.gather(answered.wait(), pause())
    with pytest.raises(DialError, match=r"it did not answer within 0\.05 s"):
        async with _within(0.05, "it"):
            await asyncio.sleep(5)


async def test_a_connection_that_is_made_during_a_pause_is_taken():
    async def silent(reader, _writer):
        await reader.read()

    async def pause():
        await asyncio.sleep(0)
        time.sleep(0.3)  # noqa: ASYNC251 - as above

    async with raw_server(silent) as port:
        cluster = plain(port, pool=ConnectionPool(connect_timeout_s=0.1))
        dialer = Dialer(Live(None), Live(None))
        made, _ = await asyncio.gather(
            dialer.dial(cluster, cluster.endpoints[0], Kept, alpn="http/1.1"), pause()
        )
        made.transport.close()


class Kept(Dialed):
    def connection_made(self, transport):
        self.transport = transport


async def test_a_peer_that_accepts_and_does_not_shake_hands_is_given_up(pki):
    """The TCP connection is there at once: what is waited for is the handshake, with a limit of its own."""

    async def silent(reader, _writer):
        await reader.read()

    log = LogLines()
    port = free_port()
    async with raw_server(silent) as mesh_port:
        cluster = mesh_cluster(mesh_port)
        pool = ConnectionPool(connect_timeout_s=30, handshake_timeout_s=0.2)
        clusters = {cluster.name: replace(cluster, pool=pool)}
        async with (
            asyncio.timeout(10),
            running(outbound_snapshot(port, clusters), pki, log=log.log),
            await Client.connect(port) as client,
        ):
            answer = await client.get()
            assert answer.status == 503
            assert b"TLS handshake timeout" in answer.body
            assert b"did not answer within 0.2 s" in answer.body
    assert log.lines()[0]["response_flags"] == "UF,URX"
