"""Streams over real mTLS: snapshots and deltas out, answers and figures back."""

import asyncio
import json
import time
from dataclasses import replace

import aiohttp
import pytest

from certs.keys import generate_key
from control_plane.api import stream
from control_plane.discovery.view import SidecarTask, View
from control_plane.settings import StoreKind
from meshpy.wire import decode_snapshot
from tests.helpers.control_plane import API, DENY_ALL, WEB, csr_pem, plane, shop, write_inventory

RULE = DENY_ALL.replace("deny-all", "deny-web")


@pytest.fixture
async def mesh(tmp_path):
    async with plane(tmp_path) as running:
        yield running


async def _sidecar(mesh, task="t1"):
    """The first sidecar's row of the status."""
    rows = (await mesh.call("GET", "/v1/status"))[1]["sidecars"]
    return next(row for row in rows if row["task"] == task)


async def _until(mesh, state):
    async with asyncio.timeout(5):
        while (row := await _sidecar(mesh))["state"] != state:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return row


async def test_a_sidecar_gets_the_whole_snapshot_then_deltas(mesh):
    async with mesh.stream(await mesh.enrol()) as sidecar:
        first = await sidecar.take()
        assert first["base"] == ""
        assert decode_snapshot(sidecar.snapshot).workload.name == API
        await mesh.put(DENY_ALL)
        second = await sidecar.take()
        assert (second["base"], set(second["set"])) == (first["version"], {"revision", "authorization"})
        held = decode_snapshot(sidecar.snapshot)
        assert (held.revision, held.version) == (1, second["version"])


async def test_callers_are_sent_elsewhere_when_a_sidecar_says_that_it_drains(mesh):
    """It is believed for its own task alone, and the last endpoints of a service stay."""
    inventory = shop(("127.0.0.1", "127.0.0.5"))
    at = {"t1": "127.0.0.1", "t2": "127.0.0.5"}
    tasks = {task: SidecarTask(task, API, {"mesh": (address,)}) for task, address in at.items()}
    mesh.running.parts.registry.set_view(View(inventory, tasks))
    identity = await mesh.enrol()
    async with (
        mesh.stream(await mesh.enrol(WEB), task="w1") as web,
        mesh.stream(identity, task="t2") as liar,
        mesh.stream(identity, task="t1") as api,
    ):
        await web.take()
        while len(_endpoints(web)) < 2:
            await web.take()
        await liar.socket.send_json({"type": "draining"})  # t2 is at another address than this stream
        await api.socket.send_json({"type": "draining"})
        await web.take()
        assert _endpoints(web) == ["127.0.0.5"]
        mesh.running.parts.registry.set_draining(API, "t2", "127.0.0.5")
        await web.take()
        assert _endpoints(web) == ["127.0.0.1", "127.0.0.5"]


def _endpoints(sidecar):
    cluster = next(c for name, c in sidecar.snapshot["clusters"].items() if name.endswith("api.shop"))
    return [each["address"] for each in cluster["endpoints"]]


async def test_a_message_of_a_type_that_is_not_known_yet_is_passed_over(mesh):
    """A newer sidecar beside an older control plane, during a rolling upgrade."""
    async with mesh.stream(await mesh.enrol()) as sidecar:
        await sidecar.take()
        await sidecar.socket.send_json({"type": "gossip", "x": 1})
        await mesh.put(DENY_ALL)
        await sidecar.take()
        assert mesh.running.parts.distribution.unknown_frames == 1


async def test_status_and_wait_follow_the_acknowledgement(mesh):
    async with mesh.stream(await mesh.enrol()) as sidecar:
        await sidecar.take()
        await mesh.put(DENY_ALL)
        assert (await mesh.call("GET", "/v1/revisions/1/wait?timeout_s=0.05"))[1]["enforced"] is False
        assert (await _sidecar(mesh))["state"] == "PENDING"
        waiting = asyncio.gather(mesh.call("GET", "/v1/revisions/1/wait?timeout_s=5"), sidecar.take())
        assert (await waiting)[0][1]["enforced"] is True
        assert (await _sidecar(mesh))["revision"] == 1
        assert (await mesh.call("GET", "/v1/revisions/2/wait"))[0] == 404


async def test_a_nack_is_shown_with_its_reason_and_the_version_is_not_sent_again(mesh):
    async with mesh.stream(await mesh.enrol()) as sidecar:
        held = (await sidecar.take())["version"]
        await mesh.put(DENY_ALL)
        refused = await sidecar.delta()
        await sidecar.socket.send_json({"type": "nack", "version": refused["version"], "reason": "no\nport"})
        row = await _until(mesh, "REJECTED")
        assert (row["held"], row["reason"]) == (held, "no port")
        await mesh.put(DENY_ALL, RULE)
        following = await sidecar.take()
        assert following["base"] == held
        assert (await _until(mesh, "SYNCED"))["held"] == following["version"]


