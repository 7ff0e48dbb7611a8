"""The operator API over a real socket: who may, what is refused, and that nothing bad becomes a 500."""

import asyncio
import json
import re

import pytest

from control_plane.store.revisions import Document
from meshpy.client import Context, Operator
from tests.helpers.control_plane import ADMIN, DENY_ALL, EDITOR, VIEWER, plane

OPEN = {"/healthz", "/readyz"}
ENDLESS = {"/v1/tap": "?for_s=0"}
"""What must be asked of an operation whose answer would not end."""


@pytest.fixture
async def mesh(tmp_path):
    async with plane(tmp_path) as running:
        yield running


async def _operations(mesh):
    """Every (method, path) of the OpenAPI document, parameters filled in."""
    paths = (await mesh.call("GET", "/openapi.json"))[1]["paths"]
    filled = {"kind": "VirtualService", "namespace": "shop", "name": "x", "number": "1", "id": "abc"}
    filled |= {"service": "web.shop", "trace": "a" * 32, "task": "t1"}
    return [
        (method.upper(), re.sub(r"\{(\w+)\}", lambda found: filled[found[1]], path) + ENDLESS.get(path, ""))
        for path, operations in paths.items()
        for method in operations
    ]


async def test_every_operation_answers_strangers_with_401_but_the_two_probes(mesh):
    operations = await _operations(mesh)
    assert len(operations) > 12
    for method, path in [*operations, ("GET", "/debug"), ("GET", "/dashboardx"), ("POST", "/v1/nothing")]:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {ADMIN}"}):
            async with mesh.http.request(method, mesh.operator + path, headers=headers) as answer:
                assert answer.status == (200 if path in OPEN else 401), (method, path)
                assert path in OPEN or answer.content_type == "application/problem+json"


async def test_the_openapi_document_and_the_router_name_the_same_operations(mesh):
    from control_plane.api.operators import Operators
    from control_plane.app import operator_app

    app = operator_app(mesh.running.parts, Operators({}))
    routed = {
        (route.method, route.resource.canonical) for route in app.router.routes() if route.method != "HEAD"
    }
    paths = (await mesh.call("GET", "/openapi.json"))[1]["paths"]
    described = {(method.upper(), path) for path, operations in paths.items() for method in operations}
    page = {("GET", path) for path in ("/", "/dashboard", "/dashboard/{name}")}
    assert described | {("GET", "/openapi.json")} | page == routed


async def test_roles_are_steps(mesh):
    put = {"documents": []}
    assert [(await mesh.call("GET", "/v1/status", token=t))[0] for t in (VIEWER, EDITOR, ADMIN)] == [200] * 3
    assert [(await mesh.call("PUT", "/v1/policies", put, t))[0] for t in (VIEWER, EDITOR)] == [403, 200]
    service = {"service": "shop/api"}
    assert [(await mesh.call("POST", "/v1/join-tokens", service, t))[0] for t in (VIEWER, EDITOR)] == [
        403,
        201,
    ]
    assert (await mesh.call("DELETE", "/v1/join-tokens/ab", token=EDITOR))[0] == 403
    assert (await mesh.call("PUT", "/v1/ca/denied/shop/api", token=EDITOR))[0] == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:15014"}, 421),
        ({"Host": "localhost"}, 200),
        ({"Host": "[::1]:15014"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
    ],
)
async def test_a_browser_that_was_led_here_is_refused(mesh, headers, status):
    sent = {"Authorization": f"Bearer {ADMIN}", **headers}
    async with mesh.http.get(mesh.operator + "/v1/status", headers=sent) as answer:
        assert answer.status == status


@pytest.mark.parametrize(
    "raw",
    [b"", b"{", b"[]", b"[" * 100_000, b'{"a":' * 50_000, b'{"documents": NaN}', b'{"documents":1}', b"\xff"],
)
async def test_a_body_that_is_no_json_object_is_a_400(mesh, raw):
    headers = {"Authorization": f"Bearer {ADMIN}", "Content-Type": "application/json"}
    for method in ("PUT", "PATCH"):
        async with mesh.http.request(
            method, mesh.operator + "/v1/policies", data=raw, headers=headers
        ) as answer:
            assert (answer.status, (await answer.json(content_type=None))["status"]) == (400, 400)


async def test_a_form_is_no_json(mesh):
    headers = {"Authorization": f"Bearer {ADMIN}", "Content-Type": "text/plain"}
    async with mesh.http.put(mesh.operator + "/v1/policies", data=b"{}", headers=headers) as answer:
        assert answer.status == 400


