"""Canaries and watched changes over real streams: who gets what, and what takes it back."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from tests.helpers.control_plane import DENY_ALL, plane

SLOW = {"watch_s": 60}
QUICK = {"watch_s": 1}


@pytest.fixture
async def mesh(tmp_path):
    async with plane(tmp_path) as running:
        yield running


@pytest.fixture
async def replicas(mesh):
    """Three sidecars of shop/api, tasks t1 to t3, in sync with the empty set."""
    async with AsyncExitStack() as stack:
        identity = await mesh.enrol()
        found = [await stack.enter_async_context(mesh.stream(identity, task=f"t{i}")) for i in (1, 2, 3)]
        for sidecar in found:
            await sidecar.take()
        yield found


def _body(**rollout):
    return {"documents": [{"name": "a.yaml", "text": DENY_ALL}], "message": "close", "rollout": rollout}


async def _phase(mesh, *wanted):
    async with asyncio.timeout(10):
        while (state := (await mesh.call("GET", "/v1/rollout"))[1]["rollout"])["phase"] not in wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return state


async def _report(sidecar, requests, denied=0, errors=0):
    record = {
        "direction": "inbound",
        "source": "shop/web",
        "destination": "shop/api",
        "protocol": "http",
        "requests": requests,
        "success": requests - denied - errors,
        "denied": {"NetworkPolicy shop/deny-all": denied},
        "responses": {"200": requests - denied - errors, "403": denied, "503": errors},
    }
    await sidecar.socket.send_json({"type": "stats", "records": [record]})


async def _is_silent(sidecar):
    with pytest.raises(TimeoutError):
        await sidecar.socket.receive(timeout=0.2)


async def _in_force(mesh):
    return (await mesh.call("GET", "/v1/policies"))[1]["revision"]


async def test_a_canary_reaches_one_sidecar_and_is_promoted_when_it_keeps_its_bounds(mesh, replicas):
    status, answer = await mesh.call("PATCH", "/v1/policies", _body(canary="1", **QUICK))
    assert (status, answer["revision"]) == (200, 1)
    first, *others = replicas
    await first.take()
    assert first.snapshot["revision"] == 1
    for other in others:
        await _is_silent(other)
    assert await _in_force(mesh) == 0
    await asyncio.sleep(0.6)
    await _report(first, 50)
    state = await _phase(mesh, "PROMOTED")
    assert state["seen"] == {"requests": 50, "denied": 0, "errors": 0}
    for other in others:
        await other.take()
        assert other.snapshot["revision"] == 1
    delta = await first.take()  # it decides so already: the version alone is no candidate's any more
    assert (delta["set"], delta["remove"], delta["base"]) == ({}, [], f"{delta['version']}-canary")
    assert await _in_force(mesh) == 1


async def test_a_canary_that_denies_is_taken_back_and_never_becomes_a_revision(mesh, replicas):
    await mesh.call("PATCH", "/v1/policies", _body(canary="34%", **SLOW))
    for each in replicas[:2]:
        await each.take()
    await asyncio.sleep(0.6)
    await _report(replicas[2], 100, denied=1)
    await _report(replicas[0], 30, denied=10)
    state = await _phase(mesh, "ROLLED_BACK")
    assert "33.3 % of 30 requests were denied, 1.0 % without the change" in state["reason"]
    for each in replicas[:2]:
        await each.take()
        assert each.snapshot["revision"] == 0
    assert await _in_force(mesh) == 0
    assert (await mesh.put(DENY_ALL))[1]["revision"] == 1


async def test_a_sidecar_that_refuses_the_candidate_ends_the_canary(mesh, replicas):
    await mesh.call("PATCH", "/v1/policies", _body(canary="1", **SLOW))
    delta = await replicas[0].delta()
    await replicas[0].socket.send_json(
        {"type": "nack", "version": delta["version"], "reason": "no such thing"}
    )
    assert "no such thing" in (await _phase(mesh, "ROLLED_BACK"))["reason"]


async def test_a_canary_without_traffic_is_held_until_someone_decides(mesh, replicas):
    await mesh.call("PATCH", "/v1/policies", _body(canary="1", **QUICK))
    await replicas[0].take()
    assert "only 0 requests" in (await _phase(mesh, "HELD"))["reason"]
    status, answer = await mesh.put(DENY_ALL)
    assert (status, "meshpy rollout promote" in answer["detail"]) == (409, True)
    assert (await mesh.call("POST", "/v1/rollout/promote"))[1]["rollout"]["phase"] == "PROMOTED"
    assert await _in_force(mesh) == 1
    assert (await mesh.call("POST", "/v1/rollout/promote"))[0] == 404


async def test_an_aborted_canary_gives_its_sidecars_the_revision_in_force(mesh, replicas):
    await mesh.call("PATCH", "/v1/policies", _body(canary="1", hold=True, **SLOW))
    await replicas[0].take()
    assert (await mesh.call("POST", "/v1/rollout/abort"))[1]["rollout"]["phase"] == "ABORTED"
    await replicas[0].take()
    assert replicas[0].snapshot["revision"] == 0
    assert (await mesh.call("GET", "/v1/status"))[1]["sidecars"][0]["canary"] is False


async def test_when_a_canary_leaves_another_sidecar_takes_its_place(mesh, replicas):
    await mesh.call("PATCH", "/v1/policies", _body(canary="1", **SLOW))
    await replicas[0].take()
    await replicas[0].socket.close()
    await replicas[1].take()
    assert replicas[1].snapshot["revision"] == 1


async def test_a_watched_change_that_breaks_requests_is_rolled_back_by_a_revision_that_says_why(
    mesh, replicas
):
    assert (await mesh.call("PATCH", "/v1/policies", _body(**SLOW)))[1]["revision"] == 1
    for each in replicas:
        await each.take()
        assert each.snapshot["revision"] == 1
    await asyncio.sleep(0.6)
    for each in replicas:
        await _report(each, 20, errors=4)
    await _phase(mesh, "ROLLED_BACK")
    newest = (await mesh.call("GET", "/v1/revisions"))[1]["revisions"][0]
    assert (newest["revision"], newest["author"], newest["documents"]) == (2, "meshpy", 0)
    assert (
        "automatic rollback of revision 1: 20.0 % of 60 requests were answered with 5xx" in newest["message"]
    )


@pytest.mark.usefixtures("replicas")
async def test_a_watched_change_is_watched_no_longer_when_another_revision_follows(mesh):
    await mesh.call("PATCH", "/v1/policies", _body(**SLOW))
    await mesh.put(DENY_ALL.replace("deny-all", "other"))
    assert "revision 2 came after it" in (await _phase(mesh, "KEPT"))["reason"]
    assert await _in_force(mesh) == 2


async def test_a_rollout_that_is_wrong_changes_nothing(mesh):
    body = _body(canary="1")
    body["documents"][0]["text"] = DENY_ALL.replace("Deny", "Dny")
    assert (await mesh.call("PATCH", "/v1/policies", body))[0] == 422
    assert (await mesh.call("PATCH", "/v1/policies", _body(canary="200%")))[0] == 400
    assert (await mesh.call("GET", "/v1/rollout"))[1]["rollout"] is None
    assert await _in_force(mesh) == 0
