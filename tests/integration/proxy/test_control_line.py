"""The sidecar's line to a real control plane: what keeps it up, and what must not bring it down."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from certs.tls import server_context
from meshpy.model.names import CONTROL_PLANE
from meshpy.wire import delta, encode
from proxy.access_log import NO_LOG
from proxy.control_client import ControlClient
from proxy.control_stream import ControlStream
from proxy.enrolment import Enrolled, own_id
from proxy.net.addresses import Addresses
from proxy.new_request import new_request
from proxy.options import ControlOptions
from proxy.replicas import dial
from proxy.sidecar import Sidecar
from proxy.websocket import WebSocket
from tests.helpers.backends import backend
from tests.helpers.control_plane import API, DENY_ALL, TRUST_DOMAIN, WEB, plane, write_inventory
from tests.helpers.lines import line, options, own_net, pair_inventory, until
from tests.helpers.pki import mesh_pki
from tests.helpers.sidecars import Client, outbound_snapshot

NET = own_net()


async def _state(mesh, service="shop/web"):
    rows = (await mesh.call("GET", "/v1/status"))[1]["sidecars"]
    return [row["state"] for row in rows if row["service"] == service]


async def _until_state(mesh, wanted, service="shop/web"):
    async with asyncio.timeout(10):
        while await _state(mesh, service) != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@pytest.fixture
async def mesh(tmp_path):
    async with backend() as app:
        write_inventory(tmp_path / "inventory.json", pair_inventory(app.port, NET))
        async with plane(tmp_path) as running:
            running.app = app
            yield running


async def test_web_reaches_api_through_both_sidecars(mesh):
    async with (
        line(await options(mesh, API), (f"{NET}.5", 15443)),
        line(await options(mesh, WEB), (f"{NET}.6", 15443)),
    ):
        await _until_state(mesh, ["SYNCED"])
        await _until_state(mesh, ["SYNCED"], "shop/api")
        async with await Client.connect(mesh.app.port, f"{NET}.9") as client:
            assert (await client.get()).status == 200


async def test_a_renewal_brings_the_stream_back_at_once_and_in_sync(mesh):
    """Even one that comes while the stream is being connected: it is compared, not remembered by an event."""
    async with line(await options(mesh, WEB)) as (_, client):
        await _until_state(mesh, ["SYNCED"])
        for _ in range(3):
            before = client._enrolled
            client.ask_renewal(0.0)
            await until(lambda before=before: client._enrolled is not before)
            await _until_state(mesh, ["SYNCED"])
        client._renewed.clear()
        stale = client._enrolled.identity
        await client._enrol(await new_request(own_id(client._options)))
        client._renewed.clear()  # what a stream that was just connecting did with it
        async with asyncio.timeout(1):
            await client._until_renewed(stale)


async def test_a_snapshot_that_was_refused_is_not_said_to_be_held(mesh):
    """A sidecar that comes back after a NACK is still REJECTED, and decides by what it held before."""
    async with line(await options(mesh, WEB)) as (sidecar, client):
        await _until_state(mesh, ["SYNCED"])
        held = sidecar.snapshot.value.version
        write_inventory(mesh.folder / "inventory.json", pair_inventory(mesh.app.port, "192.0.2"))
        await _until_state(mesh, ["REJECTED"])
        before = client._enrolled
        client.ask_renewal(0.0)
        await until(lambda: client._enrolled is not before)
        await asyncio.sleep(0.3)  # the stream has come back
        await _until_state(mesh, ["REJECTED"])
        assert (sidecar.snapshot.value.version, client.held["version"]) == (held, held)
        write_inventory(mesh.folder / "inventory.json", pair_inventory(mesh.app.port, NET))
        await _until_state(mesh, ["SYNCED"])


async def test_pings_are_answered_while_a_snapshot_is_being_applied():
    """A slow apply is no reason for the control plane to think that we are gone."""
    printed = encode(outbound_snapshot(1, {}))
    answers = asyncio.Queue()

    async def serve(request):
        socket = web.WebSocketResponse(autoping=False)
        await socket.prepare(request)
        await socket.receive()
        await socket.send_json({"type": "snapshot", "delta": delta(None, printed)})
        await socket.ping()
        async for message in socket:
            await answers.put(message.type)
        return socket

    app = web.Application()
    app.router.add_get("/", serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]

    sidecar = Sidecar(access_log=NO_LOG, addresses=Addresses({}))
    how = ControlOptions("127.0.0.1", port, TRUST_DOMAIN, "shop/web", "t", "n", Path(), Path())
    client = ControlClient(sidecar, how)
    await sidecar._apply_lock.acquire()  # another snapshot that takes for ever
    socket = await WebSocket.open(await dial("127.0.0.1", port, None), "control-plane", "/")
    stream = asyncio.create_task(ControlStream(socket, sidecar, how, client).run(asyncio.Event().wait))
    async with asyncio.timeout(5):  # statistics may come between
        while await answers.get() is not aiohttp.WSMsgType.PONG:
            pass
    stream.cancel()
    await asyncio.gather(stream, return_exceptions=True)
    socket.close()
    await runner.cleanup()
    await sidecar.close()


async def test_a_control_plane_that_takes_the_connection_and_never_answers_is_given_up(monkeypatch):
    monkeypatch.setattr("proxy.control_client._UPGRADE_S", 0.1)
    monkeypatch.setattr("proxy.control_client._CONNECT_S", 0.2)
    pki = mesh_pki(TRUST_DOMAIN)
    own = pki.identity(CONTROL_PLANE.namespace, CONTROL_PLANE.name)
    calls = []

    async def silent(reader, _writer):
        calls.append(await reader.readuntil(b"\r\n\r\n"))
        await asyncio.Event().wait()

    tls = server_context(own, pki.bundle, alpn=["http/1.1"])
    server = await asyncio.start_server(silent, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    sidecar = Sidecar(access_log=NO_LOG, addresses=Addresses({}))
    how = ControlOptions("127.0.0.1", port, TRUST_DOMAIN, "shop/web", "t", "n", Path(), Path())
    client = ControlClient(sidecar, how)
    client._enrolled = Enrolled(pki.identity("shop", "web"), pki.bundle, {})
    keeping = asyncio.create_task(client._keep_stream())
    await until(lambda: len(calls) >= 2)
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    server.close()
    await sidecar.close()


async def test_when_the_certificate_ends_unrenewed_nothing_passes_until_there_is_another(mesh):
    async with line(await options(mesh, WEB)) as (sidecar, client):
        await _until_state(mesh, ["SYNCED"])
        enrolled = client._enrolled
        ended = mesh_pki(TRUST_DOMAIN).identity("shop", "web", ttl_s=1)
        await asyncio.sleep(max(0.0, (ended.not_after - datetime.now(UTC)).total_seconds()))
        watching = asyncio.create_task(client._end_with_certificate())
        client._enrolled = Enrolled(ended, enrolled.bundle, {})
        await until(lambda: not sidecar.is_ready)
        assert "ended at" in sidecar.why_closed
        with pytest.raises(ConnectionError):
            await Client.connect(mesh.app.port, f"{NET}.9")
        await client._enrol(await new_request(own_id(client._options)))
        assert sidecar.is_ready
        async with await Client.connect(mesh.app.port, f"{NET}.9"):
            pass
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def test_policies_still_come_by_a_stream_that_came_back(mesh):
    async with line(await options(mesh, WEB)) as (sidecar, client):
        await _until_state(mesh, ["SYNCED"])
        client.ask_renewal(0.0)
        await mesh.put(DENY_ALL)
        await until(lambda: sidecar.snapshot.value.revision == 1)