async def test_more_than_four_megabytes_are_a_413(mesh):
    import io

    headers = {"Authorization": f"Bearer {ADMIN}", "Content-Type": "application/json"}
    body = io.BytesIO(b'{"documents": [' + b" " * 5_000_000 + b"]}")
    async with mesh.http.put(mesh.operator + "/v1/policies", data=body, headers=headers) as answer:
        assert answer.status == 413


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kind: [", "not YAML"),
        ("a: 1\na: 2\n", "a"),
        (DENY_ALL.replace("action", "acton"), "acton"),
        (DENY_ALL.replace("all()", "app == 'ghost'").replace("deny-all", "other"), "ghost"),
        (DENY_ALL.replace("NetworkPolicy", "NetworkPolici"), "NetworkPolici"),
        ("[" * 500, ""),
    ],
)
async def test_a_wrong_document_is_a_422_with_its_place_and_changes_nothing(mesh, text, said):
    await mesh.put(DENY_ALL)
    status, answer = await mesh.put(DENY_ALL, text)
    assert status == 422, answer
    assert any(said in error["message"] + error["key"] for error in answer["errors"])
    assert answer["errors"][0]["file"] == "1.yaml"
    assert (await mesh.call("GET", "/v1/policies"))[1]["revision"] == 1


async def test_put_replaces_patch_merges_delete_removes_rollback_brings_back(mesh):
    other = DENY_ALL.replace("deny-all", "other")
    assert (await mesh.put(DENY_ALL))[1]["revision"] == 1
    body = {"documents": [{"name": "b.yaml", "text": f"{other}---\n{DENY_ALL.replace('Deny', 'Allow')}"}]}
    assert (await mesh.call("PATCH", "/v1/policies", body))[1]["revision"] == 2
    held = (await mesh.call("GET", "/v1/policies"))[1]["documents"]
    assert ["Allow" in each["text"] for each in held] == [True, False]
    assert (await mesh.call("DELETE", "/v1/policies/NetworkPolicy/shop/other"))[1]["revision"] == 3
    assert (await mesh.call("DELETE", "/v1/policies/NetworkPolicy/shop/other"))[0] == 404
    assert len((await mesh.call("GET", "/v1/policies"))[1]["documents"]) == 1
    assert (await mesh.call("POST", "/v1/revisions/1/rollback"))[1]["revision"] == 4
    assert "Deny" in (await mesh.call("GET", "/v1/policies"))[1]["documents"][0]["text"]
    listed = (await mesh.call("GET", "/v1/revisions?limit=2"))[1]["revisions"]
    assert [each["revision"] for each in listed] == [4, 3]


async def test_a_problem_points_into_the_file_even_after_a_patch_cut_it(mesh):
    """Two documents in one file; the first is replaced; the second still stands on its own line."""
    first, second = DENY_ALL, DENY_ALL.replace("deny-all", "second")
    await mesh.put(f"{first}---\n{second}")
    await mesh.call("PATCH", "/v1/policies", {"documents": [{"name": "n.yaml", "text": first}]})
    held = (await mesh.call("GET", "/v1/policies"))[1]["documents"]
    line = next(each["line"] for each in held if "second" in each["text"])
    text = next(each["text"] for each in held if "second" in each["text"])
    assert line + text[: text.index("apiVersion")].count("\n") == first.count("\n") + 2


async def test_a_dry_run_checks_and_changes_nothing(mesh):
    body = {"documents": [{"name": "a", "text": DENY_ALL}]}
    status, answer = await mesh.call("PUT", "/v1/policies?dry_run=true", body)
    assert (status, answer["revision"], answer["changed_services"]) == (200, 0, 2)
    assert (await mesh.call("GET", "/v1/policies"))[1]["revision"] == 0


async def test_the_revision_that_is_expected_must_be_the_newest(mesh):
    await mesh.put(DENY_ALL)
    status, answer = await mesh.put(DENY_ALL, expected_revision=0)
    assert (status, answer["newest"]) == (409, 1)
    puts = [mesh.put(DENY_ALL, expected_revision=1) for _ in range(8)]
    assert sorted(status for status, _ in await asyncio.gather(*puts)) == [200] + [409] * 7


async def _conditional(mesh, method, path, headers, body=None):
    sent = {"Authorization": f"Bearer {EDITOR}", **headers}
    async with mesh.http.request(method, mesh.operator + path, headers=sent, json=body) as answer:
        return answer.status, answer.headers.get("ETag")


async def test_a_change_can_ask_for_the_revision_that_it_was_made_from(mesh):
    documents = {"documents": [{"name": "a", "text": DENY_ALL}]}
    policy = "/v1/policies/NetworkPolicy/shop/deny-all"
    assert await _conditional(mesh, "PUT", "/v1/policies", {"If-Match": '"0"'}, documents) == (200, '"1"')
    assert await _conditional(mesh, "GET", "/v1/policies", {}) == (200, '"1"')
    assert await _conditional(mesh, "GET", "/v1/policies", {"If-None-Match": '"1"'}) == (304, '"1"')
    for method, path, body in (
        ("PUT", "/v1/policies", documents),
        ("PATCH", "/v1/policies", documents),
        ("DELETE", policy, None),
        ("POST", "/v1/revisions/0/rollback", None),
    ):
        assert (await _conditional(mesh, method, path, {"If-Match": '"0"'}, body))[0] == 412
        assert (await _conditional(mesh, method, path, {"If-Match": "seven"}, body))[0] == 400
    assert await _conditional(mesh, "DELETE", policy, {"If-Match": '"1"'}) == (200, '"2"')
    both = {**documents, "expected_revision": 1}
    assert (await _conditional(mesh, "PUT", "/v1/policies", {"If-Match": '"2"'}, both))[0] == 400
    assert (await _conditional(mesh, "PUT", "/v1/policies", {"If-Match": "*"}, documents))[0] == 200


