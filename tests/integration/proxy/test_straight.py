"""The straight road (`exchange.straight`) does what the general road does, told by bytes, log and numbers."""

from __future__ import annotations

import re

import pytest

import proxy
from meshpy.model.match import HeaderMatch, Prefix, Present, RequestMatch
from meshpy.model.route import Destination, Forward, HeaderOps, RouteRule
from proxy.plan import Plan
from tests.helpers.backends import Received, backend, ok
from tests.helpers.pki import MeshPki
from tests.helpers.ports import free_port
from tests.helpers.sidecars import (
    Client,
    LogLines,
    outbound_snapshot,
    plain_cluster,
    route,
    running,
)

_IDS = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f-]{17}|00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]")
_OWN = ("start_time", "duration", "upstream_service_time", "request_id", "trace_id", "upstream_host")
_ENDS = ("downstream_local_address", "downstream_remote_address", "upstream_cluster")

REQUESTS = {
    "small": b"GET /a?b=c HTTP/1.1\r\nHost: api\r\nUser-Agent: x\r\n\r\n",
    "empty answer": b"GET /empty HTTP/1.1\r\nHost: api\r\n\r\n",
    "spoofed fields": b"GET / HTTP/1.1\r\nHost: api\r\nX-Meshpy-A: 1\r\nx_real_ip: 1\r\nX-Real-IP: 2\r\n\r\n",
    "own ids": b"GET / HTTP/1.1\r\nHost: api\r\nX-Request-Id: r\"1\r\ntraceparent: bad\r\n\r\n",
    "nominated field": b"GET / HTTP/1.1\r\nHost: api\r\nConnection: X-A\r\nX-A: 1\r\nTE: trailers\r\n\r\n",
    "mesh fields answered": b"GET /spoof HTTP/1.1\r\nHost: api\r\n\r\n",
    "client error": b"GET /404 HTTP/1.1\r\nHost: api\r\n\r\n",
    "server error": b"GET /500 HTTP/1.1\r\nHost: api\r\n\r\n",
    "upstream closes": b"GET /close HTTP/1.1\r\nHost: api\r\n\r\n",
    "chunked answer": b"GET /chunked HTTP/1.1\r\nHost: api\r\n\r\n",
    "last": b"GET / HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n",
}  # fmt: skip


def reply(request: Received) -> bytes:
    kind = request.target.strip("/")
    if kind in ("404", "500"):
        return ok(b"no", f"{kind} X")
    if kind == "chunked":
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n"
    extra = {"spoof": "x-meshpy-denied-by: me\r\nx-meshpy-not-sent: 1\r\n", "close": "Connection: close\r\n"}
    return ok(b"" if kind == "empty" else b"hello", headers=extra.get(kind, ""))


_UNUSUAL = (route("c", request_headers=HeaderOps(remove=("x-nobody-sends-it",))),)
"""Changes nothing, and is not for the straight road."""


async def _transcript(pki: MeshPki, rules: tuple[RouteRule, ...]) -> list[object]:
    """What the application received, what the client read, what was logged and counted."""
    port, log = free_port(), LogLines()
    async with backend(reply) as app:
        snapshot = outbound_snapshot(port, {"c": plain_cluster(app.port, name="c")}, rules)
        async with running(snapshot, pki, log=log.log) as sidecar, await Client.connect(port) as client:
            answers = []
            for request in REQUESTS.values():
                await client.send(request)
                answers.append(await client.answer())
            assert await client.is_closed()
            upstream = sidecar.clusters.live["c"]
            counted = [
                (edge.responses, edge.bytes_received, edge.bytes_sent)
                for edge in sidecar.telemetry.edges.values()
            ]
            busy = (upstream.active_requests, [host.active for host in upstream.hosts])
        received = _IDS.sub(b"ID", bytes(app.raw))
    lines = [
        {key: value for key, value in line.items() if key not in (*_OWN, *_ENDS)} for line in log.lines()
    ]
    return [received, answers, lines, counted, busy, app.connections]


async def test_both_roads_send_log_and_count_alike(pki, monkeypatch):
    taken = []
    monkeypatch.setattr("proxy.downstream.h1.launch", _noting(taken))
    straight = await _transcript(pki, (route("c"),))
    assert len(taken) == (0 if proxy.is_compiled else len(REQUESTS)), "compiled calls cannot be watched"
    taken.clear()
    general = await _transcript(pki, _UNUSUAL)
    assert not taken
    assert straight == general


def _noting(taken):
    from proxy.exchange.straight import launch

    def noting(*arguments):
        taken.append(1)
        launch(*arguments)

    return noting


@pytest.mark.skipif(proxy.is_compiled, reason="a compiled plan takes no stand-ins")
@pytest.mark.parametrize("field", ["fault", "copies", "request_ops", "reply_headers"])
def test_a_plan_with_anything_unusual_is_not_straight(field):
    assert Plan(None, "s").is_straight
    assert not Plan(None, "s", **{field: "anything"}).is_straight


async def test_a_settled_route_ends_with_its_snapshot(pki):
    """What is kept of a route is its snapshot's; other paths and hosts are routed by themselves."""
    port = free_port()
    async with backend(ok(b"one")) as one, backend(ok(b"two")) as two:
        clusters = {"a": plain_cluster(one.port, name="a"), "b": plain_cluster(two.port, name="b")}
        to_b = route("b", matches=(RequestMatch(path=Prefix("/b")),))
        snapshot = outbound_snapshot(port, clusters, (to_b, route("a")))
        async with running(snapshot, pki) as sidecar, await Client.connect(port) as client:
            bodies = [(await client.get(path)).body for path in ("/", "/", "/b", "/b", "/", "/b/x")]
            assert bodies == [b"one", b"one", b"two", b"two", b"one", b"two"]
            await sidecar.apply(outbound_snapshot(port, clusters, (route("b"),)))
            assert (await client.get("/")).body == b"two"


async def test_a_route_that_asks_headers_or_weights_is_never_settled(pki):
    port, draws = free_port(), iter([0.1, 0.9] * 20)
    async with backend(ok(b"one")) as one, backend(ok(b"two")) as two:
        clusters = {"a": plain_cluster(one.port, name="a"), "b": plain_cluster(two.port, name="b")}
        canary = route("b", matches=(RequestMatch(headers=(HeaderMatch("x-canary", Present()),)),))
        by_header = outbound_snapshot(port, clusters, (canary, route("a")))
        async with running(by_header, pki) as sidecar, await Client.connect(port) as client:
            bodies = [(await client.get("/", headers=h)).body for h in ("", "x-canary: 1\r\n") * 2]
            assert bodies == [b"one", b"two"] * 2
            sidecar.shared.draw = lambda: next(draws)
            half = Forward((Destination("a", weight=50), Destination("b", weight=50)))
            await sidecar.apply(outbound_snapshot(port, clusters, (RouteRule(half),)))
            assert [(await client.get("/")).body for _ in range(4)] == [b"one", b"two"] * 2
