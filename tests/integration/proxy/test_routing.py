"""Routes at run time, by real sidecars: mirrors, CORS, gRPC faults, answers of a route, WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import itertools

import aiohttp
import pytest
from aiohttp import web

from meshpy.model.authz import Authorization, NetworkAction, NetworkPolicy, NetworkRule, PeerMatch, Tier
from meshpy.model.match import Exact, Prefix, RequestMatch
from meshpy.model.names import ServiceName
from meshpy.model.resilience import RetryOn, RetryPolicy
from meshpy.model.route import (
    Cors,
    Destination,
    DirectResponse,
    Fault,
    Forward,
    HeaderOps,
    Mirror,
    Redirect,
    Rewrite,
    RouteRule,
)
from proxy import mirror as mirror_module
from proxy.mirror import shadow_authority
from proxy.series import prometheus_text
from tests.helpers.backends import Backend, backend, ok, raw_server
from tests.helpers.pki import MeshPki
from tests.helpers.ports import free_port
from tests.helpers.sidecars import (
    API,
    Client,
    LogLines,
    outbound_snapshot,
    plain_cluster,
    route,
    running,
)

SHOP = "https://shop.example"


@contextlib.asynccontextmanager
async def road(pki: MeshPki, clusters: dict[str, int], *rules: RouteRule, **options):
    """A sidecar before several applications, `c` first; yields the caller's port and the sidecar."""
    port = free_port()
    known = {name: plain_cluster(number, name=name) for name, number in clusters.items()}
    authorization = options.pop("authorization", None)
    snapshot = outbound_snapshot(port, known, rules, authorization=authorization)
    async with running(snapshot, pki, **options) as sidecar:
        yield port, sidecar


def mirrored(pct: float = 100.0, to: str = "m", **settings) -> RouteRule:
    settings.setdefault("mirrors", (Mirror(Destination(to, host="catalog", services=(API,)), pct),))
    return route("c", **settings)


async def received(app: Backend, count: int) -> None:
    for _ in range(500):
        if len(app.requests) >= count:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{len(app.requests)} of {count} requests arrived")


async def outcomes(sidecar, wanted: int) -> dict[str, int]:
    """What became of the copies, once `wanted` of them are over."""
    telemetry = sidecar.telemetry
    for _ in range(500):
        if sum(telemetry.mirrors.values()) >= wanted:
            break
        await asyncio.sleep(0.01)
    return {outcome: count for (_, outcome), count in telemetry.mirrors.items()}


@pytest.mark.parametrize(
    ("authority", "shadow"),
    [
        (b"api", b"api-shadow"),
        (b"api.shop:8080", b"api.shop-shadow:8080"),
        (b"10.0.0.1:80", b"10.0.0.1:80"),
        (b"[::1]:80", b"[::1]:80"),
    ],
)
def test_a_copy_s_host_ends_in_shadow(authority, shadow):
    assert shadow_authority(authority) == shadow


async def test_a_mirror_gets_the_request_as_the_destination_does_under_a_shadow_name(pki):
    rule = mirrored(
        rewrite=Rewrite(uri="/v2/"),
        matches=(RequestMatch(path=Prefix("/")),),
        request_headers=HeaderOps(set=(("x-set", "1"),)),
    )
    async with (
        backend() as app,
        backend(ok(status="500 No")) as shadow,
        road(pki, {"c": app.port, "m": shadow.port}, rule) as (port, sidecar),
        await Client.connect(port) as client,
    ):
        answer = await client.post("/items?q=1", b"body")
        assert (answer.status, answer.body) == (200, b"hello")
        await client.send(
            b"POST / HTTP/1.1\r\nHost: api\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
        )
        assert (await client.answer()).status == 200
        await received(shadow, 2)
        assert await outcomes(sidecar, 2) == {"5xx": 2}
        assert 'meshpy_mirrored_requests_total{destination_service="catalog",outcome="5xx"} 2' in (
            prometheus_text(sidecar.telemetry)
        )
    real, copy = app.requests[0], shadow.requests[0]
    assert (
        (copy.target, copy.method, copy.body)
        == (real.target, "POST", b"body")
        == ("/v2/items?q=1", "POST", b"body")
    )
    assert (copy.headers("host"), real.headers("host")) == (["api-shadow"], ["api"])
    assert copy.headers("x-set") == ["1"]
    assert copy.headers("x-request-id") == real.headers("x-request-id")
    assert shadow.requests[1].body == b"abc"


