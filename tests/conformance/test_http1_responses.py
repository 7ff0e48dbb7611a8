"""Responses of an upstream, which is not trusted: what is refused with 502 and what passes (case 39)."""

from __future__ import annotations

import pytest

from tests.helpers.codecs import CODECS, using
from tests.helpers.http1 import one_by_one, read_response


@pytest.fixture(autouse=True, params=CODECS)
def codec(request):
    """Every table is read twice: by Python, and by the compiled codec where it was built."""
    with using(request.param):
        yield


def ok(*fields: bytes, content: bytes = b"", status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 " + status + b"\r\n" + b"".join(field + b"\r\n" for field in fields) + b"\r\n" + content


REFUSED = {
    "length and coding": ok(b"Content-Length: 1", b"Transfer-Encoding: chunked", content=b"0\r\n\r\n"),
    "two lengths": ok(b"Content-Length: 1", b"Content-Length: 2", content=b"ab"),
    "two equal lengths": ok(b"Content-Length: 1", b"Content-Length: 1", content=b"a"),
    "length list": ok(b"Content-Length: 1, 1", content=b"a"),
    "bad length": ok(b"Content-Length: -1"),
    "unknown coding": ok(b"Transfer-Encoding: gzip"),
    "chunked on 1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "folded": ok(b"X: a", b" b"),
    "control": ok(b"X: a\x00"),
    "space before colon": ok(b"Content-Length : 1", content=b"a"),
    "LF": b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    "status 99": ok(status=b"099 X"),
    "status 600": ok(status=b"600 X"),
    "status word": ok(status=b"OK"),
    "four digits": ok(status=b"2000 OK"),
    "version": b"HTTP/2.0 200 OK\r\n\r\n",
    "garbage": b"SSH-2.0-OpenSSH\r\n",
    "no head": b"",
    "cut in head": b"HTTP/1.1 200 OK\r\nX",
    "cut in content": ok(b"Content-Length: 5", content=b"a"),
    "cut in chunk": ok(b"Transfer-Encoding: chunked", content=b"5\r\na"),
    "bad chunk": ok(b"Transfer-Encoding: chunked", content=b"0x1\r\na\r\n0\r\n\r\n"),
    "large head": ok(b"X: " + b"a" * 61440),
    "101 fields": ok(*[b"X: a"] * 101),
    "1xx flood": ok(status=b"103 Early") * 9 + ok(b"Content-Length: 0"),
    "only 1xx": ok(status=b"100 Continue"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    told = read_response([REFUSED[name]])
    assert told[-1][:2] == ("refused", 502), told


@pytest.mark.parametrize("name", [name for name in REFUSED if len(REFUSED[name]) < 4000])
def test_refused_alike_however_it_is_cut(name):
    raw = REFUSED[name]
    assert read_response(one_by_one(raw)) == read_response([raw])


ACCEPTED = {
    "length": (ok(b"Content-Length: 2", content=b"ab"), "GET", b"ab", True),
    "chunked": (ok(b"Transfer-Encoding: chunked", content=b"2\r\nab\r\n0\r\n\r\n"), "GET", b"ab", True),
    "until close": (ok(content=b"abc"), "GET", b"abc", False),
    "HEAD": (ok(b"Content-Length: 2"), "HEAD", b"", True),
    "HEAD chunked": (ok(b"Transfer-Encoding: chunked"), "HEAD", b"", True),
    "204": (ok(status=b"204 No Content"), "GET", b"", True),
    "204 that says 0": (ok(b"Content-Length: 0", status=b"204 No Content"), "GET", b"", True),
    "204 that says more": (ok(b"Content-Length: 2", status=b"204 No Content"), "GET", b"", False),
    "304": (ok(b"Content-Length: 2", status=b"304 Not Modified"), "GET", b"", True),
    "no reason": (ok(b"Content-Length: 0", status=b"200"), "GET", b"", True),
    "empty reason": (ok(b"Content-Length: 0", status=b"200 "), "GET", b"", True),
    "close": (ok(b"Content-Length: 0", b"Connection: Close"), "GET", b"", False),
    "1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na", "GET", b"a", False),
    "1.0 keep-alive": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\na",
        "GET",
        b"a",
        True,
    ),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(name):
    raw, method, content, keep_alive = ACCEPTED[name]
    told = read_response([raw], method)
    assert b"".join(event[1] for event in told if event[0] == "body") == content
    assert told[0][1]["keep_alive"] is keep_alive
    assert told[-1] == ("end", ())
    assert read_response(one_by_one(raw), method) == told


def test_interim_heads_come_before_the_answer():
    raw = (
        ok(status=b"100 Continue")
        + ok(b"Link: x", status=b"103 Early Hints")
        + ok(b"Content-Length: 1", content=b"a")
    )
    told = read_response([raw])
    assert [event[0] for event in told] == ["head", "head", "head", "body", "end"]
    assert [event[1]["is_interim"] for event in told[:3]] == [True, True, False]
    assert read_response(one_by_one(raw)) == told


def test_bytes_after_an_answer_are_never_an_answer():
    """Response splitting: what an upstream sends unasked stays apart and forbids reuse."""
    from proxy.http.h1 import ResponseParser

    parser = ResponseParser()
    parser.begin("GET")
    events = parser.feed(ok(b"Content-Length: 1", content=b"a") + ok(b"Content-Length: 0"))
    assert len(events) == 3
    assert parser.has_leftover
    with pytest.raises(RuntimeError):
        parser.begin("GET")


def test_101_leaves_the_tunnel_its_first_bytes():
    """37: only a 101 switches; a 200 to an upgrade is a plain answer."""
    from proxy.http.h1 import ResponseParser

    parser = ResponseParser()
    parser.begin("GET")
    head, _ = parser.feed(
        ok(b"Upgrade: WebSocket", b"Connection: Upgrade", status=b"101 Switching") + b"\x81\x00"
    )
    assert head.upgrade == b"websocket"
    assert parser.take_leftover() == b"\x81\x00"
    parser = ResponseParser()
    parser.begin("GET")
    assert parser.feed(ok(b"Upgrade: websocket", b"Content-Length: 0"))[0].upgrade is None
