"""A control plane that follows a folder: files in, snapshots out, and nobody else changes policies."""

import asyncio

import pytest

from control_plane.settings import StoreKind
from tests.helpers.control_plane import DENY_ALL, plane


@pytest.fixture
async def mesh(tmp_path):
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "deny.yaml").write_text(DENY_ALL)
    async with plane(tmp_path, store=StoreKind.DIRECTORY, policies_dir=folder) as running:
        yield running


async def _until(mesh, is_so):
    async with asyncio.timeout(10):
        while not is_so(status := (await mesh.call("GET", "/v1/status"))[1]):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return status


async def test_a_sidecar_decides_by_the_folder_and_by_its_last_good_state(mesh):
    folder = mesh.folder / "policies"
    async with mesh.stream(await mesh.enrol()) as sidecar:
        await sidecar.take()
        assert sidecar.snapshot["revision"] == 1
        (folder / "web.yaml").write_text(DENY_ALL.replace("deny-all", "deny-web"))
        await sidecar.take()
        assert sidecar.snapshot["revision"] == 2
        (folder / "web.yaml").write_text(DENY_ALL.replace("types:", "typs:"))
        status = await _until(mesh, lambda status: status["problems"])
        assert status["problems"][0].startswith("web.yaml:6:")
        assert (status["revision"], sidecar.snapshot["revision"]) == (2, 2)
        (folder / "web.yaml").unlink()
        await sidecar.take()
        assert (await _until(mesh, lambda status: not status["problems"]))["revision"] == 3


async def test_a_policy_may_name_what_does_not_run_yet(mesh):
    ghost = DENY_ALL.replace("deny-all", "ghost").replace("all()", "app == 'ghost'")
    (mesh.folder / "policies" / "ghost.yaml").write_text(ghost)
    status = await _until(mesh, lambda status: status["revision"] == 2 and status["problems"])
    assert "ghost" in status["problems"][0]


async def test_every_other_hand_is_refused_with_the_folders_name(mesh):
    documents = {"documents": [{"name": "a", "text": DENY_ALL}]}
    changes = [
        ("PUT", "/v1/policies", documents),
        ("PATCH", "/v1/policies", documents),
        ("PATCH", "/v1/policies", {**documents, "rollout": {"canary": "1"}}),
        ("DELETE", "/v1/policies/NetworkPolicy/shop/deny-all", None),
        ("POST", "/v1/revisions/0/rollback", None),
    ]
    for method, path, body in changes:
        status, answer = await mesh.call(method, path, body)
        assert (status, str(mesh.folder / "policies") in answer["detail"]) == (409, True)
    assert (await mesh.call("PUT", "/v1/policies?dry_run=true", documents))[0] == 200
    assert (await mesh.call("GET", "/v1/policies"))[1]["revision"] == 1