async def test_a_mirror_s_share_is_drawn(pki):
    """The lots of nine requests, each after that of its destination, fall 0.1, 0.9, 0.9, 0.1, …"""
    draws = itertools.cycle([0.9, 0.1, 0.9])
    async with (
        backend() as app,
        backend() as shadow,
        road(pki, {"c": app.port, "m": shadow.port}, mirrored(50.0), draw=lambda: next(draws)) as (
            port,
            sidecar,
        ),
        await Client.connect(port) as client,
    ):
        for _ in range(9):
            assert (await client.get()).status == 200
        assert await outcomes(sidecar, 3) == {"2xx": 3}
    assert len(shadow.requests) == 3


@pytest.mark.parametrize("fault", ["refused", "silent", "garbage", "reset"])
async def test_whatever_becomes_of_a_copy_the_request_knows_nothing(pki, fault, monkeypatch):
    monkeypatch.setattr(mirror_module, "DEADLINE_S", 0.3)
    gate = asyncio.Event()

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        if fault == "garbage":
            writer.write(b"not http at all\r\n\r\n")
            await writer.drain()
        elif fault == "silent":
            await gate.wait()
        else:
            writer.transport.abort()

    async with backend() as app, raw_server(serve) as broken:
        shadow = free_port() if fault == "refused" else broken
        async with (
            road(pki, {"c": app.port, "m": shadow}, mirrored()) as (port, sidecar),
            await Client.connect(port) as client,
        ):
            for _ in range(3):
                assert (await client.get()).status == 200
            found = await outcomes(sidecar, 3)
        gate.set()
    assert (
        found
        == {
            "refused": {"connect_failure": 3},
            "silent": {"timeout": 3},
            "garbage": {"refused": 3},
            "reset": {"reset": 3},
        }[fault]
    )


async def test_copies_are_bounded_and_long_requests_are_not_copied(pki, monkeypatch):
    monkeypatch.setattr(mirror_module, "MAX_COPIES", 2)
    gate = asyncio.Event()

    async def wait(_request):
        await gate.wait()
        return ok()

    async with (
        backend() as app,
        backend(wait) as shadow,
        road(pki, {"c": app.port, "m": shadow.port}, mirrored()) as (port, sidecar),
        await Client.connect(port) as client,
    ):
        assert (await client.post("/", b"x" * 70_000)).status == 200
        for _ in range(5):
            assert (await client.get()).status == 200
        assert await outcomes(sidecar, 4) == {"too_large": 1, "dropped": 3}
        gate.set()
        assert await outcomes(sidecar, 6) == {"too_large": 1, "dropped": 3, "2xx": 2}
    assert len(app.requests) == 6


async def test_a_mirror_that_egress_rules_forbid_gets_nothing(pki):
    forbidden = ServiceName("shop", "secret")
    deny = NetworkRule("r", NetworkAction.DENY, PeerMatch(services=frozenset({forbidden})))
    allow = NetworkRule("a", NetworkAction.ALLOW)
    authorization = Authorization(
        egress=(Tier("t", (NetworkPolicy("NetworkPolicy shop/p", (deny, allow)),), NetworkAction.DENY),)
    )
    rule = mirrored(mirrors=(Mirror(Destination("m", host="secret", services=(forbidden,))),))
    async with (
        backend() as app,
        backend() as shadow,
        road(pki, {"c": app.port, "m": shadow.port}, rule, authorization=authorization) as (port, sidecar),
        await Client.connect(port) as client,
    ):
        assert (await client.get()).status == 200
        assert await outcomes(sidecar, 1) == {"denied": 1}
    assert not shadow.requests


async def test_cors_preflights_are_answered_and_answers_are_marked(pki):
    policy = Cors((Exact(SHOP),), ("GET", "PUT"), max_age_s=60)
    theirs = ok(headers="Access-Control-Allow-Origin: *\r\nVary: Accept\r\n")
    async with (
        backend(theirs) as app,
        road(pki, {"c": app.port}, route("c", cors=policy)) as (port, _),
        await Client.connect(port) as client,
    ):
        asked = f"Origin: {SHOP}\r\nAccess-Control-Request-Method: PUT\r\n"
        preflight = await client.get("/x", "OPTIONS", asked)
        assert (preflight.status, preflight.headers["access-control-allow-origin"]) == (200, SHOP)
        assert preflight.headers["access-control-allow-methods"] == "GET,PUT"
        assert preflight.headers["access-control-max-age"] == "60"
        assert not app.requests
        await client.send(f"GET / HTTP/1.1\r\nHost: api\r\nOrigin: {SHOP}\r\n\r\n".encode())
        raw = await client.reader.readuntil(b"\r\n\r\n")
        await client.reader.readexactly(5)
        assert raw.lower().count(b"access-control-allow-origin") == 1
        assert f"access-control-allow-origin: {SHOP}".encode() in raw
        assert b"Vary: Accept" in raw
        assert b"vary: Origin" in raw
        plain = await client.get()
        assert plain.headers["access-control-allow-origin"] == "*"
        foreign = await client.get("/", headers="Origin: https://evil.example\r\n")
        assert foreign.headers["access-control-allow-origin"] == "*"


