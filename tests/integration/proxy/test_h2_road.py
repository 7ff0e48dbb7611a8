# ruff: noqa: ARG001, E501, SIM117 - rows of bytes, and one signature for all answers
"""HTTP/2 through a sidecar: the bridge to HTTP/1.1 and back, floods, windows, life and end of connections.

The application records every byte that reaches it.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import replace

import pytest

from meshpy.model.endpoint import Endpoint, Protocol
from meshpy.model.resilience import ConnectionPool, RetryPolicy
from proxy.downstream import life
from proxy.http.h2frames import DEFAULT_H2_LIMITS
from tests.helpers.backends import backend, ok, raw_server
from tests.helpers.h2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GET,
    GOAWAY,
    HEADERS,
    PING,
    POST,
    PREFACE,
    PRIORITY,
    SETTINGS,
    H2Client,
    block,
    frame,
    literal,
    request,
    reset,
    settings,
    window,
)
from tests.helpers.ports import free_port
from tests.helpers.sidecars import (
    LOOPBACK,
    Client,
    inbound_snapshot,
    mesh_cluster,
    outbound_snapshot,
    plain_cluster,
    route,
    running,
)

PROTOCOL_ERROR, CALM = 1, 11


@contextlib.asynccontextmanager
async def road(pki, app_port, protocol=Protocol.HTTP, **settings_of):
    """A caller's sidecar before an application in plaintext; yields the port and the sidecar."""
    port = free_port()
    rule = settings_of.pop("rule", {})
    cluster = plain_cluster(app_port, protocol=protocol, **settings_of)
    snapshot = outbound_snapshot(port, {"c": cluster}, (route("c", **rule),))
    async with running(snapshot, pki) as sidecar:
        yield port, sidecar


# -- to an application of HTTP/1.1


async def test_a_request_arrives_as_one_of_http_1_1(pki):
    async with backend(ok(b"hello", headers="X-One: 1\r\nConnection: X-Two\r\nX-Two: 2\r\n")) as app:
        async with road(pki, app.port) as (port, _), await H2Client.connect(port) as client:
            fields = (
                *GET[:2],
                (":path", "/a?b=c"),
                GET[3],
                ("x-test", "1"),
                ("cookie", "a=1"),
                ("cookie", "b=2"),
            )
            await client.send(request(fields=fields))
            answer = await client.answer()
    seen = app.requests[0]
    assert seen.line == "GET /a?b=c HTTP/1.1"
    assert seen.headers("host") == ["api"]
    assert seen.headers("cookie") == ["a=1; b=2"]
    assert seen.headers("x-test") == ["1"]
    assert not seen.headers("transfer-encoding")
    headers = dict(answer.fields)
    assert (answer.status, answer.body) == (200, b"hello")
    assert headers[b"content-length"] == b"5"
    assert headers[b"x-one"] == b"1"
    assert b"connection" not in headers
    assert b"x-two" not in headers


async def test_content_of_unknown_length_is_chunked_with_its_trailers(pki):
    async with backend() as app, road(pki, app.port) as (port, _), await H2Client.connect(port) as client:
        await client.send(
            request(fields=(*POST, ("te", "trailers")), end=False)
            + frame(DATA, b"abc", 0, 1)
            + frame(DATA, b"defg", 0, 1)
            + request(fields=(("x-sum", "7"), ("authorization", "no")))
        )
        assert (await client.answer()).status == 200
        seen = app.requests[0]
        assert seen.headers("transfer-encoding") == ["chunked"]
        assert seen.headers("te") == ["trailers"]
        assert seen.body == b"abcdefg"
        assert b"0\r\nx-sum: 7\r\n\r\n" in app.raw
        assert b"authorization" not in app.raw


async def test_an_announced_length_is_kept(pki):
    async with backend() as app, road(pki, app.port) as (port, _), await H2Client.connect(port) as client:
        await client.send(
            request(fields=(*POST, ("content-length", "4")), end=False) + frame(DATA, b"abcd", END_STREAM, 1)
        )
        assert (await client.answer()).status == 200
        assert app.requests[0].headers("content-length") == ["4"]
        assert app.requests[0].body == b"abcd"