async def test_a_slow_sidecar_gets_the_newest_version_and_none_between(mesh):
    async with mesh.stream(await mesh.enrol()) as sidecar:
        first = await sidecar.delta()
        for number in range(5):
            await mesh.put(*[DENY_ALL.replace("deny-all", f"deny-{i}") for i in range(number + 1)])
        with pytest.raises(TimeoutError):
            await sidecar.socket.receive(timeout=0.2)
        await sidecar.socket.send_json({"type": "ack", "version": first["version"]})
        assert (await sidecar.delta())["set"]["revision"] == 5


async def test_a_sidecar_that_does_not_read_holds_up_nobody_and_is_cut_off(mesh, monkeypatch):
    """Nothing piles up for it: one snapshot is on its way, and who answers no ping is gone (22 s, here 3)."""
    monkeypatch.setattr(stream, "HEARTBEAT_S", 2.0)
    big = shop()
    label = {"blob": "x" * 10_000_000}  # more than the sockets' buffers take
    api = big.services[API]
    write_inventory(
        mesh.folder / "inventory.json",
        replace(big, services={**big.services, API: replace(api, labels={**api.labels, **label})}),
    )
    await _until_view(mesh, lambda view: "blob" in view.inventory.services[API].labels)
    distribution = mesh.running.parts.distribution
    async with mesh.stream(await mesh.enrol(WEB), task="web") as web:
        await web.take()
        async with mesh.stream(await mesh.enrol(API), task="slow") as slow:
            transport = slow.socket._response.connection.transport
            transport.pause_reading()
            async with asyncio.timeout(5):
                while len(list(distribution.states())) < 2:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            for number in range(3):
                begin = time.monotonic()
                await mesh.put(DENY_ALL.replace("deny-all", f"deny-{number}"))
                await web.take()
                assert time.monotonic() - begin < 5
            assert (await _until_state(mesh, "web", "SYNCED"))["revision"] == 3
            await _until_state(mesh, "slow", "DISCONNECTED")
            transport.abort()  # it would wait for the other's goodbye, behind what it does not read


async def _until_view(mesh, is_so):
    async with asyncio.timeout(10):
        while not is_so(mesh.running.parts.registry.view):  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def _until_state(mesh, task, state):
    async with asyncio.timeout(5):
        while (row := await _sidecar(mesh, task))["state"] != state:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return row


async def test_who_comes_back_with_the_newest_version_is_sent_nothing(mesh):
    identity = await mesh.enrol()
    async with mesh.stream(identity) as sidecar:
        version = (await sidecar.take())["version"]
        await _until(mesh, "SYNCED")
    assert (await _until(mesh, "DISCONNECTED"))["held"] == version
    async with mesh.stream(identity, held=version) as sidecar:
        await _until(mesh, "SYNCED")
        assert (await sidecar.socket.receive_json(timeout=5))["type"] == "bundle"
        with pytest.raises(TimeoutError):
            await sidecar.socket.receive(timeout=0.2)


async def test_who_comes_back_with_an_older_version_gets_a_delta_and_with_an_unknown_one_all(mesh):
    identity = await mesh.enrol()
    async with mesh.stream(identity) as sidecar:
        version = (await sidecar.take())["version"]
    await mesh.put(DENY_ALL)
    for held, base in ((version, version), ("ffff", "")):
        async with mesh.stream(identity, held=held) as sidecar:
            assert (await sidecar.delta())["base"] == base


async def test_versions_are_the_same_after_a_restart(tmp_path):
    async with plane(tmp_path) as mesh:
        await mesh.put(DENY_ALL)
        async with mesh.stream(await mesh.enrol()) as sidecar:
            version = (await sidecar.take())["version"]
    async with plane(tmp_path) as mesh, mesh.stream(await mesh.enrol(), held=version):
        assert (await _until(mesh, "SYNCED"))["revision"] == 1


async def test_a_changed_inventory_reaches_the_sidecars_that_depend_on_it(mesh):
    async with mesh.stream(await mesh.enrol(WEB)) as sidecar:
        await sidecar.take()
        write_inventory(mesh.folder / "inventory.json", shop(("127.0.0.5", "127.0.0.7")))
        delta = await sidecar.take()
        assert all(key.startswith("clusters/") for key in delta["set"])
        assert "127.0.0.7" in json.dumps(delta["set"])


