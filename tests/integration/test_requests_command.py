"""`meshpy stat | edges | routes | top | logs` as processes: the control plane asks what sidecars remember."""

import asyncio
import json

import pytest

from proxy.telemetry import BOUNDS_MS
from tests.helpers.control_plane import WEB, plane
from tests.helpers.looked import answers, recent
from tests.helpers.meshpy_command import meshpy


@pytest.fixture
async def mesh(tmp_path):
    async with plane(tmp_path) as running:
        web, api = await running.enrol(WEB, task="w1"), await running.enrol()
        async with running.stream(web, task="w1") as caller, running.stream(api) as callee:
            await caller.take()
            await callee.take()
            counts = [0] * (len(BOUNDS_MS) + 1)
            counts[3] = 20
            record = {
                "direction": "outbound", "source": "shop/web", "destination": "shop/api", "protocol": "http",
                "mtls": True, "requests": 20, "success": 17, "responses": {"200": 17, "503": 2, "403": 1},
                "denied": {"AuthorizationPolicy shop/no": 1},
                "latency_ms": {"bounds": list(BOUNDS_MS), "counts": counts},
            }  # fmt: skip
            await caller.socket.send_json({"type": "stats", "records": [record]})
            works = [
                asyncio.ensure_future(answers(caller, recent("outbound"))),
                asyncio.ensure_future(answers(callee, recent("inbound"))),
            ]
            yield running
            for work in works:
                work.cancel()
            await asyncio.gather(*works, return_exceptions=True)


async def test_logs_are_what_both_sidecars_saw_filtered(mesh):
    code, out, err = await meshpy(mesh, "logs", "--verdict", "denied", "-o", "json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert sorted((line["direction"], line["path"], line["policy"]) for line in lines) == [
        ("in", "/items/5", "AuthorizationPolicy shop/no"),
        ("out", "/items/5", "AuthorizationPolicy shop/no"),
    ]
    code, out, _ = await meshpy(mesh, "logs", "--direction", "in", "--status", "5", "-n", "1")
    assert len(out.splitlines()) == 1
    assert " 503 " in out


async def test_stat_edges_routes_and_top_have_figures(mesh):
    code, out, _ = await meshpy(mesh, "stat")
    heads, row = out.splitlines()
    assert code == 0
    assert heads.split()[:3] == ["NAME", "MESHED", "SUCCESS"]
    assert row.split() == ["shop/api", "√", "90.00%", "2.0", "3.8", "4.9", "5.0", "1", "0"]
    code, out, _ = await meshpy(mesh, "edges", "-o", "json")
    (edge,) = json.loads(out)
    assert (edge["source"], edge["destination"], edge["mtls_ratio"], edge["denied"]) == (
        "shop/web",
        "shop/api",
        1,
        1,
    )
    assert (await meshpy(mesh, "stat", "--from", "nobody"))[1].splitlines()[1:] == []
    code, out, _ = await meshpy(mesh, "routes", "-o", "json")
    (route,) = json.loads(out)
    assert (route["direction"], route["count"], route["errors"], route["denied"]) == ("out", 20, 2, 1)
    code, out, _ = await meshpy(mesh, "top")
    rows = out.splitlines()
    assert code == 0
    assert rows[1].split()[:5] == ["shop/web", "shop/api", "GET", "/items/{*}", "20"]
    code, out, _ = await meshpy(mesh, "top", "--once", "-o", "json", "--verdict", "error")
    assert [json.loads(line)["count"] for line in out.splitlines()] == [2]


async def test_a_sidecar_that_does_not_answer_is_told(mesh):
    async with mesh.stream(await mesh.enrol(task="t9"), task="t9") as silent:
        await silent.take()
        code, out, err = await meshpy(mesh, "logs", "-n", "1")
    assert (code, len(out.splitlines())) == (0, 1)
    assert "1 sidecars did not answer" in err


@pytest.mark.parametrize("path", ["requests?since_s=99", "requests?limit=0", "requests/groups?by=colour",
                                  "stat?by=x", "stat?form=web", "requests?form=web"])  # fmt: skip
async def test_a_question_that_cannot_be_is_a_400(mesh, path):
    assert (await mesh.call("GET", f"/v1/{path}"))[0] == 400


@pytest.mark.parametrize(
    "command",
    [
        "stat wbe",
        "edges --to wbe",
        "routes --from wbe",
        "top --once --to wbe",
        "logs --to shop/wbe",
        "tap --for 1s --to wbe",
    ],
)
async def test_a_name_that_no_service_has_is_answered_with_a_near_one(mesh, command):
    code, _, err = await meshpy(mesh, *command.split())
    assert code == 0
    asked = command.split()[-1]
    assert f"no service is called '{asked}', did you mean '{asked.replace('wbe', 'web')}'?" in err
