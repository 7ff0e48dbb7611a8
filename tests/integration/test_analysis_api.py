"""What the dashboard's wizards ask: explain, diff and suggest over the mesh that runs."""

import pytest

from tests.helpers.control_plane import DENY_ALL, VIEWER, plane

OPEN = DENY_ALL.replace("Deny}", "Allow}")
ASKED = {"source": "shop/web", "destination": "shop/api", "method": "GET", "path": "/x"}


@pytest.fixture
async def mesh(tmp_path):
    async with plane(tmp_path) as running:
        await running.put(DENY_ALL)
        yield running


async def test_a_request_is_explained_by_the_policies_in_force(mesh):
    status, answer = await mesh.call("POST", "/v1/explain", ASKED, token=VIEWER)
    assert (status, answer["allowed"], answer["policy"]) == (200, False, "NetworkPolicy shop/deny-all")
    assert answer["steps"]
    await mesh.put(OPEN)
    assert (await mesh.call("POST", "/v1/explain", ASKED))[1]["allowed"]


async def test_documents_are_compared_with_what_is_in_force_and_nothing_is_applied(mesh):
    documents = [{"name": "a.yaml", "text": OPEN}]
    status, answer = await mesh.call("POST", "/v1/diff", {"documents": documents}, token=VIEWER)
    assert (status, answer["more"]) == (200, 0)
    assert {(change["change"], change["destination"]) for change in answer["changes"]} >= {
        ("newly allowed", "shop/api")
    }
    assert answer["changes"][0]["witness"]["source"]
    same = {"documents": [{"name": "a.yaml", "text": DENY_ALL}]}
    assert (await mesh.call("POST", "/v1/diff", same))[1]["changes"] == []
    assert (await mesh.call("GET", "/v1/policies"))[1]["revision"] == 1


async def test_nothing_is_suggested_from_nothing(mesh):
    assert (await mesh.call("GET", "/v1/suggest"))[1] == {"suggestions": []}


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("explain", {}, 400),
        ("explain", {**ASKED, "destination": "shop/nobody"}, 400),
        ("explain", {**ASKED, "method": "get"}, 400),
        ("explain", {**ASKED, "headers": ["nocolon"]}, 400),
        ("explain", {**ASKED, "destination": "shop/api:" + "1" * 5000}, 400),
        ("explain", {**ASKED, "sauce": "shop/web"}, 400),
        ("diff", {"documents": "x"}, 400),
        ("diff", {"documents": [], "prun": True}, 400),
        ("diff", {"documents": [{"name": "a", "text": "", "namespace": "shop"}]}, 400),
        ("diff", {"documents": [{"name": "a.yaml", "text": "kind: ["}]}, 422),
    ],
)
async def test_a_question_that_cannot_be_is_refused(mesh, path, body, status):
    assert (await mesh.call("POST", f"/v1/{path}", body))[0] == status


async def test_questions_change_nothing(mesh):
    """The comparison reads what sidecars hold: a second look finds the same, and the mesh as it was."""
    documents = [{"name": "a.yaml", "text": OPEN}]
    first = await mesh.call("POST", "/v1/diff", {"documents": documents})
    await mesh.call("POST", "/v1/explain", {**ASKED, "source": "external", "destination": "api"})
    assert await mesh.call("POST", "/v1/diff", {"documents": documents}) == first
    assert not (await mesh.call("POST", "/v1/explain", ASKED))[1]["allowed"]