async def test_chunked_answers_and_their_trailers_come_back(pki):
    reply = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 5\r\nSet-Cookie: no=1\r\n\r\n"
    async with (
        backend(reply) as app,
        road(pki, app.port) as (port, _),
        await H2Client.connect(port) as client,
    ):
        await client.send(request())
        answer = await client.answer()
        assert (answer.body, answer.trailers) == (b"abcde", [(b"x-sum", b"5")])
        assert b"transfer-encoding" not in dict(answer.fields)


async def test_an_answer_to_head_has_a_length_and_no_content(pki):
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    async with (
        backend(reply) as app,
        road(pki, app.port) as (port, _),
        await H2Client.connect(port) as client,
    ):
        await client.send(request(fields=((":method", "HEAD"), *GET[1:])))
        answer = await client.answer()
        assert (answer.status, answer.body, answer.is_complete) == (200, b"", True)
        assert dict(answer.fields)[b"content-length"] == b"1000"


async def test_interim_answers_come_first(pki):
    reply = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + ok()
    async with (
        backend(reply) as app,
        road(pki, app.port) as (port, _),
        await H2Client.connect(port) as client,
    ):
        await client.send(request())
        while 1 not in client.streams:
            await client.turn()
        assert client.streams[1].status == 103
        assert (await client.answer()).status == 200


async def test_who_expects_100_continue_gets_it(pki):
    async with backend() as app, road(pki, app.port) as (port, _), await H2Client.connect(port) as client:
        await client.send(request(fields=(*POST, ("expect", "100-continue")), end=False))
        while 1 not in client.streams:
            await client.turn()
        assert client.streams[1].status == 100
        await client.send(frame(DATA, b"abc", END_STREAM, 1))
        assert (await client.answer()).status == 200
        assert app.requests[0].body == b"abc"


async def test_a_broken_answer_is_no_complete_one(pki):
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")

    async with raw_server(serve) as app, road(pki, app) as (port, _), await H2Client.connect(port) as client:
        await client.send(request())
        answer = await client.answer()
        assert answer.status == 200
        assert not answer.is_complete
        assert answer.reset is not None


async def test_many_requests_share_a_connection_and_none_waits_for_another(pki):
    slow = asyncio.Event()

    async def reply(seen):
        if seen.target == "/slow":
            await slow.wait()
        return ok(seen.target.encode())

    async with (
        backend(reply) as app,
        road(pki, app.port) as (port, _),
        await H2Client.connect(port) as client,
    ):
        for number in range(1, 101, 2):
            path = "/slow" if number == 1 else f"/{number}"
            await client.send(request(number, (*GET[:2], (":path", path), GET[3])))
        for number in range(3, 101, 2):
            assert (await client.answer(number)).body == b"/%d" % number
        slow.set()
        assert (await client.answer(1)).body == b"/slow"


async def test_a_request_given_up_is_given_up_at_the_application(pki):
    begun, ended = asyncio.Event(), asyncio.Event()

    async def serve(reader, _writer):
        await reader.readuntil(b"\r\n\r\n")
        begun.set()
        await reader.read()
        ended.set()

    async with raw_server(serve) as app, road(pki, app) as (port, _), await H2Client.connect(port) as client:
        await client.send(request())
        async with asyncio.timeout(5):
            await begun.wait()
            await client.send(reset(1))
            await ended.wait()


async def test_nothing_malformed_crosses_the_bridge(pki):
    """Names and values that would become lines of their own in HTTP/1.1, in every place they can stand."""
    poisons = [
        "\r\nx-evil: 1",
        "\nx-evil: 1",
        "\r\n\r\nGET /evil HTTP/1.1\r\nhost: x\r\n\r\n",
        "\0evil",
        "\x7fevil",
    ]
    places = [":method", ":path", ":authority", "x-name", "x-value", "cookie", "te", "content-type"]
    async with backend() as app, road(pki, app.port) as (port, _):
        for poison in poisons:
            for place in places:
                fields = dict(POST)
                if place == "x-name":
                    fields["x" + poison] = "1"
                elif place == "x-value":
                    fields["x"] = "1" + poison
                else:
                    fields[place] = fields.get(place, "1") + poison
                async with await H2Client.connect(port) as client:
                    await client.send(
                        request(fields=tuple(fields.items()), end=False) + frame(DATA, b"", END_STREAM, 1)
                    )
                    answer = await client.answer()
                    assert answer.reset is not None or answer.status >= 400, (place, poison)
        assert b"evil" not in app.raw
        assert not app.requests


