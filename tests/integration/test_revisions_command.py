"""`meshpy history`, `rollback` and `get --revision` as processes, against a control plane on loopback."""

import asyncio
import json

import pytest

from tests.helpers.control_plane import DENY_ALL, plane
from tests.helpers.meshpy_command import meshpy

OPEN = DENY_ALL.replace("ingress: [{action: Deny}]", "ingress: [{action: Allow}]")


@pytest.fixture
async def mesh(tmp_path):
    async with plane(tmp_path) as running:
        yield running


async def test_what_was_applied_is_listed_shown_and_brought_back(mesh):
    assert (await meshpy(mesh, "apply", "-f", "-", "-m", "close all\n\nticket 42", stdin=DENY_ALL))[0] == 0
    assert (await meshpy(mesh, "apply", "-f", "-", "-m", "open again", stdin=OPEN))[0] == 0

    code, out, _ = await meshpy(mesh, "history")
    rows = out.splitlines()
    assert code == 0
    assert rows[0].split() == ["REVISION", "CREATED", "AUTHOR", "POLICIES", "MESSAGE"]
    assert [row.split()[0] for row in rows[1:]] == ["2", "1"]
    assert rows[1].endswith("open again")
    assert rows[2].endswith("close all")

    code, out, _ = await meshpy(mesh, "history", "2")
    assert code == 0
    assert "changed NetworkPolicy shop/deny-all" in out
    assert "-  ingress: [{action: Deny}]" in out
    assert "+  ingress: [{action: Allow}]" in out

    code, out, _ = await meshpy(mesh, "rollback", "-o", "json", "-m", "wrong ticket")
    assert (code, json.loads(out)["revision"]) == (0, 3)
    listed = (await mesh.call("GET", "/v1/revisions"))[1]["revisions"]
    assert listed[0]["message"] == "wrong ticket"
    code, out, _ = await meshpy(mesh, "get", "NetworkPolicy", "deny-all")
    assert (code, "Deny" in out) == (0, True)
    code, out, _ = await meshpy(mesh, "get", "NetworkPolicy", "deny-all", "--revision", "2")
    assert (code, "Allow" in out) == (0, True)


async def test_a_revision_that_does_not_exist_is_named(mesh):
    for words in (("history", "7"), ("rollback", "7"), ("rollback",)):
        code, _, err = await meshpy(mesh, *words)
        assert code in (2, 3)
        assert "no revision" in err


async def test_tap_prints_what_sidecars_tell_and_ends_at_its_limit(mesh):
    async with mesh.stream(await mesh.enrol(), task="t1") as sidecar:
        await sidecar.take()
        looking = asyncio.ensure_future(meshpy(mesh, "tap", "--to", "api", "--verdict", "denied", "-l", "1"))
        async with asyncio.timeout(15):
            while (await sidecar.socket.receive_json())["type"] != "tap":
                pass
        record = {
            **dict.fromkeys(("destination", "authority", "flags", "trace_id"), ""),
            **dict.fromkeys(("bytes_sent", "bytes_received"), 0),
            "at": 1.0,
            "direction": "in",
            "source": "shop/web",
            "protocol": "http",
            "method": "GET",
            "path": "/admin",
            "status": 403,
            "verdict": "DENIED",
            "duration_ms": 1.2,
            "attempts": 1,
            "policy": "AuthorizationPolicy shop/no",
            "rule": "rules[0]",
            "mtls": True,
        }
        await sidecar.socket.send_json({"type": "tapped", "records": [record]})
        code, out, err = await looking
    assert (code, err) == (0, "")
    assert "shop/web → shop/api GET /admin 403 1.2ms mTLS" in out
    assert "denied by AuthorizationPolicy shop/no rules[0]" in out


async def test_blame_names_the_revision_since_which_a_request_is_judged_so(mesh):
    other = DENY_ALL.replace("deny-all", "more").replace("selector: all()", "selector: app == 'web'")
    question = ("policy", "blame", "--namespace", "shop", "web", "api:8080", "GET", "/", "-o", "json")
    code, out, _ = await meshpy(mesh, *question)
    assert (code, json.loads(out)["allowed"], json.loads(out)["since"]["revision"]) == (0, True, 0)
    for text, message in ((OPEN, "first"), (DENY_ALL, "close, ticket 42"), (other, "unrelated")):
        assert (await meshpy(mesh, "apply", "-f", "-", "-m", message, stdin=text))[0] == 0
    code, out, err = await meshpy(mesh, *question)
    found = json.loads(out)
    assert code == 1, err
    assert (found["policy"], found["exact"]) == ("NetworkPolicy shop/deny-all", True)
    assert (found["since"]["revision"], found["since"]["message"]) == (2, "close, ticket 42")
    code, out, _ = await meshpy(mesh, *question[:-2])
    assert (code, "since revision 2 of" in out, "ticket 42" in out) == (1, True, True)


async def test_staged_policies_stand_beside_those_in_force_and_decide_nothing(mesh):
    assert (await meshpy(mesh, "apply", "-f", "-", stdin=OPEN))[0] == 0
    code, out, err = await meshpy(mesh, "apply", "-f", "-", "--staged", stdin=DENY_ALL)
    assert (code, "no request is treated otherwise" in err) == (0, True), out + err
    code, out, _ = await meshpy(mesh, "get", "-o", "json")
    kinds = [(each["kind"], each["name"]) for each in json.loads(out)["documents"]]
    assert kinds == [("NetworkPolicy", "deny-all"), ("StagedNetworkPolicy", "deny-all")]
    asked = (
        "policy",
        "explain",
        "--live",
        "--namespace",
        "shop",
        "web",
        "api:8080",
        "GET",
        "/",
        "-o",
        "json",
    )
    code, out, _ = await meshpy(mesh, *asked)
    assert (code, json.loads(out)["allowed"], json.loads(out)["pending"]["allowed"]) == (0, True, False)
    assert (await meshpy(mesh, "apply", "-f", "-", "--staged", "--prune", stdin=DENY_ALL))[0] == 2


async def test_what_get_prints_as_json_is_a_backup(mesh, tmp_path):
    """Applied again it is all that is in force, each document in the namespace that it had."""
    saved = tmp_path / "policies.json"
    named = OPEN.replace("deny-all", "open")
    assert (await meshpy(mesh, "apply", "-n", "shop", "-f", "-", stdin=f"{DENY_ALL}---\n{named}"))[0] == 0
    saved.write_text((await meshpy(mesh, "get", "-o", "json"))[1])
    assert (await meshpy(mesh, "delete", "NetworkPolicy", "deny-all", "-n", "shop"))[0] == 0
    code, out, err = await meshpy(mesh, "apply", "--prune", "-f", str(saved))
    assert (code, "revision 3" in out) == (0, True), err
    texts = [each["text"] for each in json.loads(saved.read_text())["documents"]]
    again = json.loads((await meshpy(mesh, "get", "-o", "json"))[1])["documents"]
    assert [(each["namespace"], each["text"]) for each in again] == [("shop", text) for text in texts]
    saved.write_text("{}")
    code, _, err = await meshpy(mesh, "apply", "-f", str(saved))
    assert (code, "is not what `meshpy get -o json` prints" in err) == (2, True)
