# ruff: noqa: E501 - one row, one line
"""RFC 9113 by raw frames against a listener: what h2spec asks, written for this proxy.

Each row: the section, what is sent after the connection's preface, and what must come of it: `goaway` and
`reset` name the allowed error codes, `status` an answer, `alive` that the connection goes on.
"""

from __future__ import annotations

import struct

import pytest
import uvloop

from tests.helpers.backends import backend
from tests.helpers.h2 import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GET,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    POST,
    PREFACE,
    PRIORITY,
    PRIORITY_FLAG,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    H2Client,
    block,
    frame,
    literal,
    number,
    request,
    reset,
    settings,
    window,
)
from tests.helpers.pki import mesh_pki
from tests.helpers.ports import free_port
from tests.helpers.sidecars import outbound_snapshot, plain_cluster, running

NO_ERROR, PROTOCOL, INTERNAL, FLOW, _, CLOSED, SIZE, REFUSED, CANCEL, COMPRESSION, _, CALM = range(12)

GOAWAY_, RESET_, STATUS_, ALIVE_ = "goaway", "reset", "status", "alive"

HEAD_END = END_HEADERS | END_STREAM
WITH_LENGTH = (*POST, ("content-length", "4"))


def _with(*fields, base=GET):
    return request(fields=(*base, *fields))


def _without(name):
    return request(fields=tuple(each for each in GET if each[0] != name))


