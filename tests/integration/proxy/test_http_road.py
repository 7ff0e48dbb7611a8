"""The plaintext road: what a client sees and what the application receives, byte for byte."""

from __future__ import annotations

import asyncio
import contextlib
import re

import pytest

from meshpy.model.match import Prefix, RequestMatch
from meshpy.model.route import DirectResponse, Fault, HeaderOps, Redirect, Rewrite, RouteRule
from tests.helpers.backends import Received, backend, ok, raw_server
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


@contextlib.asynccontextmanager
async def road(pki: MeshPki, app_port: int, *rules: RouteRule, log: LogLines | None = None):
    """A sidecar before one application; yields the port where the caller finds it."""
    port = free_port()
    snapshot = outbound_snapshot(port, {"c": plain_cluster(app_port, name="c")}, rules)
    async with running(snapshot, pki, **({"log": log.log} if log else {})) as sidecar:
        yield port, sidecar


async def test_a_connection_serves_many_requests_over_one_upstream_connection(pki):
    async with backend() as app, road(pki, app.port) as (port, _), await Client.connect(port) as client:
        for number in range(5):
            assert (await client.get(f"/{number}")).body == b"hello"
    assert [request.target for request in app.requests] == ["/0", "/1", "/2", "/3", "/4"]
    assert app.connections == 1


async def test_pipelined_requests_are_answered_in_turn(pki):
    async with (
        backend(lambda request: ok(request.target.encode())) as app,
        road(pki, app.port) as (port, _),
        await Client.connect(port) as client,
    ):
        count = 200
        await client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: api\r\n\r\n" % n for n in range(count)))
        assert [(await client.answer()).body for _ in range(count)] == [b"/%d" % n for n in range(count)]


async def test_pipelined_refusals_do_not_recurse(pki):
    rule = RouteRule(DirectResponse(204))
    async with backend() as app, road(pki, app.port, rule) as (port, _), await Client.connect(port) as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: api\r\n\r\n" * 3000)
        for _ in range(3000):
            assert (await client.answer()).status == 204


async def test_content_is_chunked_both_ways(pki):
    reply = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
    async with backend(reply) as app, road(pki, app.port) as (port, _), await Client.connect(port) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: api\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await asyncio.sleep(0.02)
        await client.send(b"4;x=y\r\ndefg\r\n0\r\n\r\n")
        answer = await client.answer()
        assert (answer.status, answer.body) == (200, b"hello world")
        assert (await client.get()).status == 200
    assert app.requests[0].body == b"abcdefg"
    assert b"x=y" not in app.raw


async def test_a_response_until_close_becomes_chunked_and_the_client_stays_connected(pki):
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\n\r\nuntil the end")

    async with raw_server(serve) as app, road(pki, app) as (port, _), await Client.connect(port) as client:
        first, second = await client.get(), await client.get()
    assert first.headers["transfer-encoding"] == "chunked"
    assert first.body == second.body == b"until the end"


async def test_http_1_0_clients_get_an_answer_that_ends_with_the_connection(pki):
    reply = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    async with backend(reply) as app, road(pki, app.port) as (port, _), await Client.connect(port) as client:
        await client.send(b"GET / HTTP/1.0\r\nHost: api\r\n\r\n")
        raw = await client.reader.read()
    head, _, body = raw.partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert b"close" in head.lower()
    assert body == b"hello"


async def test_expect_100_continue_reaches_the_application_and_its_100_the_client(pki):
    async with backend() as app, road(pki, app.port) as (port, _), await Client.connect(port) as client:
        await client.send(
            b"POST / HTTP/1.1\r\nHost: api\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
        )
        status, _ = await client.head()
        assert status == 100
        await client.send(b"body")
        assert (await client.answer()).status == 200
    assert app.requests[0].body == b"body"


async def test_head_204_and_304_have_no_content_and_keep_the_connection(pki):
    def reply(request: Received) -> bytes:
        if request.method == "HEAD":
            return b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
        status = request.target.strip("/")
        return f"HTTP/1.1 {status} X\r\n\r\n".encode()

    async with backend(reply) as app, road(pki, app.port) as (port, _), await Client.connect(port) as client:
        head = await client.get("/", method="HEAD")
        assert head.headers["content-length"] == "1000"
        assert (await client.get("/204")).status == 204
        assert (await client.get("/304")).status == 304
        assert (await client.get("/", method="HEAD")).status == 200


