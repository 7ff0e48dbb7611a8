"""A sidecar told to stop: what it carries is finished, who still comes is served, tunnels end in a pause."""

from __future__ import annotations

import asyncio

import pytest

from tests.helpers.backends import Received, backend, ok
from tests.helpers.sidecars import Client, echo, pair, tcp_pair


async def test_draining_finishes_what_is_in_progress_and_says_close(pki):
    async def slow(_request: Received) -> bytes:
        await asyncio.sleep(0.3)
        return ok(b"late")

    async with (
        backend(slow) as app,
        pair(pki, app.port) as (port, _, web, _),
        await Client.connect(port) as client,
    ):
        await client.send(b"GET / HTTP/1.1\r\nHost: api\r\n\r\n")
        await asyncio.sleep(0.1)
        started = asyncio.get_running_loop().time()
        draining = asyncio.get_running_loop().create_task(web.drain(5))
        await asyncio.sleep(0.05)
        async with await Client.connect(port) as late:
            answer = await late.get()
            assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert (await client.answer()).body == b"late"
        await draining
        assert asyncio.get_running_loop().time() - started < 4


async def test_a_drain_is_over_when_nobody_comes_any_more(pki):
    """Clients that keep a looked-up address find the sidecar until they look the name up again."""
    async with backend(ok()) as app, pair(pki, app.port) as (port, _, web, _):
        draining = asyncio.get_running_loop().create_task(web.drain(20, quiet_s=1.0))
        for _ in range(4):
            await asyncio.sleep(0.5)
            async with await Client.connect(port) as late:
                assert (await late.get()).status == 200
            assert not draining.done()
        async with asyncio.timeout(10):
            await draining


async def test_near_the_end_of_a_drain_who_comes_is_refused_and_who_is_in_is_served(pki):
    """A caller that is told of nothing goes elsewhere when it is refused, and not when it is cut off."""
    async with backend(ok()) as app, pair(pki, app.port) as (port, _, web, _):
        drain = asyncio.get_running_loop().create_task(web.drain(4, quiet_s=60))
        async with await Client.connect(port) as kept:
            await asyncio.sleep(1.5)  # shorter than what an idle connection is given
            assert (await kept.get()).status == 200
        served, is_refused = 0, False
        while not is_refused:
            try:
                async with await Client.connect(port) as late:
                    assert (await late.get()).status == 200
                    served += 1
            except ConnectionRefusedError:
                is_refused = True
            await asyncio.sleep(0.02)
        assert served > 10
        assert not drain.done()
        await drain


@pytest.mark.parametrize("which", [2, 3], ids=["caller", "callee"])
async def test_a_tunnel_ends_in_order_while_its_client_waits_for_nothing(pki, which):
    """Its client then connects anew before it asks again; cut at the very end, it would lose what it asks."""
    async with tcp_pair(pki, echo) as mesh, await Client.connect(mesh[0]) as client:
        await client.send(b"ping")
        assert await client.reader.readexactly(4) == b"PING"
        draining = asyncio.get_running_loop().create_task(mesh[which].drain(4))
        async with asyncio.timeout(10):
            assert await client.reader.read() == b""
            await draining


async def test_a_tunnel_whose_client_waits_gets_its_answer(pki):
    """The server thinks from before tunnels are ended until shortly before the end of the drain."""
    asked = asyncio.Event()

    async def answer(reader, writer):
        while data := await reader.read(100):
            asked.set()
            await asyncio.sleep(2.6)
            writer.write(data.upper())

    async with tcp_pair(pki, answer) as (port, _, web, _), await Client.connect(port) as client:
        draining = asyncio.get_running_loop().create_task(web.drain(4))  # tunnels are ended from 3 s on
        await asyncio.sleep(0.8)
        await client.send(b"late")
        async with asyncio.timeout(10):
            await asked.wait()
            assert await client.reader.readexactly(4) == b"LATE"
            await draining