async def test_answers_in_the_destination_s_place_carry_the_grant_too(pki):
    rule = route("c", cors=Cors((Exact(SHOP),)))
    async with road(pki, {"c": free_port()}, rule) as (port, _), await Client.connect(port) as client:
        answer = await client.get("/", headers=f"Origin: {SHOP}\r\n")
        assert (answer.status, answer.headers["access-control-allow-origin"]) == (503, SHOP)


async def test_a_grpc_abort_is_a_grpc_status_for_grpc_callers_and_http_for_others(pki):
    fault = Fault(abort_status=503, abort_pct=100.0, abort_grpc_status=14)
    async with (
        backend() as app,
        road(pki, {"c": app.port}, route("c", fault=fault)) as (port, _),
        await Client.connect(port) as client,
    ):
        grpc = await client.post("/s/M", b"", headers="Content-Type: application/grpc+proto\r\n")
        assert (grpc.status, grpc.headers["grpc-status"]) == (200, "14")
        assert grpc.headers["content-type"] == "application/grpc"
        async with await Client.connect(port) as other:
            assert (await other.get()).status == 503
    assert not app.requests


async def test_retries_stay_on_behind_a_fault(pki):
    """Istio turns them off with a client-side fault; here a delayed request is still retried."""
    answers = iter([None, ok()])
    fault, retry = Fault(delay_s=0.05, delay_pct=100.0), RetryPolicy(1, on=frozenset({RetryOn.RESET}))
    rule = route("c", fault=fault, retry=retry)
    async with (
        backend(lambda _request: next(answers)) as app,
        road(pki, {"c": app.port}, rule) as (port, _),
        await Client.connect(port) as client,
    ):
        assert (await client.get()).status == 200
    assert len(app.requests) == 2


async def test_answers_of_a_route_carry_its_response_headers(pki):
    ops = HeaderOps(set=(("x-by", "mesh"), ("content-type", "image/png")))
    rules = (
        RouteRule(
            Redirect(uri="/new", code=307), matches=(RequestMatch(path=Exact("/old")),), response_headers=ops
        ),
        RouteRule(DirectResponse(200, body_base64="iVBORw=="), response_headers=ops),
    )
    async with (
        backend() as app,
        road(pki, {"c": app.port}, *rules) as (port, _),
        await Client.connect(port) as client,
    ):
        moved = await client.get("/old")
        assert (moved.status, moved.headers["location"], moved.headers["x-by"]) == (
            307,
            "http://api/new",
            "mesh",
        )
        image = await client.get("/logo")
        assert (image.body, image.headers["content-type"]) == (b"\x89PNG", "image/png")


async def test_an_invalid_backend_takes_its_share_with_500(pki):
    bad = Destination("", 1, host="gone", refusal="no service is called gone")
    rule = RouteRule(Forward((Destination("c", 1, services=(API,)), bad)))
    draws = iter([0.1, 0.9] * 20)
    log = LogLines()
    async with (
        backend() as app,
        road(pki, {"c": app.port}, rule, draw=lambda: next(draws), log=log.log) as (port, _),
        await Client.connect(port) as client,
    ):
        statuses = {(await client.get()).status for _ in range(6)}
        assert statuses == {200, 500}
        assert "invalid_backend" in {line["response_code_details"] for line in log.lines()}


async def test_a_websocket_client_talks_through_a_route_and_its_timeout_does_not_end_it(pki):
    async def echo(request):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                await socket.send_str(message.data.upper())
            else:
                await socket.send_bytes(message.data[::-1])
        return socket

    app = web.Application()
    app.router.add_get("/v2/ws", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port_of_app = site._server.sockets[0].getsockname()[1]
    rule = mirrored(
        to="c", timeout_s=0.2, rewrite=Rewrite(uri="/v2/"), matches=(RequestMatch(path=Prefix("/")),)
    )
    try:
        async with (
            road(pki, {"c": port_of_app}, rule) as (port, sidecar),
            aiohttp.ClientSession() as session,
            session.ws_connect(f"http://127.0.0.1:{port}/ws") as socket,
        ):
            for turn in range(4):
                await socket.send_str(f"hello {turn}")
                assert await socket.receive_str(timeout=3) == f"HELLO {turn}"
                await asyncio.sleep(0.15)
            data = bytes(range(256)) * 1000
            await socket.send_bytes(data)
            assert await socket.receive_bytes(timeout=3) == data[::-1]
            assert len(sidecar.shared.splices) == 1
            assert not sidecar.telemetry.mirrors  # nobody wants a tunnel twice
            await socket.close()
    finally:
        await runner.cleanup()
