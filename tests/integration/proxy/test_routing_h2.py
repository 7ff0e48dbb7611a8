"""The same routes for callers that speak HTTP/2: mirrors, CORS, gRPC faults, answers of a route."""

from __future__ import annotations

import asyncio
import contextlib

from meshpy.model.endpoint import Protocol
from meshpy.model.match import Exact, RequestMatch
from meshpy.model.route import Cors, Destination, DirectResponse, Fault, HeaderOps, Mirror, RouteRule
from tests.helpers.backends import backend, ok
from tests.helpers.h2 import DATA, END_STREAM, GET, POST, H2Client, frame, request
from tests.helpers.ports import free_port
from tests.helpers.sidecars import (
    API,
    inbound_snapshot,
    mesh_cluster,
    outbound_snapshot,
    plain_cluster,
    route,
    running,
)

SHOP = "https://shop.example"


@contextlib.asynccontextmanager
async def road(pki, clusters, *rules):
    """A sidecar before applications of HTTP/1.1; yields a client of HTTP/2 and the sidecar."""
    port = free_port()
    known = {name: plain_cluster(number, name=name) for name, number in clusters.items()}
    async with (
        running(outbound_snapshot(port, known, rules), pki) as sidecar,
        await H2Client.connect(port) as client,
    ):
        yield client, sidecar


async def copied(sidecar, count):
    for _ in range(500):
        if sum(sidecar.telemetry.mirrors.values()) >= count:
            break
        await asyncio.sleep(0.01)
    return {outcome: number for (_, outcome), number in sidecar.telemetry.mirrors.items()}


MIRROR = (Mirror(Destination("m", host="catalog", services=(API,))),)


async def test_a_copy_of_a_stream_has_its_content(pki):
    async with (
        backend() as app,
        backend() as shadow,
        road(pki, {"c": app.port, "m": shadow.port}, route("c", mirrors=MIRROR)) as (client, sidecar),
    ):
        await client.send(
            request(fields=POST, end=False) + frame(DATA, b"ab", 0, 1) + frame(DATA, b"cd", END_STREAM, 1)
        )
        assert (await client.answer()).status == 200
        await client.send(request(3))
        assert (await client.answer(3)).status == 200
        assert await copied(sidecar, 2) == {"2xx": 2}
    assert [(r.method, r.body, r.headers("host")) for r in shadow.requests] == [
        ("POST", b"abcd", ["api-shadow"]),
        ("GET", b"", ["api-shadow"]),
    ]


async def test_copies_go_to_a_sidecar_that_speaks_http_2_with_the_caller(pki):
    mesh, port, caller = free_port(), free_port(), free_port()
    async with backend() as app, backend() as shadow:
        behind = inbound_snapshot(port, plain_cluster(shadow.port).endpoints)
        cluster = mesh_cluster(mesh, port, protocol=Protocol.HTTP2)
        clusters = {"c": plain_cluster(app.port, name="c"), cluster.name: cluster}
        rule = route("c", mirrors=(Mirror(Destination(cluster.name, host="api", services=(API,))),))
        async with (
            running(behind, pki, mesh_port=mesh),
            running(outbound_snapshot(caller, clusters, (rule,)), pki) as sidecar,
            await H2Client.connect(caller) as client,
        ):
            await client.send(request(fields=POST, end=False) + frame(DATA, b"body", END_STREAM, 1))
            assert (await client.answer()).status == 200
            assert await copied(sidecar, 1) == {"2xx": 1}
    assert [(r.method, r.body) for r in shadow.requests] == [("POST", b"body")]


async def test_preflights_and_grants(pki):
    rule = route("c", cors=Cors((Exact(SHOP),), ("PUT",)))
    async with (
        backend(ok(headers="Access-Control-Allow-Origin: *\r\n")) as app,
        road(pki, {"c": app.port}, rule) as (client, _),
    ):
        asked = (("origin", SHOP), ("access-control-request-method", "PUT"))
        await client.send(request(fields=((":method", "OPTIONS"), *GET[1:], *asked)))
        preflight = dict((await client.answer()).fields)
        assert (preflight[b":status"], preflight[b"access-control-allow-methods"]) == (b"200", b"PUT")
        assert not app.requests
        await client.send(request(3, (*GET, ("origin", SHOP))))
        fields = (await client.answer(3)).fields
        assert [value for name, value in fields if name == b"access-control-allow-origin"] == [SHOP.encode()]


async def test_a_grpc_abort_is_a_status_of_grpc(pki):
    fault = Fault(abort_status=503, abort_pct=100.0, abort_grpc_status=14)
    async with backend() as app, road(pki, {"c": app.port}, route("c", fault=fault)) as (client, _):
        await client.send(request(fields=(*POST, ("content-type", "application/grpc"), ("te", "trailers"))))
        answer = await client.answer()
        fields = dict(answer.fields)
        assert (answer.status, fields[b"grpc-status"]) == (200, b"14")
        await client.send(request(3))
        assert (await client.answer(3)).status == 503
    assert not app.requests


async def test_a_direct_answer_has_the_rule_s_headers(pki):
    ops = HeaderOps(set=(("x-by", "mesh"), ("content-type", "image/png")))
    rule = RouteRule(
        DirectResponse(200, body_base64="iVBORw=="), matches=(RequestMatch(),), response_headers=ops
    )
    async with backend() as app, road(pki, {"c": app.port}, rule) as (client, _):
        await client.send(request())
        answer = await client.answer()
    fields = dict(answer.fields)
    assert (answer.body, fields[b"x-by"], fields[b"content-type"]) == (b"\x89PNG", b"mesh", b"image/png")