SECTIONS = [
    # -- §4: frames
    ("4.1 an unknown type is ignored", frame(0xFA, b"x" * 8), (ALIVE_,)),
    ("4.1 undefined flags are ignored", frame(PING, b"12345678", 0x16), (ALIVE_,)),
    ("4.1 the reserved bit is ignored", frame(PING, b"12345678", 0, 1 << 31), (ALIVE_,)),
    ("4.2 DATA of the largest size", request(fields=POST, end=False) + frame(DATA, b"x" * 16384, END_STREAM, 1), (STATUS_, 200)),
    ("4.2 DATA beyond it", request(fields=POST, end=False) + frame(DATA, b"x" * 16385, END_STREAM, 1), (GOAWAY_, SIZE)),
    ("4.2 HEADERS beyond it", frame(HEADERS, b"\0" * 16385, HEAD_END, 1), (GOAWAY_, SIZE)),
    ("4.3 a block that is none", frame(HEADERS, b"\x80", HEAD_END, 1), (GOAWAY_, COMPRESSION)),
    ("4.3 PRIORITY within a block", request(flags=0, end=False) + frame(PRIORITY, b"\0\0\0\0\1", 0, 1), (GOAWAY_, PROTOCOL)),
    ("4.3 another stream within a block", request(flags=0, end=False) + request(3), (GOAWAY_, PROTOCOL)),
    # -- §5.1: states
    ("5.1 DATA on an idle stream", frame(DATA, b"x", END_STREAM, 1), (GOAWAY_, PROTOCOL)),
    ("5.1 RST_STREAM on an idle stream", reset(1), (GOAWAY_, PROTOCOL)),
    ("5.1 WINDOW_UPDATE on an idle stream", window(1, 100), (GOAWAY_, PROTOCOL)),
    ("5.1 CONTINUATION on an idle stream", frame(CONTINUATION, block(*GET), END_HEADERS, 1), (GOAWAY_, PROTOCOL)),
    ("5.1 DATA after the end of the stream", request() + frame(DATA, b"x", END_STREAM, 1), (RESET_, CLOSED)),
    ("5.1 HEADERS after the end of the stream", request() + request(), (RESET_, CLOSED)),
    ("5.1 CONTINUATION after the end of the stream", request() + frame(CONTINUATION, b"", END_HEADERS, 1), (GOAWAY_, PROTOCOL)),
    ("5.1 DATA after RST_STREAM", request(fields=POST, end=False) + reset(1) + frame(DATA, b"x", END_STREAM, 1), (RESET_, CLOSED)),
    ("5.1 HEADERS after RST_STREAM", request(fields=POST, end=False) + reset(1) + request(), (GOAWAY_, CLOSED)),
    ("5.1.1 an even number", request(2), (GOAWAY_, PROTOCOL)),
    ("5.1.1 a number below the last", request(5) + request(3), (GOAWAY_, CLOSED)),
    ("5.1.1 numbers may be skipped", request(101), (STATUS_, 200, 101)),
    ("5.1.2 more streams than allowed", b"".join(request(2 * n + 1, POST, end=False) for n in range(101)), (RESET_, REFUSED, 201)),
    ("5.3.1 a stream that depends on itself", frame(HEADERS, struct.pack(">LB", 1, 15) + block(*GET), HEAD_END | PRIORITY_FLAG, 1), (GOAWAY_, PROTOCOL)),
    ("5.3.1 PRIORITY on itself", frame(PRIORITY, struct.pack(">LB", 1, 15), 0, 1), (GOAWAY_, PROTOCOL)),
    ("5.3 HEADERS with a priority", frame(HEADERS, struct.pack(">LB", 0, 15) + block(*GET), HEAD_END | PRIORITY_FLAG, 1), (STATUS_, 200)),
    ("5.5 an unknown frame within a block", request(flags=0, end=False) + frame(0xFA, b"", 0, 1), (GOAWAY_, PROTOCOL)),
    # -- §6: frame definitions
    ("6.1 DATA on stream 0", frame(DATA, b"x", END_STREAM, 0), (GOAWAY_, PROTOCOL)),
    ("6.1 padding", request(fields=POST, end=False) + frame(DATA, b"\3abc\0\0\0", END_STREAM | PADDED, 1), (STATUS_, 200)),
    ("6.1 padding longer than its frame", request(fields=POST, end=False) + frame(DATA, b"\x06x", END_STREAM | PADDED, 1), (GOAWAY_, PROTOCOL)),
    ("6.1 a padded frame without a length", request(fields=POST, end=False) + frame(DATA, b"", END_STREAM | PADDED, 1), (GOAWAY_, SIZE)),
    ("6.2 HEADERS on stream 0", request(0), (GOAWAY_, PROTOCOL)),
    ("6.2 padding", frame(HEADERS, b"\4" + block(*GET) + b"\0" * 4, HEAD_END | PADDED, 1), (STATUS_, 200)),
    ("6.2 padding longer than its frame", frame(HEADERS, b"\xff" + block(*GET), HEAD_END | PADDED, 1), (GOAWAY_, PROTOCOL)),
    ("6.2 a priority cut short", frame(HEADERS, b"\0\0", HEAD_END | PRIORITY_FLAG, 1), (GOAWAY_, SIZE)),
    ("6.3 PRIORITY", frame(PRIORITY, struct.pack(">LB", 0, 15), 0, 1) + request(), (STATUS_, 200)),
    ("6.3 PRIORITY on stream 0", frame(PRIORITY, struct.pack(">LB", 1, 15)), (GOAWAY_, PROTOCOL)),
    ("6.3 PRIORITY of a wrong size", frame(PRIORITY, b"\0" * 4, 0, 1), (GOAWAY_, SIZE)),
    ("6.4 RST_STREAM on stream 0", reset(0), (GOAWAY_, PROTOCOL)),
    ("6.4 RST_STREAM of a wrong size", request(fields=POST, end=False) + frame(RST_STREAM, b"\0\0\0", 0, 1), (GOAWAY_, SIZE)),
    ("6.4 RST_STREAM ends a stream alone", request(fields=POST, end=False) + reset(1), (ALIVE_,)),
    ("6.5 SETTINGS", settings((4, 100)), (ALIVE_,)),
    ("6.5 an acknowledgement with content", frame(SETTINGS, b"\0", ACK), (GOAWAY_, SIZE)),
    ("6.5 SETTINGS on a stream", frame(SETTINGS, b"", 0, 1), (GOAWAY_, PROTOCOL)),
    ("6.5 SETTINGS of a wrong size", frame(SETTINGS, b"\0\0\0"), (GOAWAY_, SIZE)),
    ("6.5.2 ENABLE_PUSH is 0 or 1", settings((2, 2)), (GOAWAY_, PROTOCOL)),
    ("6.5.2 INITIAL_WINDOW_SIZE too large", settings((4, 1 << 31)), (GOAWAY_, FLOW)),
    ("6.5.2 MAX_FRAME_SIZE too small", settings((5, 16383)), (GOAWAY_, PROTOCOL)),
    ("6.5.2 MAX_FRAME_SIZE too large", settings((5, 1 << 24)), (GOAWAY_, PROTOCOL)),
    ("6.5.2 an unknown setting is ignored", settings((0xFF, 1)), (ALIVE_,)),
    ("6.5.3 of two values the last holds", settings((4, 1), (4, 100)) + request(), (STATUS_, 200)),
    ("6.6 PUSH_PROMISE from a client", frame(PUSH_PROMISE, b"\0\0\0\2" + block(*GET), END_HEADERS, 1), (GOAWAY_, PROTOCOL)),
    ("6.7 an acknowledgement that answers nothing", frame(PING, b"12345678", ACK), (ALIVE_,)),
    ("6.7 PING on a stream", frame(PING, b"12345678", 0, 1), (GOAWAY_, PROTOCOL)),
    ("6.7 PING of a wrong size", frame(PING, b"1234567"), (GOAWAY_, SIZE)),
    ("6.8 GOAWAY on a stream", frame(GOAWAY, b"\0" * 8, 0, 1), (GOAWAY_, PROTOCOL)),
    ("6.8 GOAWAY cut short", frame(GOAWAY, b"\0" * 7), (GOAWAY_, SIZE)),
    ("6.9 WINDOW_UPDATE", window(0, 100) + request() + window(1, 100), (STATUS_, 200)),
    ("6.9 the connection's window grows by nothing", window(0, 0), (GOAWAY_, PROTOCOL)),
    ("6.9 a stream's window grows by nothing", request(fields=POST, end=False) + window(1, 0), (RESET_, PROTOCOL)),
    ("6.9 WINDOW_UPDATE of a wrong size", frame(WINDOW_UPDATE, b"\0\0\1"), (GOAWAY_, SIZE)),
    ("6.9.1 the connection's window too large", window(0, 2**31 - 1), (GOAWAY_, FLOW)),
    ("6.9.1 a stream's window too large", request(fields=POST, end=False) + window(1, 2**31 - 1), (RESET_, FLOW)),
    ("6.9.1 a window of one octet at a time", settings((4, 1)) + request() + window(1, 1) * 8, (STATUS_, 200)),
    ("6.9.2 a change of the initial window", settings((4, 0)) + request() + settings((4, 16)), (STATUS_, 200)),
    ("6.9.2 a window below zero", settings((4, 3)) + request() + settings((4, 0)) + window(1, 20), (STATUS_, 200)),
    ("6.9.2 a stream's window grows out of range", request(fields=POST, end=False) + window(1, 2**31 - 65536) + settings((4, 70000)), (GOAWAY_, FLOW)),
    ("6.10 CONTINUATION", frame(HEADERS, block(*GET[:2]), END_STREAM, 1) + frame(CONTINUATION, block(GET[2]), 0, 1) + frame(CONTINUATION, block(GET[3]), END_HEADERS, 1), (STATUS_, 200)),
    ("6.10 CONTINUATION on another stream", frame(HEADERS, block(*GET[:2]), END_STREAM, 1) + frame(CONTINUATION, block(*GET[2:]), END_HEADERS, 3), (GOAWAY_, PROTOCOL)),
    ("6.10 CONTINUATION on stream 0", frame(HEADERS, block(*GET[:2]), END_STREAM, 1) + frame(CONTINUATION, block(*GET[2:]), END_HEADERS, 0), (GOAWAY_, PROTOCOL)),
    ("6.10 CONTINUATION after a whole block", request(fields=POST, end=False) + frame(CONTINUATION, b"", END_HEADERS, 1), (GOAWAY_, PROTOCOL)),
    ("6.10 DATA within a block", frame(HEADERS, block(*GET[:2]), 0, 1) + frame(DATA, b"x", 0, 1), (GOAWAY_, PROTOCOL)),
    ("7 an unknown error code", request(fields=POST, end=False) + reset(1, 0xFF), (ALIVE_,)),
    ("7 GOAWAY with an unknown code", frame(GOAWAY, struct.pack(">LL", 0, 0xFF)), (ALIVE_,)),
    # -- §8: messages
    ("8.1 a second head that does not end the stream", request(fields=POST, end=False) + request(fields=POST, end=False), (RESET_, PROTOCOL)),
    ("8.1 trailers", request(fields=POST, end=False) + frame(DATA, b"x", 0, 1) + request(fields=(("x-sum", "1"),)), (STATUS_, 200)),
    ("8.1 a pseudo-header field in the trailers", request(fields=POST, end=False) + request(fields=((":method", "POST"),)), (RESET_, PROTOCOL)),
    ("8.1 trailers that frame", request(fields=POST, end=False) + request(fields=(("transfer-encoding", "chunked"),)), (RESET_, PROTOCOL)),
    ("8.1.1 content longer than announced", request(fields=WITH_LENGTH, end=False) + frame(DATA, b"12345", END_STREAM, 1), (RESET_, PROTOCOL)),
    ("8.1.1 content shorter than announced", request(fields=WITH_LENGTH, end=False) + frame(DATA, b"123", END_STREAM, 1), (RESET_, PROTOCOL)),
    ("8.1.1 lengths add up over frames", request(fields=WITH_LENGTH, end=False) + frame(DATA, b"12", 0, 1) + frame(DATA, b"34", END_STREAM, 1), (STATUS_, 200)),
    ("8.1.1 content announced and none there", request(fields=WITH_LENGTH), (RESET_, PROTOCOL)),
    ("8.1.1 content cut by trailers", request(fields=WITH_LENGTH, end=False) + request(fields=(("x-sum", "1"),)), (RESET_, PROTOCOL)),
    ("8.1.1 two lengths", request(fields=(*WITH_LENGTH, ("content-length", "4")), end=False), (RESET_, PROTOCOL)),
    ("8.1.1 a length that is no number", request(fields=(*POST, ("content-length", "+4")), end=False), (RESET_, PROTOCOL)),
    ("8.2 a name in upper case", _with(("X-Test", "1")), (RESET_, PROTOCOL)),
    ("8.2 a name that is no token", _with(("x test", "1")), (RESET_, PROTOCOL)),
    ("8.2 an empty name", _with(("", "1")), (RESET_, PROTOCOL)),
    ("8.2 CR LF in a name", _with(("x\r\nhost", "evil")), (RESET_, PROTOCOL)),
    ("8.2.1 CR LF in a value", _with(("x-test", "1\r\nhost: evil")), (RESET_, PROTOCOL)),
    ("8.2.1 LF in a value", _with(("x-test", "1\nhost: evil")), (RESET_, PROTOCOL)),
    ("8.2.1 NUL in a value", _with(("x-test", "1\0")), (RESET_, PROTOCOL)),
    ("8.2.1 a blank before a value", _with(("x-test", " 1")), (RESET_, PROTOCOL)),
    ("8.2.2 Connection", _with(("connection", "keep-alive")), (RESET_, PROTOCOL)),
    ("8.2.2 Keep-Alive", _with(("keep-alive", "1")), (RESET_, PROTOCOL)),
    ("8.2.2 Proxy-Connection", _with(("proxy-connection", "keep-alive")), (RESET_, PROTOCOL)),
    ("8.2.2 Transfer-Encoding", request(fields=(*POST, ("transfer-encoding", "chunked")), end=False), (RESET_, PROTOCOL)),
    ("8.2.2 Upgrade", _with(("upgrade", "websocket")), (RESET_, PROTOCOL)),
    ("8.2.2 HTTP2-Settings", _with(("http2-settings", "AAMAAABk")), (RESET_, PROTOCOL)),
    ("8.2.2 TE: trailers", _with(("te", "trailers")), (STATUS_, 200)),
    ("8.2.2 TE: gzip", _with(("te", "trailers, deflate;q=0.5")), (RESET_, PROTOCOL)),
    ("8.3 an unknown pseudo-header field", request(fields=((":test", "1"), *GET)), (RESET_, PROTOCOL)),
    ("8.3 a response's pseudo-header field", request(fields=((":status", "200"), *GET)), (RESET_, PROTOCOL)),
    ("8.3 a pseudo-header field after a regular one", request(fields=(("x-test", "1"), *GET)), (RESET_, PROTOCOL)),
    ("8.3 :method twice", request(fields=(GET[0], *GET)), (RESET_, PROTOCOL)),
    ("8.3 :path twice", request(fields=(GET[2], *GET)), (RESET_, PROTOCOL)),
    ("8.3 :authority twice", request(fields=(GET[3], *GET)), (RESET_, PROTOCOL)),
    ("8.3.1 no :method", _without(":method"), (RESET_, PROTOCOL)),
    ("8.3.1 no :scheme", _without(":scheme"), (RESET_, PROTOCOL)),
    ("8.3.1 no :path", _without(":path"), (RESET_, PROTOCOL)),
    ("8.3.1 an empty :path", request(fields=(*GET[:2], (":path", ""), GET[3])), (RESET_, PROTOCOL)),
    ("8.3.1 a :path that is no path", request(fields=(*GET[:2], (":path", "x"), GET[3])), (STATUS_, 400)),
    ("8.3.1 a space in :path", request(fields=(*GET[:2], (":path", "/ HTTP/1.1\t"), GET[3])), (RESET_, PROTOCOL)),
    ("8.3.1 a space within :path", request(fields=(*GET[:2], (":path", "/a b"), GET[3])), (STATUS_, 400)),
    ("8.3.1 no authority at all", _without(":authority"), (STATUS_, 400)),
    ("8.3.1 Host alone", request(fields=(*GET[:3], ("host", "api"))), (STATUS_, 200)),
    ("8.3.1 Host and :authority agree", _with(("host", "api")), (STATUS_, 200)),
    ("8.3.1 Host and :authority differ", _with(("host", "other")), (RESET_, PROTOCOL)),
    ("8.3.1 Host twice", request(fields=(*GET[:3], ("host", "api"), ("host", "api"))), (RESET_, PROTOCOL)),
    ("8.3.1 an authority with userinfo", request(fields=(*GET[:3], (":authority", "me@api"))), (STATUS_, 400)),
    ("8.5 CONNECT", request(fields=((":method", "CONNECT"), (":authority", "api:80")), end=False), (STATUS_, 405)),
    ("8.5 CONNECT with a path", request(fields=((":method", "CONNECT"), *GET[1:]), end=False), (RESET_, PROTOCOL)),
    ("RFC 8441 extended CONNECT, which is not offered", request(fields=((":method", "CONNECT"), (":protocol", "websocket"), *GET[1:]), end=False), (RESET_, PROTOCOL)),
    ("9110 §9.1 an unknown method", request(fields=((":method", "BREW"), *GET[1:])), (STATUS_, 501)),
    ("9110 §4.1 a target too long", request(fields=(*GET[:2], (":path", "/" + "a" * 8192), GET[3])), (STATUS_, 414)),
    ("a path that policy could read in two ways", request(fields=(*GET[:2], (":path", "/a%00"), GET[3])), (STATUS_, 400)),
    ("more than 100 fields", request(fields=(*GET, *((f"x-{n}", "1") for n in range(101)))), (STATUS_, 431)),
    ("a head of more than 60 KiB", frame(HEADERS, block(*GET) + literal("x", "y" * 16000), END_STREAM, 1) + b"".join(frame(CONTINUATION, literal(f"x{n}", "y" * 15700), END_HEADERS * (n == 2), 1) for n in range(3)), (STATUS_, 431)),
    # -- RFC 7541
    ("7541 §2.3.3 an index beyond both tables", frame(HEADERS, b"\xc6", HEAD_END, 1), (GOAWAY_, COMPRESSION)),
    ("7541 §2.3.3 a name beyond both tables", frame(HEADERS, b"\x7f\x07\x01x", HEAD_END, 1), (GOAWAY_, COMPRESSION)),
    ("7541 §4.2 a size update after a field", frame(HEADERS, block(*GET) + b"\x20", HEAD_END, 1), (GOAWAY_, COMPRESSION)),
    ("7541 §5.1 a number without end", frame(HEADERS, b"\xff" + b"\xff" * 8, HEAD_END, 1), (GOAWAY_, COMPRESSION)),
    ("7541 §5.2 padding longer than seven bits", frame(HEADERS, block(*GET) + b"\0\x01x\x82\x1f\xff", HEAD_END, 1), (GOAWAY_, COMPRESSION)),
    ("7541 §5.2 padding of zeros", frame(HEADERS, block(*GET) + b"\0\x01x\x81\x18", HEAD_END, 1), (GOAWAY_, COMPRESSION)),
    ("7541 §5.2 the end symbol within a text", frame(HEADERS, block(*GET) + b"\0\x01x\x84\xff\xff\xff\xff", HEAD_END, 1), (GOAWAY_, COMPRESSION)),
    ("7541 §6.1 index 0", frame(HEADERS, b"\x80", HEAD_END, 1), (GOAWAY_, COMPRESSION)),
    ("7541 §6.3 a table larger than offered", frame(HEADERS, number(4097, 5, 0x20) + block(*GET), HEAD_END, 1), (GOAWAY_, COMPRESSION)),
    ("7541 §6.3 a table of a smaller size", frame(HEADERS, number(0, 5, 0x20) + block(*GET), HEAD_END, 1), (STATUS_, 200)),
    ("7541 a text that ends within the block", frame(HEADERS, b"\0\x05x", HEAD_END, 1), (GOAWAY_, COMPRESSION)),
]  # fmt: skip