async def test_revisions_come_in_pages_and_pinned_ones_are_marked(mesh):
    for number in range(5):
        await mesh.put(DENY_ALL.replace("deny-all", f"deny-{number}"))
    assert (await mesh.call("PUT", "/v1/revisions/2/pin", token=EDITOR))[1] == {"revision": 2, "pinned": True}
    seen, path = [], "/v1/revisions?limit=2"
    while True:
        page = (await mesh.call("GET", path))[1]
        seen += [(each["revision"], each["pinned"]) for each in page["revisions"]]
        if page["next"] is None:
            break
        path = f"/v1/revisions?limit=2&before={page['next']}"
    assert seen == [(number, number == 2) for number in (5, 4, 3, 2, 1)]
    assert (await mesh.call("DELETE", "/v1/revisions/2/pin", token=EDITOR))[1]["pinned"] is False
    assert (await mesh.call("PUT", "/v1/revisions/9/pin", token=EDITOR))[0] == 404


async def test_another_process_on_the_same_store_is_noticed(mesh):
    from datetime import UTC, datetime

    store = mesh.running.parts.store
    other = [Document("x.yaml", DENY_ALL)]
    await store.append(other, author="other", expected=0, now=datetime.now(UTC))
    assert (await mesh.put(DENY_ALL, expected_revision=0))[0] == 409
    assert (await mesh.put(DENY_ALL, expected_revision=1))[1]["revision"] == 2


async def test_a_revision_of_another_replica_is_put_in_force(mesh):
    from datetime import UTC, datetime

    document = Document("x.yaml", DENY_ALL)
    await mesh.running.parts.store.append([document], author="other", expected=0, now=datetime.now(UTC))
    async with asyncio.timeout(5):
        while (await mesh.call("GET", "/v1/status"))[1]["revision"] != 1:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert "Deny" in (await mesh.call("GET", "/v1/policies"))[1]["documents"][0]["text"]


async def test_metrics_are_prometheus_text(mesh):
    await mesh.put(DENY_ALL)
    headers = {"Authorization": f"Bearer {VIEWER}"}
    async with mesh.http.get(mesh.operator + "/metrics", headers=headers) as answer:
        text = await answer.text()
    assert "meshpy_control_plane_revision 1\n" in text
    assert all(
        re.fullmatch(r"# TYPE \w+ \w+|# HELP \w+ .+|\w+(\{.*\})? [0-9.e-]+", line)
        for line in text.splitlines()
    )


async def test_a_full_disk_is_a_507_and_the_old_policies_stay(mesh):
    await mesh.put(DENY_ALL)
    await mesh.running.parts.store._run(lambda c: c.execute("PRAGMA max_page_count = 4").fetchall())
    big = DENY_ALL + "# " + "x" * 200_000 + "\n"
    assert (await mesh.put(big))[0] == 507
    assert (await mesh.call("GET", "/v1/policies"))[1]["revision"] == 1


async def test_the_ca_key_is_nowhere_in_what_the_api_says(mesh):
    import base64

    key = (mesh.folder / "data" / "ca" / "intermediate.key").read_text()
    secret = base64.b64decode("".join(key.splitlines()[1:-1]))
    for method, path in await _operations(mesh):
        if method == "GET":
            answer = json.dumps((await mesh.call("GET", path))[1]) if path != "/metrics" else ""
            assert "PRIVATE" not in answer
            assert base64.b64encode(secret)[:40].decode() not in answer


@pytest.mark.parametrize(
    ("asked", "coding"),
    [("gzip, deflate, br", "gzip"), ("gzip;q=0.5", "gzip"), ("gzip;q=0", None), ("br", None), ("", None)],
)
async def test_a_long_answer_is_compressed_for_who_takes_it(mesh, asked, coding):
    headers = {"Authorization": f"Bearer {VIEWER}", "Accept-Encoding": asked}
    async with mesh.http.get(mesh.operator + "/openapi.json", headers=headers) as answer:
        assert (answer.headers.get("Content-Encoding"), answer.headers["Vary"]) == (coding, "Accept-Encoding")
        assert (int(answer.headers["Content-Length"]) < 40_000) == (coding is not None)
        assert (await answer.json())["openapi"]
    async with mesh.http.get(mesh.operator + "/healthz", headers=headers) as answer:
        assert "Content-Encoding" not in answer.headers  # short


async def test_the_operators_client_reads_compressed_answers(mesh):
    operator = Operator(Context(url=mesh.operator, token=VIEWER))
    found = await asyncio.to_thread(operator.call, "GET", "/openapi.json")
    raw = await asyncio.to_thread(operator.send, "GET", "/openapi.json", {"Accept-Encoding": "gzip"}, None)
    assert found == json.loads(raw.content)
    assert len(raw.body) < len(raw.content) / 4