# -- to an application of HTTP/2


def _answer(stream: int, *frames: bytes, end: bool = False) -> bytes:
    return frame(
        HEADERS, block((":status", "200")), END_HEADERS | (END_STREAM if end else 0), stream
    ) + b"".join(frames)


@contextlib.asynccontextmanager
async def h2_app(answer):
    """An application of raw HTTP/2: `answer(kind, flags, stream, payload)` gives the bytes to write."""
    seen: list[tuple[int, int, int, bytes]] = []

    async def serve(reader, writer):
        assert await reader.readexactly(len(PREFACE)) == PREFACE
        writer.write(frame(SETTINGS) + frame(SETTINGS, b"", 1))
        while True:
            head = await reader.readexactly(9)
            payload = await reader.readexactly(int.from_bytes(head[:3], "big"))
            each = (head[3], head[4], int.from_bytes(head[5:], "big"), payload)
            seen.append(each)
            writer.write(answer(*each) or b"")
            await writer.drain()

    async with raw_server(serve) as port:
        yield port, seen


async def test_a_client_of_http_1_1_reaches_an_application_of_http_2(pki):
    def answer(kind, flags, stream, _payload):
        if kind == HEADERS:
            trailers = frame(HEADERS, block(("x-sum", "2")), END_HEADERS | END_STREAM, stream)
            return _answer(stream, frame(DATA, b"hello", 0, stream), trailers)
        return None

    async with h2_app(answer) as (app, seen), road(pki, app, Protocol.HTTP2) as (port, _):
        async with await Client.connect(port) as client:
            answered = await client.get("/x", headers="Connection: X-Hop\r\nX-Hop: 1\r\nX-Case: 1\r\n")
            assert (answered.status, answered.body) == (200, b"hello")
            assert answered.headers["transfer-encoding"] == "chunked"
            assert (await client.get("/y")).status == 200
    heads = [payload for kind, _, _, payload in seen if kind == HEADERS]
    assert len(heads) == 2
    assert b"x-case" in heads[0]
    assert b"x-hop" not in heads[0]


async def test_both_sides_speak_http_2(pki):
    def answer(kind, flags, stream, _payload):
        return _answer(stream, frame(DATA, b"hi", END_STREAM, stream)) if kind == HEADERS else None

    async with h2_app(answer) as (app, seen), road(pki, app, Protocol.HTTP2) as (port, _):
        async with await H2Client.connect(port) as client:
            for number in range(1, 60, 2):
                await client.send(request(number))
            for number in range(1, 60, 2):
                assert (await client.answer(number)).body == b"hi"
    assert [stream for kind, _, stream, _ in seen if kind == HEADERS] == list(range(1, 60, 2))


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("word", ["refused", "goaway"])
async def test_what_the_application_did_not_take_is_sent_again(pki, method, word):
    """REFUSED_STREAM and GOAWAY say that nothing was done: any method may be repeated."""
    refusals = [1]

    def answer(kind, flags, stream, _payload):
        if kind != HEADERS:
            return None
        if refusals:
            refusals.pop()
            return reset(stream, 7) if word == "refused" else frame(GOAWAY, bytes(8))
        return _answer(stream, end=True)

    rule = {"retry": RetryPolicy()}
    async with h2_app(answer) as (app, seen), road(pki, app, Protocol.HTTP2, rule=rule) as (port, _):
        async with await H2Client.connect(port) as client:
            await client.send(request(fields=((":method", method), *GET[1:])))
            assert (await client.answer()).status == 200
    assert [kind for kind, *_ in seen].count(HEADERS) == 2


async def test_a_post_that_was_reset_otherwise_is_not_sent_again(pki):
    def answer(kind, flags, stream, _payload):
        return reset(stream, 2) if kind == HEADERS else None

    rule = {"retry": RetryPolicy()}
    async with h2_app(answer) as (app, seen), road(pki, app, Protocol.HTTP2, rule=rule) as (port, _):
        async with await H2Client.connect(port) as client:
            await client.send(request(fields=POST))
            assert (await client.answer()).status == 503
    assert [kind for kind, *_ in seen].count(HEADERS) == 1


