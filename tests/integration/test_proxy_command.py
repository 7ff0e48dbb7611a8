"""`meshpy proxy status` and `proxy config` as processes, with sidecars that hold, refuse, lag and leave."""

import asyncio
import json

import pytest

from tests.helpers.control_plane import API, DENY_ALL, VIEWER, WEB, plane
from tests.integration.test_revisions_command import meshpy

ROUTE = """\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: api, namespace: shop}
spec:
  hosts: [api]
  http:
  - match: [{uri: {prefix: /v1}}]
    timeout: 3s
    route: [{destination: {host: api, port: {number: 8080}}}]
"""


@pytest.fixture
async def mesh(tmp_path):
    async with plane(tmp_path) as running:
        yield running


async def _state(mesh, task, state):
    async with asyncio.timeout(10):
        while True:
            page = (await mesh.call("GET", f"/v1/sidecars?state={state}", token=VIEWER))[1]["sidecars"]
            if task in [row["task"] for row in page]:
                return
            await asyncio.sleep(0.02)


async def test_status_tells_who_holds_what_since_when_and_who_refused_it(mesh):
    async with (
        mesh.stream(await mesh.enrol(API), task="api.1") as api,
        mesh.stream(await mesh.enrol(WEB), task="web.1") as web,
    ):
        await api.take()
        await web.take()
        await _state(mesh, "web.1", "SYNCED")
        code, out, err = await meshpy(mesh, "proxy", "status")
        assert (code, err) == (0, "2 sidecars: 2 SYNCED\n")
        rows = [line.split() for line in out.splitlines()]
        assert rows[0][:6] == ["SERVICE", "TASK", "NODE", "STATE", "VERSION", "REVISION"]
        assert [row[:4] for row in rows[1:]] == [
            ["shop/api", "api.1", "n1", "SYNCED"],
            ["shop/web", "web.1", "n1", "SYNCED"],
        ]
        assert rows[1][8] == "59m"

        await mesh.put(DENY_ALL)
        refused = await api.delta()
        await api.socket.send_json({"type": "nack", "version": refused["version"], "reason": "no port left"})
        await _state(mesh, "api.1", "REJECTED")
        code, out, _ = await meshpy(mesh, "proxy", "status", "shop/api")
        assert code == 1
        assert "REJECTED" in out
        assert "no port left" in out
        assert f"→ {refused['version']}" in out
        code, out, _ = await meshpy(mesh, "proxy", "status", "--state", "rejected", "-o", "json")
        [row] = json.loads(out)["sidecars"]
        assert (row["task"], row["revision"]) == ("api.1", 0)
    await _state(mesh, "api.1", "DISCONNECTED")


async def test_config_shows_what_the_sidecar_holds_and_not_what_it_refused(mesh):
    async with mesh.stream(await mesh.enrol(WEB), task="3f2a9c1d7e5b") as web:
        await web.take()
        await mesh.put(ROUTE)
        held = await web.take()
        await mesh.put(ROUTE, DENY_ALL)
        refused = await web.delta()
        await web.socket.send_json({"type": "nack", "version": refused["version"], "reason": "x"})
        await _state(mesh, "3f2a9c1d7e5b", "REJECTED")
        code, out, _ = await meshpy(mesh, "proxy", "config", "3f2a", "routes")
        assert code == 0
        assert "path prefix /v1" in out
        assert "outbound|8080||api.shop [timeout 3s]" in out
        assert "VirtualService shop/api" in out
        code, out, _ = await meshpy(mesh, "proxy", "config", "3f2a", "policies")
        assert "deny-all" not in out
        code, out, _ = await meshpy(mesh, "proxy", "config", "3f2a")
        assert [line for line in out.splitlines() if line.islower() and " " not in line] == [
            "routes",
            "clusters",
            "endpoints",
            "listeners",
            "policies",
            "secrets",
        ]
        assert "127.0.0.5:15443" in out
        assert "spiffe://cluster.local/ns/shop/sa/web" in out
        code, out, _ = await meshpy(mesh, "proxy", "config", "3f2a9c1d7e5b", "-o", "json")
        answer = json.loads(out)
        assert answer["snapshot"]["version"] == held["version"] == answer["sidecar"]["held"]


async def test_a_task_must_be_named_so_that_one_is_meant(mesh):
    identity = await mesh.enrol(API)
    async with mesh.stream(identity, task="aaaa1"), mesh.stream(identity, task="aaaa2"):
        await _state(mesh, "aaaa2", "PENDING")
        code, _, err = await meshpy(mesh, "proxy", "config", "aaaa", "routes")
        assert code != 0
        assert "aaaa1, aaaa2" in err
        code, _, err = await meshpy(mesh, "proxy", "config", "zzzz", "routes")
        assert code != 0
        assert "proxy status" in err


async def test_sidecars_come_in_pages(mesh):
    async with (
        mesh.stream(await mesh.enrol(API), task="1"),
        mesh.stream(await mesh.enrol(API), task="2"),
        mesh.stream(await mesh.enrol(WEB), task="3"),
    ):
        for task in "123":
            await _state(mesh, task, "PENDING")
        seen, after = [], ""
        while after is not None:
            path = f"/v1/sidecars?limit=2&after={after}"
            page = (await mesh.call("GET", path.replace(" ", "%20"), token=VIEWER))[1]
            seen.append([row["task"] for row in page["sidecars"]])
            after = page["next"]
        assert seen == [["1", "2"], ["3"]]
        assert (await mesh.call("GET", "/v1/sidecars?limit=0"))[0] == 400
        assert (await mesh.call("GET", "/v1/sidecars?state=GONE"))[0] == 400
