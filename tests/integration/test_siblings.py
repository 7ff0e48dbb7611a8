"""Two replicas with a sidecar each: an operator who asks one of them is answered for both."""

import asyncio
import contextlib
import ssl
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime

import pytest
from aiohttp import WSMsgType

from certs.store import CaStore
from certs.tls import server_context
from control_plane import handover, registry, siblings
from control_plane.errors import StoreError
from meshpy.client import ApiError, Context, Operator
from tests.helpers.control_plane import ADMIN, API, DENY_ALL, TRUST_DOMAIN, WEB, plane

HIT = ["allow", "AuthorizationPolicy shop/api", "rules[0]", True, 7]
STAT = {"direction": "outbound", "source": "shop/web", "destination": "shop/api", "protocol": "http"}


def at(mesh):
    return f"127.0.0.1:{mesh.running.operator_port}"


def knows(mesh, *others):
    """Name the others to a replica: on loopback every address is its own."""

    async def addresses():
        return others

    mesh.running.parts.siblings._addresses = addresses


async def call(mesh, path, method="GET", body=None):
    """As an operator, over TLS."""
    signing = mesh.running.parts.signing
    context = Context(f"https://{at(mesh)}", ADMIN, signing.bundle_pem, TRUST_DOMAIN)
    return await asyncio.to_thread(Operator(context).call, method, path, body)


@asynccontextmanager
async def two(tmp_path):
    """Two planes of one CA, each with a sidecar: api at the first, web at the second."""
    CaStore(tmp_path / "ca").load_or_create(TRUST_DOMAIN, datetime.now(UTC))
    async with AsyncExitStack() as stack:
        ends, planes, sidecars = [], [], []
        for number, name in enumerate((API, WEB)):
            folder = tmp_path / f"plane{number}"
            folder.mkdir()
            end = AsyncExitStack()
            mesh = await end.enter_async_context(plane(folder, ca_dir=tmp_path / "ca", operator_tls=True))
            stack.push_async_callback(end.aclose)
            task = f"{name.name}-1"
            token = (await call(mesh, "/v1/join-tokens", "POST", {"service": str(name)}))["token"]
            identity = await mesh.enrol_with(token, name, task)
            sidecar = await end.enter_async_context(mesh.stream(identity, task=task))
            await sidecar.take()
            planes.append(mesh)
            sidecars.append(sidecar)
            ends.append(end)
        knows(planes[0], at(planes[1]))
        knows(planes[1], at(planes[0]))
        yield planes, sidecars, ends


async def until(ask, is_so):
    async with asyncio.timeout(5):
        while not is_so(answer := await ask()):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return answer


async def test_one_replica_answers_for_the_sidecars_of_both(tmp_path):
    async with two(tmp_path) as (planes, _, _):
        for mesh in planes:
            page = await until(
                lambda mesh=mesh: call(mesh, "/v1/sidecars?state=SYNCED"), lambda p: len(p["sidecars"]) == 2
            )
            assert [row["task"] for row in page["sidecars"]] == ["api-1", "web-1"]
            assert len({row["replica"] for row in page["sidecars"]}) == 2
            assert page["silent"] == []
            first = await call(mesh, "/v1/sidecars?limit=1")
            rest = await call(mesh, f"/v1/sidecars?limit=1&after={first['next'].replace(' ', '%20')}")
            assert [p["sidecars"][0]["task"] for p in (first, rest)] == ["api-1", "web-1"]
            assert rest["next"] is None
            for task in ("api-1", "web-1"):
                assert (await call(mesh, f"/v1/sidecars/{task}/config"))["sidecar"]["task"] == task
            status = await call(mesh, "/v1/status")
            assert [(s["name"], s["synced"]) for s in status["services"]] == [
                ("shop/api", 1),
                ("shop/web", 1),
            ]


async def test_what_both_ends_counted_at_two_replicas_is_one_edge(tmp_path):
    """The caller's figures count, wherever it reports; flows and rules are summed."""
    async with two(tmp_path) as (planes, (api, web), _):
        counted = {**STAT, "requests": 7, "success": 7}
        await web.socket.send_json({"type": "stats", "records": [counted]})
        await api.socket.send_json({"type": "stats", "records": [{**counted, "direction": "inbound"}]})
        for sidecar, path in ((api, "/a"), (web, "/w")):
            row = ["shop/web", 8080, "GET", path, 7]
            await sidecar.socket.send_json({"type": "seen", "flows": [row], "rules": [HIT], "lost": 0})
        for mesh in planes:
            ask = lambda mesh=mesh: call(mesh, "/v1/flows")  # noqa: E731
            flows = await until(ask, lambda f: len(f["callees"]) == 2)
            assert [(r["rule"], r["requests"]) for r in flows["rules"]] == [("rules[0]", 14)]
            [edge] = (await until(lambda mesh=mesh: call(mesh, "/v1/status"), lambda s: s["edges"]))["edges"]
            assert (edge["requests"], edge["source"]) == (7, "shop/web")
            [row] = (await call(mesh, "/v1/stat?by=edge"))["rows"]
            assert row["rps"] == 0.7


