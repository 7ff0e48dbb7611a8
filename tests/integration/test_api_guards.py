"""Every route of both listeners, found by walking them: strangers, wrong roles, identities, hostile bodies.

A route that is added is walked by itself; one of the sidecars' listener must be added to PROOFS.
"""

import asyncio
import io
import json
import logging
import re
import resource

import pytest

from certs.keys import generate_key
from control_plane.api.operators import Operators, Role
from control_plane.api.stream import StreamRoute
from control_plane.app import operator_app, operator_routes, sidecar_app
from tests.helpers.control_plane import ADMIN, API, EDITOR, VIEWER, WEB, csr_pem, plane
from tests.helpers.json_bodies import NO_JSON, STRANGE

TOKENS = {Role.VIEWER: VIEWER, Role.EDITOR: EDITOR, Role.ADMIN: ADMIN}
FILLED = {"kind": "VirtualService", "namespace": "shop", "name": "x", "number": "1", "id": "ab12"}
FILLED |= {"service": "web.shop", "trace": "a" * 32, "task": "t1"}
ENDLESS = {"/v1/tap": "?for_s=0"}
TEN_MB = 10_000_000


@pytest.fixture
async def mesh(tmp_path, monkeypatch):
    monkeypatch.setattr("control_plane.app.SHUTDOWN_S", 0.1)  # nobody here waits for an answer to its end
    async with plane(tmp_path) as running:
        yield running


def _path(route, **filled):
    filled = FILLED | filled
    return re.sub(r"\{(\w+)\}", lambda found: filled[found[1]], route.path) + ENDLESS.get(route.path, "")


async def _ask(mesh, method, path, token="", data=None):
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    async with mesh.http.request(method, mesh.operator + path, headers=headers, data=data) as answer:
        return answer.status, answer.content_type, await answer.read()


def _routes(mesh):
    """The declared operations, after a look that the router has no other ones but the page's."""
    parts = mesh.running.parts
    routes = operator_routes(parts)
    routed = {(r.method, r.resource.canonical) for r in operator_app(parts, Operators({})).router.routes()}
    declared = {(route.method, route.path) for route in routes}
    assert {
        (method, path)
        for method, path in routed - declared
        if method != "HEAD" and path not in ("/", "/dashboard", "/dashboard/{name}")
    } == set()
    return routes


async def test_a_stranger_gets_401_from_every_route_but_the_probes(mesh):
    for route in _routes(mesh):
        status, kind, _ = await _ask(mesh, route.method, _path(route))
        if route.role is None:
            assert (route.method, route.path) in {("GET", "/healthz"), ("GET", "/readyz")}
        else:
            assert (status, kind) == (401, "application/problem+json"), route.path


async def test_a_lower_role_gets_403_and_the_right_one_passes(mesh):
    for route in _routes(mesh):
        for role, token in TOKENS.items():
            if route.role is None:
                continue
            status, kind, body = await _ask(mesh, route.method, _path(route), token)
            if role < route.role:
                assert (status, kind) == (403, "application/problem+json"), (route.path, role)
                assert route.role.name.lower() in json.loads(body)["detail"]
            else:
                assert status not in (401, 403), (route.path, role, body)
                assert status < 500, (route.path, role, body)


async def _certificate_as(mesh, tls):
    token = await mesh.token(WEB)
    body = {"csr": csr_pem(generate_key(), API), "service": str(API), "task": "t1"}
    strangers = (await mesh.ask(body))[0]
    by_token = (await mesh.ask({**body, "token": token}))[0]
    return strangers, by_token, (await mesh.ask(body, tls))[0]


async def _stream_as(mesh, tls):
    statuses = []
    own = mesh.speaking_as(mesh.running.parts.signing._own)
    for context in (mesh.anonymous(), own):
        async with mesh.http.get(f"{mesh.sidecar}/v1/stream", ssl=context) as answer:
            statuses.append(answer.status)
    # Who another one is decides what it is sent; that it says to be somebody is of no account.
    async with mesh.http.ws_connect(f"{mesh.sidecar}/v1/stream", ssl=tls) as socket:
        await socket.send_json({"type": "hello", "held": "", "task": str(API), "service": str(API)})
        while (frame := await socket.receive_json(timeout=5))["type"] != "snapshot":
            pass
        assert frame["delta"]["set"]["workload"]["name"] == str(WEB)
    return statuses[0], statuses[1], 403


PROOFS = {("POST", "/v1/certificates"): _certificate_as, ("GET", "/v1/stream"): _stream_as}


async def test_a_sidecar_without_identity_gets_401_and_one_of_another_identity_403(mesh):
    parts = mesh.running.parts
    routed = {
        (route.method, route.resource.canonical)
        for route in sidecar_app(parts, StreamRoute(parts)).router.routes()
        if route.method != "HEAD"
    }
    assert routed == set(PROOFS), "a new route of the sidecars' listener needs its proof here"
    tls = mesh.speaking_as(await mesh.enrol(WEB))
    for proof in PROOFS.values():
        assert await proof(mesh, tls) == (401, 403, 403)


async def test_no_body_brings_an_error_of_ours_or_a_traceback(mesh, caplog):
    """Each body to each route that takes one, by someone who may."""
    await mesh.put()
    routes = [route for route in _routes(mesh) if route.body is not None]
    assert len(routes) >= 4
    with caplog.at_level(logging.ERROR):
        for route in routes:
            for what, data in {**NO_JSON, **STRANGE}.items():
                status, kind, body = await _ask(mesh, route.method, _path(route), ADMIN, data)
                assert status < 500, (route.path, what, body[:300])
                if what in NO_JSON:
                    assert status in (400, 413), (route.path, what, status)
                if status >= 400:
                    assert kind == "application/problem+json", (route.path, what)
                    assert b"Traceback" not in body
    assert caplog.records == []