PREFACES = [
    ("3.4 a preface that is none", b"GET / HTTP/3.0\r\n\r\n", b"HTTP/1.1 505"),
    ("3.4 a preface cut and spoilt", PREFACE[:-2] + b"XX", b"\0\0"),
    ("3.4 the first frame is not SETTINGS", PREFACE + request(), b"\0\0"),
    ("3.4 the first frame is an acknowledgement", PREFACE + frame(SETTINGS, b"", ACK), b"\0\0"),
]


async def _outcome(client: H2Client, wanted: tuple) -> None:
    kind, *rest = wanted
    if kind == ALIVE_:
        await client.until_ping()
        assert not client.is_closed
        assert client.pings
    elif kind == GOAWAY_:
        await client.until_closed()
        assert [code for _, code in client.goaways] == rest
    else:
        stream = rest[1] if len(rest) > 1 else 1
        answer = await client.answer(stream)
        if kind == STATUS_:
            assert (answer.status, answer.is_complete, answer.reset) in (
                (rest[0], True, None),
                (rest[0], True, NO_ERROR),
            )
        elif rest[0] != answer.reset:  # the answer may have come before the frame that is wrong
            await client.until_ping()
            assert client.streams[stream].reset == rest[0]
        await client.until_ping()
        assert not client.is_closed