async def test_an_upgrade_becomes_a_tunnel(pki):
    async def serve(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"upgrade: websocket" in head.lower()
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nfirst"
        )
        while data := await reader.read(100):
            writer.write(data.upper())

    log = LogLines()
    async with (
        raw_server(serve) as app,
        road(pki, app, log=log) as (port, sidecar),
        await Client.connect(port) as client,
    ):
        await client.send(
            b"GET /ws HTTP/1.1\r\nHost: api\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
        )
        status, headers = await client.head()
        assert (status, headers["upgrade"]) == (101, "websocket")
        assert await client.reader.readexactly(5) == b"first"
        for _ in range(3):
            await client.send(b"ping")
            assert await client.reader.readexactly(4) == b"PING"
        client.writer.write_eof()
        assert await client.reader.read() == b""
        await asyncio.sleep(0.05)
        assert not sidecar.shared.splices
        line = log.lines()[0]
        assert (line["response_code"], line["bytes_received"], line["bytes_sent"]) == (101, 12, 17)


async def test_without_101_there_is_no_tunnel(pki):
    async with backend() as app, road(pki, app.port) as (port, _), await Client.connect(port) as client:
        upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n"
        assert (await client.get("/", headers=upgrade)).status == 200
        assert (await client.get("/next")).status == 200
    assert app.requests[1].target == "/next"


async def test_a_switch_that_nobody_asked_for_is_502(pki):
    reply = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: evil\r\nConnection: Upgrade\r\n\r\n"
    async with backend(reply) as app, road(pki, app.port) as (port, _), await Client.connect(port) as client:
        assert (await client.get()).status == 502


async def test_a_client_that_closed_its_sending_side_gets_its_answer(pki):
    async def slow(_request: Received) -> bytes:
        await asyncio.sleep(0.1)
        return ok(b"late")

    async with backend(slow) as app, road(pki, app.port) as (port, _), await Client.connect(port) as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: api\r\n\r\n")
        client.writer.write_eof()
        assert (await client.answer()).body == b"late"


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 100\r\n\r\npart", b"Transfer-Encoding: chunked\r\n\r\n4\r\npart\r\n"]
)
async def test_a_response_that_breaks_off_is_never_a_clean_one(pki, framing):
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n" + framing)
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.transport.abort()

    log = LogLines()
    async with (
        raw_server(serve) as app,
        road(pki, app, log=log) as (port, _),
        await Client.connect(port) as client,
    ):
        await client.send(b"GET / HTTP/1.1\r\nHost: api\r\n\r\n")
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError, ValueError)):
            await client.answer()
        assert log.lines()[0]["response_flags"] == "UC"


async def test_a_broken_response_resets_a_client_that_reads_until_close(pki):
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)

    async with raw_server(serve) as app, road(pki, app) as (port, _), await Client.connect(port) as client:
        await client.send(b"GET / HTTP/1.0\r\nHost: api\r\n\r\n")
        with pytest.raises(ConnectionError):
            await client.reader.read()


async def test_an_early_response_is_delivered_and_the_connection_ends(pki):
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ok(b"no thanks", "413 Content Too Large"))
        await reader.read()

    async with raw_server(serve) as app, road(pki, app) as (port, _), await Client.connect(port) as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: api\r\nContent-Length: 1000000\r\n\r\nbegin")
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (413, "close")
        assert await client.is_closed()


async def test_a_client_that_leaves_cancels_the_request_upstream(pki):
    gone = asyncio.Event()

    async def serve(reader, _writer):
        await reader.readuntil(b"\r\n\r\n")
        await reader.read()
        gone.set()

    log = LogLines()
    async with raw_server(serve) as app, road(pki, app, log=log) as (port, sidecar):
        client = await Client.connect(port)
        await client.send(b"GET / HTTP/1.1\r\nHost: api\r\n\r\n")
        await asyncio.sleep(0.05)
        client.writer.transport.abort()
        async with asyncio.timeout(5):
            await gone.wait()
        await asyncio.sleep(0.02)
        assert log.lines()[0]["response_flags"] == "DC"
        assert sidecar.clusters.live["c"].active_requests == 0


