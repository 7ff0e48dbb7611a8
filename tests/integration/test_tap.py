"""A tap from the operator's line through the control plane to real sidecars, and back."""

import asyncio
import json

import pytest

from meshpy.model.tap import TapFilter
from tests.helpers.backends import backend, ok
from tests.helpers.control_plane import WEB, plane
from tests.helpers.pki import mesh_pki
from tests.helpers.ports import free_port
from tests.helpers.sidecars import (
    Client,
    outbound_snapshot,
    plain_cluster,
    route,
    running,
)
from tests.integration.proxy.test_pair import pair

RECORD = {
    "at": 1.5, "direction": "out", "source": "shop/web", "destination": "shop/api", "protocol": "http",
    "method": "GET", "authority": "api", "path": "/x", "status": 200, "flags": "-", "verdict": "FORWARDED",
    "duration_ms": 2.5, "bytes_sent": 1, "bytes_received": 2, "attempts": 1, "policy": "", "rule": "",
    "trace_id": "", "mtls": True,
}  # fmt: skip


@pytest.fixture(scope="module")
def pki():
    return mesh_pki()


async def test_a_sidecar_tells_what_is_looked_for_and_no_query(pki):
    port = free_port()
    async with backend(
        lambda r: ok(b"", "500 Internal Server Error" if b"/bad" in r.head else "200 OK")
    ) as app:
        snapshot = outbound_snapshot(port, {"c": plain_cluster(app.port, name="c")}, (route("c"),))
        async with running(snapshot, pki) as sidecar, await Client.connect(port) as client:
            await client.get("/before")
            sidecar.tap.ask((TapFilter(path="/b", min_ms=0), TapFilter(verdict="ERROR")), 10)
            for path in ("/bad?secret=1", "/items", "/bee"):
                await client.get(path)
            records = sidecar.tap.take()
            sidecar.tap.ask((), 0)
            await client.get("/bad")
            assert sidecar.tap.take() == []
    assert [(each["path"], each["status"], each["verdict"]) for each in records] == [
        ("/bad", 500, "ERROR"),
        ("/bee", 200, "FORWARDED"),
    ]
    assert "secret" not in json.dumps(records)


async def test_the_cap_holds_whatever_the_load(pki):
    async with backend() as app, pair(pki, app.port) as (port, _, web, api):
        web.tap.ask((TapFilter(),), 5)
        async with await Client.connect(port) as client:
            for _ in range(60):
                await client.get("/")
        told = len(web.tap.take())
        assert told <= 10  # at most two seconds were touched
        assert told + web.tap.dropped == 60
        assert api.tap.take() == []


async def _lines(mesh, query, count):
    headers = {"Authorization": "Bearer viewer-token-0123456789"}
    found = []
    async with (
        asyncio.timeout(10),
        mesh.http.get(f"{mesh.operator}/v1/tap?{query}", headers=headers) as answer,
    ):
        assert answer.status == 200
        async for line in answer.content:
            if line.strip():
                found.append(json.loads(line))
            if len(found) >= count:
                return found
    return found


async def _frame(sidecar, kind):
    async with asyncio.timeout(5):
        while (message := await sidecar.socket.receive_json())["type"] != kind:
            pass
    return message


async def test_what_sidecars_see_reaches_who_looks_and_it_ends_when_he_leaves(tmp_path):
    async with plane(tmp_path) as mesh, mesh.stream(await mesh.enrol(WEB, task="w1"), task="w1") as sidecar:
        await sidecar.take()
        looking = asyncio.ensure_future(_lines(mesh, "destination=api&status=2&max_rps=7", 1))
        asked = await _frame(sidecar, "tap")
        assert asked == {"type": "tap", "filters": [{"destination": "api", "status": "2"}], "per_s": 7}
        records = [
            {**RECORD, "status": 404},
            {"direction": "out"},
            "nonsense",
            {**RECORD, "source": "shop/somebody-else", "path": "/a\x00b"},
        ]
        await sidecar.socket.send_json({"type": "tapped", "records": records})
        (told,) = await looking
        assert told["source"] == "shop/web"  # a sidecar speaks for itself alone
        assert told["path"] == "/a b"
        assert (await _frame(sidecar, "tap"))["filters"] == []


@pytest.mark.parametrize("query", ["form=web", "status=5xx", "max_rps=0", "for_s=x", "verdict=denied"])
async def test_a_question_that_cannot_be_is_a_400(tmp_path, query):
    async with plane(tmp_path) as mesh:
        assert (await mesh.call("GET", f"/v1/tap?{query}"))[0] == 400


async def test_so_many_may_look_at_once_and_no_more(tmp_path):
    async with plane(tmp_path) as mesh:
        looking = [asyncio.ensure_future(_lines(mesh, "for_s=5", 1)) for _ in range(16)]
        async with asyncio.timeout(5):
            while mesh.running.parts.reports.taps.generation < 16:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert (await mesh.call("GET", "/v1/tap"))[0] == 429
        for each in looking:
            each.cancel()
        await asyncio.gather(*looking, return_exceptions=True)