async def _all(rows) -> list[str]:
    """Every row against one sidecar; the text of what went wrong."""
    wrong = []
    async with backend() as app:
        port = free_port()
        cluster = plain_cluster(app.port)
        async with running(outbound_snapshot(port, {"c": cluster}), mesh_pki()):
            for name, data, wanted in rows:
                async with await H2Client.connect(port) as client:
                    try:
                        await client.send(data)
                        await _outcome(client, wanted)
                    except (AssertionError, KeyError, TimeoutError) as error:
                        seen = {number: (each.status, each.reset) for number, each in client.streams.items()}
                        wrong.append(f"{name}: wanted {wanted}, saw {seen} {client.goaways} ({error!r:.80})")
            assert not any(b"evil" in each.head for each in app.requests)
    return wrong


def test_every_row_of_the_table_has_its_outcome():
    assert uvloop.run(_all(SECTIONS)) == []


def test_the_table_covers_every_section():
    named = {row[0].split(" ")[0] for row in SECTIONS}
    for section in [
        "4.1",
        "4.2",
        "4.3",
        "5.1",
        "5.1.1",
        "5.1.2",
        "6.1",
        "6.2",
        "6.3",
        "6.4",
        "6.5",
        "6.6",
        "6.7",
        "6.8",
        "6.9",
        "6.10",
        "7",
        "8.1",
        "8.2",
        "8.3",
        "8.5",
    ]:
        assert section in named
    assert len(SECTIONS) > 130


@pytest.mark.parametrize(("data", "begins"), [row[1:] for row in PREFACES], ids=[row[0] for row in PREFACES])
def test_a_connection_that_does_not_begin_as_it_must_ends(data, begins):
    async def run() -> bytes:
        async with backend() as app:
            port = free_port()
            async with running(outbound_snapshot(port, {"c": plain_cluster(app.port)}), mesh_pki()):
                client = await H2Client.connect(port, hello=data)
                received = await client.reader.read()
                client.writer.close()
                assert not app.requests
                return received

    assert uvloop.run(run()).startswith(begins)