async def test_large_content_passes_with_back_pressure(pki):
    size = 8 * 1024 * 1024
    async with (
        backend(lambda request: ok(request.body)) as app,
        road(pki, app.port) as (port, _),
        await Client.connect(port) as client,
    ):
        body = bytes(range(256)) * (size // 256)
        sending = asyncio.get_running_loop().create_task(client.post("/", body))
        async with asyncio.timeout(10):
            answer = await sending
        assert answer.body == body


async def test_fields_of_one_hop_end_here_and_the_mesh_writes_its_own(pki):
    headers = (
        "Connection: x-hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n"
        "X-Forwarded-Client-Cert: URI=spiffe://evil\r\nx_forwarded_client_cert: evil\r\n"
        "X-Meshpy-Anything: 1\r\nX-Request-Id: mine\r\nTraceparent: 00-"
        + "a" * 32
        + "-"
        + "b" * 16
        + "-00\r\n"
    )
    async with backend() as app, road(pki, app.port) as (port, _), await Client.connect(port) as client:
        await client.get("/", headers=headers)
        await client.get("/", headers="traceparent: garbage\r\n")
    first, second = app.requests
    for name in ("x-hop", "connection", "keep-alive", "proxy-connection", "x-forwarded-client-cert"):
        assert first.headers(name) == []
    assert b"evil" not in first.head
    assert b"x-meshpy" not in first.head.lower()
    assert first.headers("x-request-id") == ["mine"]
    assert re.fullmatch("00-" + "a" * 32 + "-(?!b{16})[0-9a-f]{16}-00", first.headers("traceparent")[0])
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]", second.headers("traceparent")[0])
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", second.headers("x-request-id")[0])


@pytest.mark.parametrize(
    "payload",
    [
        b"POST / HTTP/1.1\r\nHost: api\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
        b"POST / HTTP/1.1\r\nHost: api\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nHost: api\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: api\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\nHost: api\n\n",
        b"GET / HTTP/1.1\r\nHost: api\r\nX: a\r\n b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /%00 HTTP/1.1\r\nHost: api\r\n\r\n",
        b"CONNECT api:80 HTTP/1.1\r\nHost: api:80\r\n\r\n",
        b"get / HTTP/1.1\r\nHost: api\r\n\r\n",
    ],
)
async def test_what_two_servers_could_read_differently_leaves_no_byte(pki, payload):
    async with backend() as app, road(pki, app.port) as (port, _), await Client.connect(port) as client:
        await client.send(payload)
        status, headers = await client.head()
        assert 400 <= status < 600
        assert headers["connection"] == "close"
        await client.reader.readexactly(int(headers["content-length"]))
        assert await client.is_closed()
    assert app.raw == b""


async def test_an_invalid_request_after_a_valid_one_is_refused_after_its_answer(pki):
    async with backend() as app, road(pki, app.port) as (port, _), await Client.connect(port) as client:
        await client.send(b"GET /ok HTTP/1.1\r\nHost: api\r\n\r\nGET / HTTP/9.9\r\n\r\n")
        assert (await client.answer()).status == 200
        assert (await client.answer()).status in (400, 505)
        assert await client.is_closed()
    assert [request.target for request in app.requests] == ["/ok"]


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 102 Processing\r\n\r\n" * 50,
    ],
)
async def test_an_upstream_that_breaks_the_protocol_is_502_and_not_used_again(pki, reply):
    async with (
        backend(reply) as app,
        road(pki, app.port, route("c")) as (port, sidecar),
        await Client.connect(port) as client,
    ):
        answer = await client.get()
        assert answer.status == 502
        assert not sidecar.clusters.live["c"].hosts[0].idle


