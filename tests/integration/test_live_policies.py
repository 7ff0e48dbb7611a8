"""`apply` tells the exact diff before it applies; `policy explain --live` asks what runs."""

import json

import pytest

from tests.helpers.control_plane import DENY_ALL, plane
from tests.helpers.meshpy_command import meshpy


@pytest.fixture
async def mesh(tmp_path):
    async with plane(tmp_path) as running:
        yield running


async def test_apply_tells_what_would_change_before_it_does(mesh):
    code, out, err = await meshpy(mesh, "apply", "-f", "-", "--dry-run", stdin=DENY_ALL)
    assert (code, "nothing was applied" in out) == (0, True)
    assert "newly denied: shop/" in err
    assert "after:  denied by NetworkPolicy shop/deny-all ingress[0]" in err
    assert (await mesh.call("GET", "/v1/policies"))[1]["documents"] == []

    code, out, err = await meshpy(mesh, "apply", "-f", "-", "--no-wait", "-o", "json", stdin=DENY_ALL)
    answer = json.loads(out)
    assert (code, err) == (0, "")
    assert {change["change"] for change in answer["diff"]["changes"]} == {"newly denied"}

    code, _, err = await meshpy(mesh, "apply", "-f", "-", "--dry-run", stdin=DENY_ALL)
    assert "no request is treated otherwise" in err
    assert "flows compared" not in (await meshpy(mesh, "apply", "-f", "-", "--no-diff", stdin=DENY_ALL))[2]


async def test_explain_asks_the_live_mesh_under_its_policies_or_a_candidate(mesh, tmp_path):
    names = sorted((await mesh.call("GET", "/v1/inventory"))[1]["inventory"]["services"])
    caller, callee = (
        next(n for n in names if n.startswith("shop/") and n.endswith(w)) for w in ("web", "api")
    )
    words = ("policy", "explain", "--live", "--namespace", "shop", caller, callee, "GET", "/")
    code, before, _ = await meshpy(mesh, *words)
    assert (code, before.startswith("allowed")) == (0, True)
    await meshpy(mesh, "apply", "-f", "-", "--no-wait", stdin=DENY_ALL)
    code, after, _ = await meshpy(mesh, *words, "-o", "json")
    assert (code, json.loads(after)["policy"]) == (1, "NetworkPolicy shop/deny-all")
    candidate = tmp_path / "open.yaml"
    candidate.write_text(DENY_ALL.replace("ingress: [{action: Deny}]", "ingress: [{action: Allow}]"))
    assert (await meshpy(mesh, *words, "--policies", str(candidate)))[0] == 0
    code, _, err = await meshpy(mesh, *words, "--stack", "s.yml")
    assert (code, "--live" in err) == (2, True)