async def test_a_revoked_service_is_refused_by_the_ca_and_named_to_every_sidecar(mesh):
    identity, other = await mesh.enrol(), await mesh.enrol(WEB, task="t2")
    async with mesh.stream(other, task="t2") as sidecar:
        await sidecar.take()
        status, answer = await mesh.call("PUT", "/v1/ca/denied/shop/api?message=stolen")
        assert (status, answer["denied"]) == (200, [{"service": "shop/api", "message": "stolen"}])
        await sidecar.take()
        assert sidecar.snapshot["denied"] == ["spiffe://cluster.local/ns/shop/sa/api"]
        body = {"csr": csr_pem(generate_key(), API), "service": "shop/api", "task": "t1"}
        for tls, token in ((None, await mesh.token()), (mesh.speaking_as(identity), None)):
            status, answer = await mesh.ask({**body, "token": token} if token else body, tls)
            assert (status, answer["evidence"]) == (403, "deny-list")
        with pytest.raises(aiohttp.WSServerHandshakeError):
            async with mesh.stream(identity):
                pass
        await mesh.put(DENY_ALL)
        await sidecar.take()
        await mesh.call("POST", "/v1/revisions/0/rollback")
        await sidecar.take()
        assert sidecar.snapshot["denied"]  # rolling policies back restores nobody
        assert (await mesh.call("DELETE", "/v1/ca/denied/shop/api"))[1]["denied"] == []
        await sidecar.take()
        assert "denied" not in sidecar.snapshot
    assert (await mesh.ask({**body, "token": await mesh.token()}))[0] == 200
    assert (await mesh.call("DELETE", "/v1/ca/denied/shop/api"))[0] == 404


async def test_the_stream_of_a_service_that_is_revoked_ends(mesh):
    async with mesh.stream(await mesh.enrol()) as sidecar:
        await sidecar.take()
        await mesh.call("PUT", "/v1/ca/denied/shop/api")
        async with asyncio.timeout(5):
            while not sidecar.socket.closed:
                message = await sidecar.socket.receive()
        assert message.extra == "its identity is revoked"


async def test_a_sidecar_keeps_the_policies_that_the_store_has_lost_until_somebody_acts(mesh):
    """An empty store must not open the mesh: a sidecar of revision 7 is not sent revision 0."""
    async with mesh.stream(await mesh.enrol(), held="of-before", revision=7) as sidecar:
        row = await _until(mesh, "STALE")
        assert (row["revision"], "revision 7, which the store has lost" in row["reason"]) == (7, True)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await sidecar.delta()
        await mesh.put(DENY_ALL)
        await sidecar.take()
        assert (await _until(mesh, "SYNCED"))["revision"] == 1


async def test_a_change_that_concerns_it_not_lets_a_sidecar_go_on_too(mesh):
    async with mesh.stream(await mesh.enrol(), held="of-before", revision=7) as sidecar:
        await _until(mesh, "STALE")
        assert (await mesh.put(DENY_ALL.replace("all()", "app == 'web'")))[0] == 200
        await sidecar.take()
        await _until(mesh, "SYNCED")


@pytest.mark.parametrize("ours", [0, 2])
async def test_the_candidate_of_a_canary_that_ended_elsewhere_is_taken_back(tmp_path, ours):
    """What no store ever held is not lost, but a revision of the same number would be."""
    async with plane(tmp_path) as mesh:
        for number in range(ours):
            await mesh.put(DENY_ALL.replace("deny-all", f"deny-{number}"))
    async with plane(tmp_path) as mesh:
        async with mesh.stream(await mesh.enrol(), held=f"a-{ours + 1}-canary", revision=ours + 1) as sidecar:
            await sidecar.take()
            assert (await _until(mesh, "SYNCED"))["revision"] == ours
        for held in (f"a-{ours + 1}", f"a-{ours + 2}-canary"):
            revision = ours + 1 + held.endswith("-canary")
            async with mesh.stream(await mesh.enrol(), held=held, revision=revision):
                assert "restore it" in (await _until(mesh, "STALE"))["reason"]


async def test_a_folder_of_policies_is_right_whatever_its_numbers_were(tmp_path):
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "a.yaml").write_text(DENY_ALL)
    async with (
        plane(tmp_path, store=StoreKind.DIRECTORY, policies_dir=folder) as mesh,
        mesh.stream(await mesh.enrol(), held="of-before", revision=9) as sidecar,
    ):
        await sidecar.take()


async def test_a_revocation_survives_a_restart(tmp_path):
    async with plane(tmp_path) as mesh:
        await mesh.call("PUT", "/v1/ca/denied/shop/api")
    async with plane(tmp_path) as mesh:
        identity = await mesh.enrol(WEB, task="t2")
        async with mesh.stream(identity, task="t2") as sidecar:
            await sidecar.take()
            assert sidecar.snapshot["denied"] == ["spiffe://cluster.local/ns/shop/sa/api"]