async def test_the_sidecars_listener_takes_no_bad_body_either(mesh, caplog):
    with caplog.at_level(logging.ERROR):
        for what, data in {**NO_JSON, **STRANGE}.items():
            try:
                status, answer = await mesh.ask(None, raw=data)
            except ConnectionError:
                continue  # too large for this listener: it answered and closed while we still sent
            assert 400 <= status < 500, (what, answer)
    assert caplog.records == []


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_ten_megabytes_to_any_route_are_refused_and_not_kept(mesh, is_chunked):
    """Whether the route takes a body or not, with a length or in chunks, from anybody."""
    data = b'{"documents": [' + b" " * TEN_MB + b"]}"

    async def chunks():
        for at in range(0, len(data), 65536):
            yield data[at : at + 65536]

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for route in _routes(mesh):
        for token in ("", ADMIN):
            if route.path in ENDLESS:
                continue
            body = chunks() if is_chunked else io.BytesIO(data)
            try:
                status, _, _ = await _ask(mesh, route.method, _path(route), token, body)
            except (ConnectionError, asyncio.IncompleteReadError):
                continue  # refused, answered, and closed while we still sent
            except OSError:
                continue
            assert status < 500, (route.path, token)
            if route.body is not None and token:
                assert status == 413, route.path
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 64 * 1024


async def test_what_a_body_has_beyond_what_is_known_is_refused_by_name(mesh):
    for method, path, body in (
        ("PUT", "/v1/policies", {"documents": [], "dry-run": True}),
        ("PATCH", "/v1/policies", {"documents": [{"name": "a", "text": "", "tex": ""}]}),
        ("POST", "/v1/join-tokens", {"service": "shop/api", "ttl": 5}),
        ("POST", "/v1/operator-tokens", {"name": "x", "role": "viewer", "ttl": 5}),
    ):
        status, answer = await mesh.call(method, path, body)
        assert status == 400
        assert "is not known here" in answer["detail"]


async def test_a_token_has_a_life(mesh):
    """Made with a role and an end, told once, listed without its secret, shared, revoked at once."""
    wanted = {"name": "grafana", "role": "viewer", "ttl_s": 60}
    status, made = await mesh.call("POST", "/v1/operator-tokens", wanted)
    assert status == 201
    token = made["token"]
    assert (await mesh.call("GET", "/v1/status", token=token))[0] == 200
    assert (await mesh.call("PUT", "/v1/policies", {"documents": []}, token))[0] == 403
    listed = (await mesh.call("GET", "/v1/operator-tokens"))[1]["tokens"]
    assert [(each["name"], each["role"]) for each in listed] == [("grafana", "viewer")]
    assert token not in json.dumps(listed)
    for file in (mesh.folder / "data").glob("*"):
        assert not file.is_file() or token.encode() not in file.read_bytes()
    editor = (await mesh.call("POST", "/v1/operator-tokens", {"name": "ci", "role": "editor"}))[1]["token"]
    assert (await mesh.call("PUT", "/v1/policies", {"documents": []}, editor))[0] == 200
    assert "ci" in (await mesh.call("GET", "/v1/policies"))[1]["author"]
    assert (await mesh.call("DELETE", f"/v1/operator-tokens/{made['id']}"))[0] == 200
    assert (await mesh.call("GET", "/v1/status", token=token))[0] == 401
    assert (await mesh.call("DELETE", f"/v1/operator-tokens/{made['id']}"))[0] == 404


async def test_a_token_ends_by_itself_and_survives_a_restart(tmp_path):
    from datetime import UTC, datetime, timedelta

    async with plane(tmp_path) as mesh:
        made = (await mesh.call("POST", "/v1/operator-tokens", {"name": "x", "role": "admin"}))[1]
    async with plane(tmp_path) as mesh:
        assert (await mesh.call("GET", "/v1/operator-tokens", token=made["token"]))[0] == 200
        tokens = mesh.running.parts.operator_tokens
        held = tokens.listed(datetime.now(UTC))[0]
        assert tokens.find(held.digest, held.ends - timedelta(seconds=1)) == held
        assert tokens.find(held.digest, held.ends) is None


HOSTILE_TEXTS = ("9" * 5000, "000001" + "0" * 5000, "1e400", "nan", "-1", "9" * 400 + "s", "²", "%00", "")


async def test_no_text_in_a_query_or_a_path_is_an_error_of_ours(mesh, caplog):
    """Every parameter of every operation, with numbers of any length and words like numbers."""
    for route in _routes(mesh):
        if route.path in ENDLESS or route.path == "/v1/capture":
            continue
        for name in [*route.query, *re.findall(r"\{(\w+)\}", route.path)]:
            for text in HOSTILE_TEXTS:
                if name in route.query:
                    path = f"{_path(route)}?{name}={text}" + "".join(f"&{n}=x" for n in route.needs - {name})
                else:
                    path = _path(route, **{name: text})
                status, _, body = await _ask(mesh, route.method, path, ADMIN, b"{}")
                assert status < 500 or status == 503, (route.method, path[:100], status, body)
    assert "Traceback" not in caplog.text