async def test_rewrites_redirects_direct_answers_and_header_rules(pki):
    async with backend(ok(headers="X-Gone: 1\r\n")) as app:
        rules = (
            RouteRule(Redirect(uri="/new", code=302), matches=(RequestMatch(path=Prefix("/old")),)),
            RouteRule(DirectResponse(418, "teapot"), matches=(RequestMatch(path=Prefix("/tea")),)),
            route(
                "c",
                rewrite=Rewrite(uri="/v2/", authority="other.example"),
                matches=(RequestMatch(path=Prefix("/v1/")),),
                request_headers=HeaderOps(set=(("X-Set", "1"),), add=(("X-Add", "2"),), remove=("x-secret",)),
                response_headers=HeaderOps(remove=("x-gone",), add=(("X-Seen", "yes"),)),
            ),
        )
        async with road(pki, app.port, *rules) as (port, _), await Client.connect(port) as client:
            redirect = await client.get("/old")
            assert (redirect.status, redirect.headers["location"]) == (302, "http://api/new")
            tea = await client.get("/tea")
            assert (tea.status, tea.body) == (418, b"teapot")
            answer = await client.get("/v1/items?q=1", headers="X-Secret: s\r\nX-Set: old\r\n")
            assert answer.headers["x-seen"] == "yes"
            assert "x-gone" not in answer.headers
            missing = await client.get("/elsewhere")
            assert missing.status == 404
    seen = app.requests[0]
    assert seen.target == "/v2/items?q=1"
    assert seen.headers("host") == ["other.example"]
    assert (seen.headers("x-set"), seen.headers("x-add"), seen.headers("x-secret")) == (["1"], ["2"], [])


async def test_faults_delay_and_abort_at_the_caller(pki):
    rules = (
        route(
            "c", fault=Fault(abort_status=555, abort_pct=100.0), matches=(RequestMatch(path=Prefix("/a")),)
        ),
        route("c", fault=Fault(delay_s=0.2, delay_pct=100.0)),
    )
    log = LogLines()
    async with (
        backend() as app,
        road(pki, app.port, *rules, log=log) as (port, _),
        await Client.connect(port) as client,
    ):
        assert (await client.get("/a")).status == 555
        started = asyncio.get_running_loop().time()
        assert (await client.post("/slow", b"body")).status == 200
        assert asyncio.get_running_loop().time() - started >= 0.2
        assert [line["response_flags"] for line in log.lines()] == ["FI", "DI"]
    assert [request.body for request in app.requests] == [b"body"]


async def test_an_answer_of_the_mesh_to_a_post_without_content_keeps_the_connection(pki):
    """`Content-Length: 0` leaves nothing of the request to come."""
    rule = RouteRule(DirectResponse(403, "no"))
    async with backend() as app, road(pki, app.port, rule) as (port, _), await Client.connect(port) as client:
        for _ in range(2):
            answer = await client.post("/", b"")
            assert (answer.status, "connection" in answer.headers) == (403, False)
        await client.send(b"POST / HTTP/1.1\r\nHost: api\r\nContent-Length: 5\r\n\r\n")
        assert (await client.answer()).headers["connection"] == "close"


async def test_every_line_of_the_log_is_json_whatever_strangers_send(pki):
    log = LogLines()
    async with (
        backend() as app,
        road(pki, app.port, log=log) as (port, _),
        await Client.connect(port) as client,
    ):
        await client.get('/"quoted\\', headers='User-Agent: "ua\\\xe9"\r\n')
        lines = log.lines()
    assert lines[0]["user_agent"].startswith('"ua\\')
    assert lines[0]["path"] == "/%22quoted/"


async def test_a_stalled_head_ends_with_408(pki, monkeypatch):
    monkeypatch.setattr("proxy.downstream.life.HEAD_TIMEOUT_S", 0.1)
    monkeypatch.setattr("proxy.downstream.life.CHECK_S", 0.05)
    async with backend() as app, road(pki, app.port) as (port, _), await Client.connect(port) as client:
        await client.send(b"GET / HTTP/1.1\r\nHo")
        assert (await client.answer()).status == 408
        assert await client.is_closed()


async def test_no_endpoint_is_503_uh_and_a_refused_port_503_uf(pki):
    dead = free_port()
    log = LogLines()
    async with road(pki, dead, route("c"), log=log) as (port, sidecar), await Client.connect(port) as client:
        assert (await client.get()).status == 503
        sidecar.clusters.live["c"].set_endpoints(())
        answer = await client.get()
        assert (answer.status, answer.body) == (503, b"no healthy upstream")
        assert [line["response_flags"] for line in log.lines()] == ["UF", "UH"]
