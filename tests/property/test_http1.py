"""No bytes crash a parser, no cut of the bytes changes what it says, and what is written reads back alike."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.http.encode import encode_chunk, encode_last_chunk, encode_request_head, encode_response_head
from proxy.http.h1 import RequestParser, ResponseParser
from tests.helpers.http1 import halves, one_by_one, read_requests, read_response

SNIPPETS = [
    b"GET / HTTP/1.1\r\n",
    b"POST /a%2fb?c HTTP/1.1\r\n",
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.1 100 Continue\r\n",
    b"Host: a\r\n",
    b"Host: b\r\n",
    b"Content-Length: 5\r\n",
    b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Connection: close, x\r\n",
    b"Expect: 100-continue\r\n",
    b"X: y \r\n",
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b":",
    b"\x00",
    b"5\r\nhello\r\n",
    b"hello",
    b"0\r\n\r\n",
    b"5;x=y\r\n",
    b"T: u\r\n",
    b"HTTP/1.0 200 OK\r\n",
    b"GET /x HTTP/1.0\r\n",
    b"Upgrade: websocket\r\nConnection: upgrade\r\n",
]
wire = st.lists(st.sampled_from(SNIPPETS), max_size=14).map(b"".join) | st.binary(max_size=60)


@settings(max_examples=200)
@given(wire, st.integers(0, 200))
def test_requests_read_alike_however_they_are_cut(raw, at):
    whole = read_requests([raw])
    assert read_requests(one_by_one(raw)) == whole
    assert read_requests(halves(raw, at)) == whole


@settings(max_examples=200)
@given(wire, st.integers(0, 200), st.sampled_from(["GET", "HEAD", "CONNECT"]))
def test_responses_read_alike_however_they_are_cut(raw, at, method):
    whole = read_response([raw], method)
    assert read_response(one_by_one(raw), method) == whole
    assert read_response(halves(raw, at), method) == whole


names = st.from_regex(rb"\Ax-[a-z]{1,8}\Z")
values = st.binary(max_size=12).map(
    lambda raw: bytes(octet for octet in raw if octet >= 0x21 and octet != 0x7F)
)
fields = st.lists(st.tuples(names, values), max_size=6)
framings = st.sampled_from([[], [b"Content-Length: 7"], [b"Transfer-Encoding: chunked"]])


def wire_head(first, headers, framing):
    return (
        first
        + b"\r\n"
        + b"".join(b"%b: %b\r\n" % pair for pair in headers)
        + b"".join(f + b"\r\n" for f in framing)
        + b"\r\n"
    )


@settings(max_examples=100)
@given(fields, framings, st.sampled_from([b"/", b"/a//b/../c", b"http://c/d?e", b"/%61"]))
def test_a_written_request_reads_back_alike(headers, framing, target):
    first = b"POST " + target + b" HTTP/1.1\r\nHost: a"
    head = RequestParser().feed(wire_head(first, headers, framing))[0]
    again = RequestParser().feed(encode_request_head(head))[0]
    for name in ("method", "target", "path", "query", "authority", "framing", "content_length", "keep_alive"):
        assert getattr(again, name) == getattr(head, name)
    assert [pair for pair in again.headers if pair[0].startswith(b"x-")] == headers
    assert encode_request_head(again) == encode_request_head(head)


@settings(max_examples=100)
@given(fields, framings, st.lists(st.binary(max_size=9), max_size=4))
def test_a_written_response_reads_back_alike(headers, framing, chunks):
    parser = ResponseParser()
    parser.begin("GET")
    head = parser.feed(wire_head(b"HTTP/1.1 200 OK", headers, framing))[0]
    trailers = ((b"X-Sum", b"1"),)
    if framing != [b"Content-Length: 7"]:
        raw = encode_response_head(head) + b"".join(map(encode_chunk, chunks)) + encode_last_chunk(trailers)
        told = read_response([raw])
        assert b"".join(event[1] for event in told if event[0] == "body") == b"".join(chunks)
        assert told[-1] == ("end", trailers)
    else:
        assert read_response([encode_response_head(head) + b"abcdefg"])[-2:] == [
            ("body", b"abcdefg"),
            ("end", ()),
        ]
