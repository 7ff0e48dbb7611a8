"""Unusual traffic, from a sidecar's stream to the API, the command, Prometheus and a signed webhook."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from control_plane.anomalies.webhook import signature
from control_plane.errors import StartRefused
from control_plane.settings import WebhookSettings
from tests.helpers.control_plane import WEB, plane
from tests.helpers.meshpy_command import meshpy

SECRET = b"a secret of more than sixteen bytes"
PATHS = {"type": "paths", "classes": [["GET", "/admin", "shop/web", 403]]}


class Receiver:
    """A webhook that fails once, then takes everything."""

    def __init__(self):
        self.got, self.answers = [], [500]

    async def handle(self, request):
        self.got.append((dict(request.headers), await request.read()))
        return web.Response(status=self.answers.pop() if self.answers else 204)


@pytest.fixture
async def receiver():
    found = Receiver()
    app = web.Application()
    app.router.add_post("/hook", found.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield found
    await runner.cleanup()


async def _until(is_there):
    async with asyncio.timeout(10):
        while not is_there():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_an_event_reaches_api_command_metrics_and_webhook(tmp_path, receiver):
    hook = WebhookSettings(receiver.url, SECRET, ("127.0.0.1",))
    async with plane(tmp_path, learning_s=0.001, webhook=hook) as mesh:
        async with mesh.stream(await mesh.enrol(WEB, task="w1"), task="w1") as sidecar:
            await sidecar.take()
            await sidecar.socket.send_json(PATHS)
            await _until(lambda: len(receiver.got) == 2)
        _, answer = await mesh.call("GET", "/v1/events?kind=new_path_class")
        (event,) = answer["events"]
        assert event["subject"] == {"destination": "shop/web", "method": "GET", "path": "/admin"}
        assert event["evidence"] == {"source": "shop/web", "status": 403}
        assert answer["baseline"]["path_classes"] == 1
        assert (await mesh.call("GET", f"/v1/events?after={event['id']}"))[1]["events"] == []
        code, out, err = await meshpy(mesh, "events")
        assert (code, len(out.splitlines())) == (0, 1)
        assert "shop/web asked shop/web for GET /admin, which is new: 403" in out
        assert "known: 0 edges, 1 classes" in err
        code, out, _ = await meshpy(mesh, "events", "--kind", "silent_service", "-o", "json")
        assert (code, out) == (0, "")
        async with mesh.http.get(
            f"{mesh.operator}/metrics", headers={"Authorization": "Bearer viewer-token-0123456789"}
        ) as response:
            assert 'meshpy_anomaly_events_total{kind="new_path_class"} 1' in await response.text()
    (first, body), (second, again) = receiver.got
    assert body == again
    assert first["webhook-id"] == second["webhook-id"]  # so that a receiver can tell a repetition
    signed = signature(SECRET, second["webhook-id"], int(second["webhook-timestamp"]), body)
    assert second["webhook-signature"] == signed
    assert json.loads(body)["data"]["kind"] == "new_path_class"


@pytest.mark.parametrize(
    ("url", "secret", "allow"),
    [
        ("http://hooks.test/x", SECRET, ()),
        ("https://169.254.169.254/latest", SECRET, ()),
        ("https://10.0.0.1/x", SECRET, ()),
        ("https://[::ffff:127.0.0.1]/x", SECRET, ()),
        ("https://user:pw@hooks.test/x", SECRET, ()),
        ("ftp://hooks.test/x", SECRET, ("hooks.test",)),
        ("https://hooks.test/x", b"short", ()),
    ],
)
async def test_where_it_may_not_go_it_does_not_start(tmp_path, url, secret, allow):
    with pytest.raises(StartRefused, match="--webhook"):
        async with plane(tmp_path, webhook=WebhookSettings(url, secret, allow)):
            pass


async def test_a_name_that_leads_inside_is_not_told(tmp_path):
    """Names are judged by what they resolve to when they are asked, not before."""
    hook = WebhookSettings("https://localhost/x", SECRET)
    async with plane(tmp_path, learning_s=0.001, webhook=hook) as mesh:
        why = await _refusal(mesh.running.parts.webhook)
    assert "--webhook-allow" in why


async def _refusal(webhook):
    import aiohttp

    from control_plane.jwks.guard import GuardedResolver

    connector = aiohttp.TCPConnector(resolver=GuardedResolver(webhook._guard), force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:
        return await webhook._post(session, "meshpy-1-1", b"{}")


@pytest.mark.parametrize("query", ["kind=x", "open=maybe", "after=-1", "form=x"])
async def test_a_question_that_cannot_be_is_a_400(tmp_path, query):
    async with plane(tmp_path) as mesh:
        assert (await mesh.call("GET", f"/v1/events?{query}"))[0] == 400


@asynccontextmanager
async def _web(mesh, message):
    """The sidecar of web has said something; what the control plane told by then."""
    async with mesh.stream(await mesh.enrol(WEB, task="w1"), task="w1") as sidecar:
        await sidecar.take()
        await sidecar.socket.send_json(message)
        events = mesh.running.parts.watch.events
        await _until(
            lambda: events.after(0) and events.after(0)[-1].subject["path"] == message["classes"][-1][1]
        )
        yield (await mesh.call("GET", "/v1/events"))[1]


async def test_a_control_plane_that_restarts_knows_what_it_learned_and_told(tmp_path):
    async with plane(tmp_path, learning_s=0.001) as mesh, _web(mesh, PATHS) as before:
        pass
    async with plane(tmp_path, learning_s=600) as mesh:
        after = (await mesh.call("GET", "/v1/events"))[1]
        assert after == {**before, "now": after["now"]}
        classes = [*PATHS["classes"], ["GET", "/new", "shop/web", 200]]
        async with _web(mesh, {"type": "paths", "classes": classes}) as after:
            assert [each["subject"]["path"] for each in after["events"]] == ["/admin", "/new"]