MALFORMED_ANSWERS = {
    "no status": frame(HEADERS, block(("x", "1")), END_HEADERS | END_STREAM, 1),
    "a status of four digits": frame(HEADERS, block((":status", "2000")), END_HEADERS | END_STREAM, 1),
    "101": frame(HEADERS, block((":status", "101")), END_HEADERS, 1),
    "LF in a value": frame(HEADERS, block((":status", "200"), ("x", "1\nevil: 1")), END_HEADERS | END_STREAM, 1),
    "an upper-case name": frame(HEADERS, block((":status", "200"), ("X", "1")), END_HEADERS | END_STREAM, 1),
    "connection": frame(HEADERS, block((":status", "200"), ("connection", "x")), END_HEADERS | END_STREAM, 1),
    "transfer-encoding": frame(HEADERS, block((":status", "200"), ("transfer-encoding", "chunked")), END_HEADERS, 1),
    "content before a head": frame(DATA, b"x", END_STREAM, 1),
    "a length and no content": frame(HEADERS, block((":status", "200"), ("content-length", "3")), END_HEADERS | END_STREAM, 1),
    "more than 100 fields": frame(HEADERS, block((":status", "200"), *((f"x{n}", "1") for n in range(101))), END_HEADERS, 1),
    "a flood of interim answers": frame(HEADERS, block((":status", "103")), END_HEADERS, 1) * 9,
}  # fmt: skip


@pytest.mark.parametrize("reply", MALFORMED_ANSWERS.values(), ids=MALFORMED_ANSWERS.keys())
async def test_a_malformed_answer_becomes_502(pki, reply):
    def answer(kind, flags, stream, _payload):
        return reply if kind == HEADERS else None

    async with h2_app(answer) as (app, _), road(pki, app, Protocol.HTTP2) as (port, _):
        async with await Client.connect(port) as client:
            assert (await client.get()).status == 502


async def test_an_upstream_that_allows_no_stream_after_goaway_harms_nothing(pki):
    """70: SETTINGS_MAX_CONCURRENT_STREAMS=0 (CVE-2021-32780); the next request finds a new connection."""
    served = []

    def answer(kind, flags, stream, _payload):
        if kind != HEADERS:
            return None
        served.append(stream)
        return _answer(stream, end=True) + (
            frame(GOAWAY, b"\0\0\0\1" + bytes(4)) + settings((3, 0)) if len(served) == 1 else b""
        )

    async with h2_app(answer) as (app, _), road(pki, app, Protocol.HTTP2) as (port, _):
        async with await H2Client.connect(port) as client:
            await client.send(request(1))
            assert (await client.answer(1)).status == 200
            await client.send(request(3))
            assert (await client.answer(3)).status == 200
    assert served == [1, 1]


async def test_limits_of_the_upstream_and_of_the_policy_hold(pki):
    """Two streams a connection: five requests at once need three connections."""
    everybody = asyncio.Event()
    open_streams = []

    def answer(kind, flags, stream, _payload):
        if kind == HEADERS:
            open_streams.append(stream)
            if len(open_streams) == 5:
                everybody.set()
        return

    pool = ConnectionPool(max_concurrent_streams=2)
    async with h2_app(answer) as (app, _), road(pki, app, Protocol.HTTP2, pool=pool) as (port, _):
        async with await H2Client.connect(port) as client:
            await client.send(b"".join(request(number) for number in (1, 3, 5, 7, 9)))
            async with asyncio.timeout(5):
                await everybody.wait()
    assert sorted(open_streams) == [1, 1, 1, 3, 3]


# -- floods