async def test_a_revision_is_in_force_when_the_sidecars_of_all_replicas_have_it(tmp_path):
    async with two(tmp_path) as (planes, (api, web), _):
        body = {"documents": [{"name": "a.yaml", "text": DENY_ALL}]}
        await call(planes[0], "/v1/policies", "PUT", body)
        await api.take()
        waited = await call(planes[0], "/v1/revisions/1/wait?timeout_s=0.5")
        [row] = waited["waiting_for"]
        assert (waited["enforced"], "has not read it" in row["reason"]) == (False, True)
        await call(planes[1], "/v1/policies", "PUT", body)
        waited = await call(planes[0], "/v1/revisions/1/wait?timeout_s=0.5")
        assert [(row["task"], waited["enforced"]) for row in waited["waiting_for"]] == [("web-1", False)]
        await web.take()
        assert (await call(planes[0], "/v1/revisions/1/wait?timeout_s=5"))["enforced"]


async def test_a_replica_that_does_not_answer_is_named_and_nothing_is_said_for_it(tmp_path):
    async with two(tmp_path) as (planes, _, ends):
        gone = at(planes[1])
        await ends[1].aclose()
        page = await call(planes[0], "/v1/sidecars")
        assert [row["task"] for row in page["sidecars"]] == ["api-1"]
        assert [each.startswith(gone) for each in page["silent"]] == [True]
        assert gone in " ".join((await call(planes[0], "/v1/status"))["problems"])
        waited = await call(planes[0], "/v1/revisions/0/wait?timeout_s=0.1")
        assert (waited["enforced"], gone in waited["waiting_for"][0]["reason"]) == (False, True)
        with pytest.raises(ApiError, match=f"web-1.*{gone}.* does not answer"):
            await call(planes[0], "/v1/sidecars/web-1/config")


class Gone:
    """A store whose engine is away."""

    async def newest(self):
        raise StoreError("the engine does not answer")


async def test_a_replica_that_cannot_read_what_is_shared_sends_its_sidecars_to_the_others(
    tmp_path, monkeypatch
):
    """While there is another one; alone it keeps them, and says what it lacks."""
    monkeypatch.setattr(handover, "LOOK_S", 0.05)
    monkeypatch.setattr(handover, "UNREAD_S", 0.1)
    monkeypatch.setattr(registry, "FOLLOW_S", 0.05)
    async with two(tmp_path) as (planes, (api, _), _):
        knows(planes[0])
        planes[0].running.parts.registry._store = Gone()
        status = await until(
            lambda: call(planes[0], "/v1/status"), lambda s: "engine does not answer" in str(s["problems"])
        )
        await asyncio.sleep(0.3)
        assert [row["state"] for row in status["sidecars"]] == ["SYNCED"]
        assert not api.socket.closed
        knows(planes[0], at(planes[1]))
        async with asyncio.timeout(5):
            while (message := await api.socket.receive()).type is not WSMsgType.CLOSE:
                pass
        assert "go to another one" in message.extra


async def test_no_token_goes_to_who_is_not_the_control_plane(tmp_path):
    """A server under the mesh's root, but as a service: the handshake ends before anything is sent."""
    async with two(tmp_path) as (planes, _, _):
        heard = []

        async def listen(reader, writer):
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                heard.append(await reader.read(1000))
            writer.close()

        signing = planes[0].running.parts.signing
        token = (await call(planes[0], "/v1/join-tokens", "POST", {"service": "shop/api"}))["token"]
        tls = server_context(await planes[0].enrol_with(token, API, "x"), signing.bundle, alpn=["http/1.1"])
        tls.verify_mode = ssl.CERT_NONE
        server = await asyncio.start_server(listen, "127.0.0.1", 0, ssl=tls)
        async with server:
            knows(planes[0], f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
            page = await call(planes[0], "/v1/sidecars")
        assert "refused" in page["silent"][0]
        assert [text for text in heard if text] == []


async def test_the_addresses_of_a_name_are_those_of_the_others(monkeypatch):
    assert (siblings._is_own("127.0.0.1"), siblings._is_own("192.0.2.9")) == (True, False)
    monkeypatch.setattr(siblings, "_is_own", lambda host: host == "192.0.2.1")

    async def known(_loop, name, port, **_):
        assert name == "replicas"
        return [(2, 1, 6, "", (f"192.0.2.{n}", port)) for n in (3, 1, 2)]

    monkeypatch.setattr("asyncio.base_events.BaseEventLoop.getaddrinfo", known)
    assert list(await siblings.addresses_of("replicas", 1)()) == ["192.0.2.2:1", "192.0.2.3:1"]
    assert list(await siblings.addresses_of("", 1)()) == []


async def test_a_name_that_is_not_known_is_not_looked_up_all_the_time(monkeypatch):
    asked = []

    async def unknown(_loop, name, _port, **_):
        asked.append(name)
        raise OSError("no such name")

    monkeypatch.setattr("asyncio.base_events.BaseEventLoop.getaddrinfo", unknown)
    addresses = siblings.addresses_of("replicas", 1)
    assert [list(await addresses()), list(await addresses())] == [[], []]
    assert asked == ["replicas"]
