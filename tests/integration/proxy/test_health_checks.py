"""Active health checks: who is left out, who comes back, and what an app that is gone answers."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from dataclasses import replace

import pytest

from meshpy.model.endpoint import Endpoint, Protocol
from meshpy.model.resilience import CheckProtocol, ConnectionPool, HealthCheck
from meshpy.model.snapshot import Snapshot
from proxy.decide.health import grpc_request, is_serving, note
from proxy.decide.outlier import Health
from proxy.series import prometheus_text
from tests.helpers.backends import Received, backend, ok, raw_server
from tests.helpers.h2 import DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, SETTINGS, block, frame
from tests.helpers.ports import free_port
from tests.helpers.sidecars import (
    LOOPBACK,
    Client,
    inbound_snapshot,
    mesh_cluster,
    outbound_snapshot,
    plain_cluster,
    running,
)

QUICK = HealthCheck(
    CheckProtocol.HTTP, interval_s=0.1, timeout_s=0.5, unhealthy_threshold=2, path="/healthz", panic_pct=0.0
)


async def until(condition) -> None:
    for _ in range(250):
        if condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it has not come true within 5 s")


async def test_an_endpoint_that_fails_its_checks_is_left_out_and_comes_back(pki):
    status = ["503 Service Unavailable"]

    def reply(request: Received) -> bytes:
        return ok(b"", status[0]) if request.target == "/healthz" else ok(b"sick")

    async with backend(reply) as sick, backend(ok(b"well")) as well:
        port = free_port()
        cluster = plain_cluster(sick.port, well.port, name="c", health_check=QUICK)
        async with running(outbound_snapshot(port, {"c": cluster}), pki) as sidecar:
            upstream = sidecar.clusters.live["c"]
            await until(lambda: upstream.hosts[0].health.is_failing)
            async with await Client.connect(port) as client:
                assert {(await client.get()).body for _ in range(20)} == {b"well"}
            text = prometheus_text(sidecar.telemetry)
            assert 'meshpy_cluster_hosts{cluster="c",state="failing"} 1' in text
            assert 'meshpy_health_checks_total{cluster="c",result="failure"}' in text
            status[0] = "200 OK"
            await until(lambda: not upstream.hosts[0].health.is_failing)
            async with await Client.connect(port) as client:
                assert {(await client.get()).body for _ in range(30)} == {b"well", b"sick"}
            status[0] = "503 Service Unavailable"
            await until(lambda: upstream.hosts[0].health.is_failing)
            await sidecar.apply(outbound_snapshot(port, {"c": replace(cluster, health_check=None)}))
            assert not upstream.hosts[0].health.is_failing
        checks = [request for request in sick.requests if request.target == "/healthz"]
        assert checks[0].headers("user-agent") == ["meshpy-health-check"]


async def test_when_every_endpoint_fails_there_is_503_or_panic(pki):
    dead = free_port()
    for panic, flag in ((0.0, b"no healthy upstream"), (50.0, b"upstream connect error")):
        port = free_port()
        check = replace(QUICK, protocol=CheckProtocol.TCP, panic_pct=panic)
        cluster = plain_cluster(dead, name="c", health_check=check)
        async with running(outbound_snapshot(port, {"c": cluster}), pki) as sidecar:
            await until(lambda live=sidecar: live.clusters.live["c"].hosts[0].health.is_failing)
            async with await Client.connect(port) as client:
                answer = await client.get()
            assert answer.status == 503
            assert answer.body.startswith(flag)


async def test_a_check_that_hangs_is_a_failure(pki):
    async def reply(_request: Received) -> bytes:
        await asyncio.sleep(2)
        return ok()

    async with backend(reply) as app:
        cluster = plain_cluster(app.port, name="c", health_check=replace(QUICK, timeout_s=0.1))
        async with running(outbound_snapshot(free_port(), {"c": cluster}), pki) as sidecar:
            await until(lambda: sidecar.clusters.live["c"].hosts[0].health.is_failing)


async def test_a_full_pool_says_nothing_of_an_endpoint(pki):
    async def reply(_request: Received) -> bytes:
        await asyncio.sleep(1)
        return ok()

    async with backend(reply) as app:
        port = free_port()
        pool = ConnectionPool(max_connections=1)
        cluster = plain_cluster(app.port, name="c", health_check=replace(QUICK, timeout_s=0.1), pool=pool)
        async with (
            running(outbound_snapshot(port, {"c": cluster}), pki, draw=lambda: 0.999) as sidecar,
            await Client.connect(port) as client,
        ):
            busy = asyncio.get_running_loop().create_task(client.get())
            await asyncio.sleep(0.7)
            assert not sidecar.clusters.live["c"].hosts[0].health.is_failing
            assert (await busy).status == 200


def inbound(app_port: int, protocol: Protocol = Protocol.HTTP) -> Snapshot:
    return inbound_snapshot(80, (Endpoint(LOOPBACK, app_port),), protocol=protocol)


@pytest.mark.parametrize("protocol", [CheckProtocol.HTTP, CheckProtocol.TCP])
async def test_checks_cross_the_mesh_as_this_workload(pki, protocol):
    is_http = protocol is CheckProtocol.HTTP
    spoken = Protocol.HTTP if is_http else Protocol.TCP
    mesh = free_port()
    async with contextlib.AsyncExitStack() as stack:
        app = await stack.enter_async_context(backend(ok()))
        gone = free_port()
        api = await stack.enter_async_context(running(inbound(app.port, spoken), pki, mesh_port=mesh))
        cluster = replace(mesh_cluster(mesh, protocol=spoken), health_check=replace(QUICK, protocol=protocol))
        web = await stack.enter_async_context(
            running(outbound_snapshot(free_port(), {cluster.name: cluster}), pki)
        )
        upstream = web.clusters.live[cluster.name]
        await until(lambda: upstream.stats.health_checks["success"] >= 2)
        if is_http:
            assert app.requests[0].headers("x-forwarded-client-cert")[0].endswith("ns/shop/sa/web")
        await api.apply(replace(inbound(gone, spoken), version="gone"))
        await until(lambda: upstream.hosts[0].health.is_failing)


async def grpc_server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, serving: list[int]) -> None:
    await reader.readexactly(len(PREFACE))
    writer.write(frame(SETTINGS))
    while True:
        high, low, kind, flags, stream = struct.unpack(">HBBBL", await reader.readexactly(9))
        payload = await reader.readexactly(high << 8 | low)
        if kind == SETTINGS and not flags:
            writer.write(frame(SETTINGS, flags=1))
        if kind == DATA and flags & END_STREAM:
            assert payload == grpc_request("shop.Cart")
            head = block((":status", "200"), ("content-type", "application/grpc"))
            writer.write(frame(HEADERS, head, END_HEADERS, stream))
            writer.write(frame(DATA, b"\0\0\0\0\x02\x08" + bytes(serving), 0, stream))
            writer.write(frame(HEADERS, block(("grpc-status", "0")), END_HEADERS | END_STREAM, stream))


async def test_a_grpc_server_is_asked_for_its_health(pki):
    serving = [1]
    async with raw_server(lambda reader, writer: grpc_server(reader, writer, serving)) as app:
        check = replace(QUICK, protocol=CheckProtocol.GRPC, service="shop.Cart")
        cluster = replace(plain_cluster(app, name="c", health_check=check), protocol=Protocol.GRPC)
        async with running(outbound_snapshot(free_port(), {"c": cluster}), pki) as sidecar:
            upstream = sidecar.clusters.live["c"]
            await until(lambda: upstream.stats.health_checks["success"] >= 2)
            assert not upstream.hosts[0].health.is_failing
            serving[0] = 2
            await until(lambda: upstream.hosts[0].health.is_failing)
            serving[0] = 1
            await until(lambda: not upstream.hosts[0].health.is_failing)


async def test_an_app_without_an_address_that_answers_is_503_for_its_callers_and_no_black_hole(pki):
    mesh, call = free_port(), free_port()
    name = mesh_cluster(mesh)
    snapshot = inbound_snapshot(80, ())
    unknown = {key: replace(each, dns="app.invalid", dns_port=80) for key, each in snapshot.clusters.items()}
    async with (
        running(replace(snapshot, clusters=unknown), pki, mesh_port=mesh) as api,
        running(outbound_snapshot(call, {name.name: name}), pki),
    ):
        for body in (b"no healthy upstream", b"upstream connect error"):
            async with asyncio.timeout(3), await Client.connect(call) as client:
                answer = await client.get()
            assert answer.status == 503
            assert answer.body.startswith(body)
            await api.apply(inbound(free_port()))


@pytest.mark.parametrize(
    ("results", "states"),
    [
        ([False] * 3, [False, False, True]),
        ([False, True, False, False, False], [False, False, False, False, True]),
        ([False] * 3 + [True, True], [False, False, True, True, False]),
        ([False] * 3 + [True, False, True], [False, False, True, True, True, True]),
    ],
)
def test_so_many_results_in_a_row_change_the_state(results, states):
    check = HealthCheck(CheckProtocol.TCP, unhealthy_threshold=3, healthy_threshold=2)
    health = Health()
    found = []
    for is_good in results:
        note(health, check, is_good=is_good)
        found.append(health.is_failing)
    assert found == states


def test_grpc_s_messages():
    assert grpc_request("") == b"\0\0\0\0\0"
    assert grpc_request("a") == b"\0\0\0\0\x03\x0a\x01a"
    assert is_serving(b"\0\0\0\0\x02\x08\x01", b"0")
    assert not is_serving(b"\0\0\0\0\x02\x08\x02", b"0")
    assert not is_serving(b"\0\0\0\0\x02\x08\x01", b"12")
    assert not is_serving(b"", b"0")