FLOODS = {
    "61 rapid reset": (b"".join(request(2 * n + 1) + reset(2 * n + 1) for n in range(3000)), 600),
    "62 CONTINUATION": (frame(HEADERS, block(*GET), 0, 1) + frame(CONTINUATION, literal("x", "y" * 900), 0, 1) * 3000, 0),
    "62 CONTINUATION without content": (frame(HEADERS, block(*GET), 0, 1) + frame(CONTINUATION, b"", 0, 1) * 3000, 0),
    "63 SETTINGS": (settings((4, 70000)) * 20000, 0),
    "63 PING": (frame(PING, b"12345678") * 20000, 0),
    "64 empty DATA": (request(fields=POST, end=False) + frame(DATA, b"", 0, 1) * 2000, 1),
    "64 PRIORITY": (frame(PRIORITY, b"\0\0\0\0\1", 0, 1) * 20000, 0),
    "64 WINDOW_UPDATE": (window(0, 1) * 20000, 0),
    "64 RST_STREAM": (request() + reset(1) * 20000, 1),
    "64 unknown frames": (frame(0xF0, b"x" * 8) * 20000, 0),
    "resets that we are made to send (CVE-2025-8671)": (
        b"".join(request(2 * n + 1, POST, end=False) + window(2 * n + 1, 0) for n in range(3000)), 600
    ),
}  # fmt: skip


@pytest.mark.parametrize(("flood", "most_requests"), FLOODS.values(), ids=FLOODS.keys())
async def test_a_flood_ends_its_connection_and_no_other(pki, flood, most_requests):
    async with backend() as app, road(pki, app.port) as (port, _), await H2Client.connect(port) as other:
        async with await H2Client.connect(port) as client:
            sending = asyncio.create_task(client.send(flood))
            await client.until_closed()
            with contextlib.suppress(ConnectionError):
                await sending
        assert not client.goaways or client.goaways[-1][1] == CALM
        assert len(app.requests) <= most_requests
        await other.send(request())
        assert (await other.answer()).status == 200


async def test_an_hpack_bomb_costs_its_request_alone(pki):
    """65: 60,000 references to an entry of 3,900 octets are answered 431; the connection goes on."""
    async with backend() as app, road(pki, app.port) as (port, _), await H2Client.connect(port) as client:
        entry = b"\x40\x01x" + b"\x7f\xbd\x1d" + b"y" * 3900
        await client.send(frame(HEADERS, block(*GET) + entry, END_HEADERS | END_STREAM, 1))
        assert (await client.answer(1)).status == 200
        parts = [b"\xbe" * 15000] * 4
        bomb = frame(HEADERS, block(*GET), END_STREAM, 3) + b"".join(
            frame(CONTINUATION, part, 0, 3) for part in parts[:-1]
        )
        await client.send(bomb + frame(CONTINUATION, parts[-1], END_HEADERS, 3))
        assert (await client.answer(3)).status == 431
        await client.send(request(5))
        assert (await client.answer(5)).status == 200
        assert len(app.requests) == 2


async def test_a_window_that_never_opens_ends_the_stream(pki, monkeypatch):
    """69: content that the client does not take is not kept for ever."""
    monkeypatch.setattr(life, "STALL_S", 0.2)
    monkeypatch.setattr(life, "CHECK_S", 0.1)
    async with backend(ok(b"x" * 1000)) as app, road(pki, app.port) as (port, _):
        hello = PREFACE + settings((4, 0))
        async with await H2Client.connect(port, hello=hello) as client:
            await client.send(request())
            answer = await client.answer()
            assert not answer.is_complete
            assert answer.reset is not None


async def test_a_connection_that_never_speaks_is_closed(pki, monkeypatch):
    monkeypatch.setattr(life, "HEAD_TIMEOUT_S", 0.2)
    monkeypatch.setattr(life, "CHECK_S", 0.1)
    async with backend() as app, road(pki, app.port) as (port, _):
        for hello in (PREFACE, PREFACE + frame(SETTINGS) + frame(HEADERS, block(*GET), 0, 1)):
            async with await H2Client.connect(port, hello=hello) as client:
                async with asyncio.timeout(5):
                    await client.until_closed()


async def test_a_slow_application_stops_the_client_by_its_window(pki):
    """Back-pressure through the bridge: what is not read there is not taken here."""
    go_on, ended = asyncio.Event(), asyncio.Event()

    async def serve(reader, _writer):
        await reader.readuntil(b"\r\n\r\n")
        await go_on.wait()
        while await reader.read(1 << 20) != b"":
            pass
        ended.set()

    async with raw_server(serve) as app, road(pki, app) as (port, _), await H2Client.connect(port) as client:
        await client.send(request(fields=POST, end=False))
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 200_000_000:
                if sent + 16384 <= DEFAULT_H2_LIMITS.stream_window + client.granted[1]:
                    await client.send(frame(DATA, bytes(16384), 0, 1))
                    sent += 16384
                else:
                    await client.turn(timeout_s=0.5)
        assert 0 < sent < 20_000_000
        before = client.granted[1]
        go_on.set()
        while client.granted[1] == before:
            await client.turn()
        client.writer.close()
        async with asyncio.timeout(5):
            await ended.wait()