async def test_a_broken_inventory_file_changes_nothing_and_is_reported(mesh):
    (mesh.folder / "inventory.json").write_text('{"services": {"shop/api": {"nmae": 1}}}')
    async with asyncio.timeout(5):
        while not (status := (await mesh.call("GET", "/v1/status"))[1])["discovery"]["problem"]:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert "nmae" in status["discovery"]["problem"]
    assert len(status["services"]) == 2


async def test_a_stream_gives_each_identity_its_own_snapshot_whatever_it_says(mesh):
    async with mesh.stream(await mesh.enrol(WEB), task="shop/api") as sidecar:
        await sidecar.take()
        assert decode_snapshot(sidecar.snapshot).workload.name == WEB


async def test_without_a_certificate_there_is_no_stream(mesh):
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await mesh.http.ws_connect(f"{mesh.sidecar}/v1/stream", ssl=mesh.anonymous())
    assert caught.value.status == 401


async def test_the_control_planes_own_identity_has_no_stream(mesh):
    signing = mesh.running.parts.signing
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await mesh.http.ws_connect(f"{mesh.sidecar}/v1/stream", ssl=mesh.speaking_as(signing._own))
    assert caught.value.status == 403


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '{"type":7}', '{"type":"hello","held":7}'])
async def test_a_frame_that_is_not_understood_ends_the_stream_with_the_reason(mesh, text):
    async with mesh.stream(await mesh.enrol()) as sidecar:
        await sidecar.take()
        await sidecar.socket.send_str(text)
        while (message := await sidecar.socket.receive(timeout=5)).type is aiohttp.WSMsgType.TEXT:
            pass
        assert message.type is aiohttp.WSMsgType.CLOSE
        assert message.extra


async def test_figures_become_edges_of_the_reporter_alone(mesh):
    record = {
        "direction": "inbound",
        "source": "shop/web",
        "destination": "shop/api",
        "protocol": "http",
        "mtls": True,
        "requests": 10,
        "success": 7,
        "responses": {"200": 7, "403": 2, "503": 1},
        "denied": {"AuthorizationPolicy shop/x": 2},
        "latency_ms": {"bounds": [1, 10], "counts": [8, 2, 0]},
    }
    async with mesh.stream(await mesh.enrol()) as sidecar:
        await sidecar.take()
        await sidecar.socket.send_json({"type": "stats", "records": [record]})
        async with asyncio.timeout(5):
            while not (edges := (await mesh.call("GET", "/v1/status"))[1]["edges"]):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert (edges[0]["requests"], edges[0]["success_ratio"], edges[0]["mtls_ratio"]) == (10, 0.9, 1.0)
        assert edges[0]["denied"] == {"AuthorizationPolicy shop/x": 2}
        forged = {**record, "destination": "shop/web"}
        await sidecar.socket.send_json({"type": "stats", "records": [forged]})
        await sidecar.socket.send_json({"type": "stats", "records": "none"})
        async with asyncio.timeout(5):
            while mesh.running.parts.reports.telemetry.dropped < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert (await mesh.call("GET", "/v1/status"))[1]["edges"] == edges
        assert (await _sidecar(mesh))["state"] == "SYNCED"


async def test_a_stream_ends_with_the_certificate_it_began_with(tmp_path):
    async with plane(tmp_path, certificate_ttl_s=3) as mesh:
        begin = time.monotonic()
        async with mesh.stream(await mesh.enrol()) as sidecar:
            await sidecar.take()
            message = await sidecar.socket.receive(timeout=5)
            assert message.type is aiohttp.WSMsgType.CLOSE
            assert "certificate" in message.extra
            assert time.monotonic() - begin < 5


async def test_a_sidecar_names_where_it_is_scraped_on_this_machine_and_sends_prometheus_nowhere_else(mesh):
    async def target(host):
        async with mesh.stream(await mesh.enrol(WEB, task="w1"), task="w1") as sidecar:
            await sidecar.take()
            hello = {"type": "hello", "held": sidecar.snapshot["version"], "task": "w1", "node": "n1"}
            await sidecar.socket.send_json({**hello, "metrics_port": 15020, "metrics_host": host})
            async with asyncio.timeout(5):
                while not (found := (await mesh.call("GET", "/v1/prometheus/targets"))[1]):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        return found[0]["targets"]

    assert await target("127.9.9.9") == ["127.9.9.9:15020"]
    for other in ("10.0.0.1", "metadata.internal", "169.254.169.254", ""):
        assert await target(other) == ["127.0.0.1:15020"]
