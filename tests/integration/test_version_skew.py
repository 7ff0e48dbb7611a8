"""A control plane and sidecars of neighbouring minor releases, by what was recorded of each (fixtures/wire).

Every record is played against the code of now, in both directions; `later` plays one of a release to come,
with members and messages that nobody knows yet.
"""

import asyncio
import json
from pathlib import Path

import pytest
from aiohttp import web

from meshpy.wire import apply_delta
from proxy.access_log import NO_LOG
from proxy.control_stream import ControlStream
from proxy.net.addresses import Addresses
from proxy.options import ControlOptions
from proxy.replicas import dial
from proxy.sidecar import Sidecar
from proxy.websocket import WebSocket
from tests.helpers.control_plane import API, TRUST_DOMAIN, WEB, plane

RECORDS = sorted((Path(__file__).parents[1] / "fixtures" / "wire").glob("*.json"))
NAMES = {"shop/api": API, "shop/web": WEB}


def _recorded(file, service, who):
    frames = json.loads(file.read_text())["streams"][service]
    return [each["frame"] for each in frames if each["from"] == who]


def _as_is(frames):
    return frames


def _later(frames):
    """As a release to come may say it: more members in each message and record, and messages of new kinds."""
    told = [{"type": "weather", "sun": True}]
    for frame in frames:
        more = {**frame, "since_0_9": {"x": 1}}
        for key in ("records", "spans"):
            if key in more:
                more[key] = [{**each, "since_0_9": 1} for each in more[key]]
        told += [more, {"type": "weather", "sun": False}]
    return told


SKEWS = {"as recorded": _as_is, "a later one": _later}


class Held:
    """`control_stream.Holder` that keeps what it is given."""

    def __init__(self):
        self.held = None
        self.bundles = []

    async def take_bundle(self, pem):
        self.bundles.append(pem)

    def kept(self):
        pass

    def ask_renewal(self, within_s):
        del within_s


@pytest.mark.parametrize("skew", SKEWS)
@pytest.mark.parametrize("service", NAMES)
@pytest.mark.parametrize("file", RECORDS, ids=lambda file: file.stem)
async def test_a_sidecar_of_now_understands_a_control_plane_of_then(file, service, skew):
    """It holds, in the end, what the recorded one held, and answers every snapshot."""
    frames = SKEWS[skew](_recorded(file, service, "control_plane"))
    answers = asyncio.Queue()

    async def serve(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await answers.put(await socket.receive_json())
        for frame in frames:
            await socket.send_json(frame)
        async for message in socket:
            await answers.put(json.loads(message.data))
        return socket

    app = web.Application()
    app.router.add_get("/", serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    sidecar, holder = Sidecar(access_log=NO_LOG, addresses=Addresses({"edge": ()})), Held()
    how = ControlOptions("127.0.0.1", port, TRUST_DOMAIN, service, "t1", "n1", Path(), Path())
    wanted = [frame["delta"]["version"] for frame in frames if frame.get("type") == "snapshot"]
    told = []
    socket = await WebSocket.open(await dial("127.0.0.1", port, None), "control-plane", "/")
    stream = ControlStream(socket, sidecar, how, holder)
    running = asyncio.get_running_loop().create_task(stream.run(asyncio.Event().wait))
    try:
        async with asyncio.timeout(10):
            while len(told) < len(wanted):
                answer = await answers.get()
                if answer["type"] in ("ack", "nack"):
                    told.append((answer["version"], answer["type"], answer.get("reason", "")))
        assert not running.done()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        socket.close()
    await sidecar.close()
    await runner.cleanup()
    assert [version for version, _, _ in told] == wanted
    # A snapshot of the record may name an address that this machine has not; nothing else is refused.
    assert all(kind == "ack" or "cannot listen" in reason for _, kind, reason in told), told
    assert len(holder.bundles) == 1


@pytest.mark.parametrize("skew", SKEWS)
@pytest.mark.parametrize("service", NAMES)
@pytest.mark.parametrize("file", RECORDS, ids=lambda file: file.stem)
async def test_a_control_plane_of_now_understands_a_sidecar_of_then(file, service, skew, tmp_path):
    """Figures, spans, taps and answers are taken, the stream stays, and it is brought into sync."""
    frames = SKEWS[skew](_recorded(file, service, "sidecar"))
    async with plane(tmp_path) as mesh:
        tls = mesh.speaking_as(await mesh.enrol(NAMES[service]))
        async with mesh.http.ws_connect(f"{mesh.sidecar}/v1/stream", ssl=tls) as socket:
            for frame in frames:
                await socket.send_json(frame)
            hello = next(frame for frame in frames if frame["type"] == "hello")
            held = None
            while True:
                frame = await socket.receive_json(timeout=5)
                if frame["type"] == "snapshot":
                    held = apply_delta(held if frame["delta"]["base"] else None, frame["delta"])
                    await socket.send_json({"type": "ack", "version": frame["delta"]["version"]})
                    break
            async with asyncio.timeout(5):
                while True:
                    rows = (await mesh.call("GET", "/v1/sidecars"))[1]["sidecars"]
                    if rows[0]["state"] == "SYNCED":
                        break
                    await asyncio.sleep(0.02)
            assert (rows[0]["task"], rows[0]["meshpy"]) == (hello["task"], hello["meshpy"])
            assert not socket.closed
            reports = mesh.running.parts.reports
            assert (reports.telemetry.dropped, reports.traces.dropped) == (0, 0)
            if any(frame["type"] == "stats" for frame in frames):
                assert (await mesh.call("GET", "/v1/status"))[1]["edges"]


async def test_a_snapshot_that_says_what_a_sidecar_does_not_know_yet_is_refused_by_it_and_seen(tmp_path):
    """An older sidecar must not pass over a rule that it does not understand: it keeps what it holds."""
    from tests.helpers.lines import line, options, until

    async with plane(tmp_path) as mesh, line(await options(mesh, WEB)) as (sidecar, _):
        await until(lambda: sidecar.snapshot.value is not None)
        held = sidecar.snapshot.value.version
        shelf = mesh.running.parts.registry.shelf
        newest = shelf.newest(WEB)
        rule = {**newest.data["authorization"], "since_0_9": ["deny everything"]}
        data = {**newest.data, "authorization": rule, "version": "later-0"}
        changed = shelf.replace({**shelf.items(), WEB: type(newest)("later-0", 0, data)})
        mesh.running.parts.distribution.notify(changed)
        async with asyncio.timeout(5):
            while True:
                [row] = (await mesh.call("GET", "/v1/sidecars"))[1]["sidecars"]
                if row["state"] == "REJECTED":
                    break
                await asyncio.sleep(0.02)
        assert "since_0_9" in row["reason"]
        assert sidecar.snapshot.value.version == held


def test_the_minor_release_of_now_is_recorded():
    from importlib.metadata import version

    assert ".".join(version("swarm-meshpy").split(".")[:2]) in [file.stem for file in RECORDS]