# -- life


@pytest.mark.parametrize("size", [1, 3, 9, 24, 60])
async def test_the_preface_may_come_in_pieces(pki, size):
    async with backend() as app, road(pki, app.port) as (port, _):
        data = PREFACE + frame(SETTINGS) + request()
        async with await H2Client.connect(port, hello=b"") as client:
            for start in range(0, len(data), size):
                await client.send(data[start : start + size])
                await asyncio.sleep(0)
            assert (await client.answer()).status == 200


async def test_the_preface_is_no_second_request(pki):
    """Only a connection that begins with it becomes one of HTTP/2."""
    async with backend() as app, road(pki, app.port) as (port, _), await Client.connect(port) as client:
        assert (await client.get()).status == 200
        await client.send(PREFACE + frame(SETTINGS) + request())
        assert (await client.head())[0] == 505


async def test_draining_says_goaway_twice_and_serves_what_is_on_its_way(pki):
    async with (
        backend() as app,
        road(pki, app.port) as (port, sidecar),
        await H2Client.connect(port) as client,
    ):
        await client.send(request(1))
        assert (await client.answer(1)).status == 200
        drain = asyncio.create_task(sidecar.drain(5))
        while not client.goaways:
            await client.turn()
        await client.send(request(3))
        assert (await client.answer(3)).status == 200
        await client.until_closed()
        await drain
        assert client.goaways[0][0] == 2**31 - 1
        assert client.goaways[-1] in ((1, 0), (3, 0))


@contextlib.asynccontextmanager
async def pair(pki, app_port, pool, protocol=Protocol.HTTP):
    """Two sidecars over mTLS; yields the port to call."""
    port, mesh_port = free_port(), free_port()
    inbound = inbound_snapshot(80, (Endpoint(LOOPBACK, app_port),), protocol=protocol)
    cluster = replace(mesh_cluster(mesh_port, protocol=protocol), pool=pool)
    async with (
        running(inbound, pki, mesh_port=mesh_port) as api,
        running(outbound_snapshot(port, {"c": cluster}), pki) as web,
    ):
        yield port, web, api


@pytest.mark.parametrize(
    ("pool", "client_is_h2", "between"),
    [
        (ConnectionPool(), False, "Downstream"),
        (ConnectionPool(), True, "Downstream"),
        (ConnectionPool(h2_upgrade=True), False, "H2Downstream"),
        (ConnectionPool(use_client_protocol=True), True, "H2Downstream"),
        (ConnectionPool(use_client_protocol=True), False, "Downstream"),
    ],
)
async def test_what_sidecars_speak_to_each_other_follows_the_policy(pki, pool, client_is_h2, between):
    """Of a port declared `http`: HTTP/1.1, unless upgraded, or the client's own protocol."""
    async with backend() as app, pair(pki, app.port, pool) as (port, _, api):
        if client_is_h2:
            async with await H2Client.connect(port) as client:
                await client.send(request())
                assert (await client.answer()).status == 200
                kinds = {type(down).__name__ for down in api.shared.open}
        else:
            async with await Client.connect(port) as client:
                assert (await client.get()).status == 200
                kinds = {type(down).__name__ for down in api.shared.open}
        assert kinds == {between}
        assert app.requests[0].headers("x-forwarded-client-cert")


async def test_websockets_pass_where_http_1_1_is_spoken(pki):
    """An upgrade asked for over an upgraded road is not passed on: HTTP/2 has none."""
    async with backend() as app, pair(pki, app.port, ConnectionPool(h2_upgrade=True)) as (port, _, _):
        async with await Client.connect(port) as client:
            answer = await client.get(headers="Connection: Upgrade\r\nUpgrade: websocket\r\n")
            assert answer.status == 200
        assert not re.search(rb"(?i)\r\nupgrade:", app.raw)
