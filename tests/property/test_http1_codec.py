"""The compiled codec says what Python says, or nothing."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.access_log import compose_in_python, time_text
from proxy.http.encode import join_in_python
from proxy.http.limits import DEFAULT_LIMITS, Limits
from proxy.http.native import codec
from proxy.http.request_head import judge_request_head
from proxy.http.response_head import judge_response_head
from proxy.recent import pack_in_python
from tests.helpers.http1 import values_of

pytestmark = pytest.mark.skipif(codec is None, reason="the compiled codec was not built")

EXAMPLES = int(os.environ.get("MESHPY_FUZZ_EXAMPLES", "200"))
TIGHT = Limits(head_bytes=120, fields=3, target_bytes=12)

_LINES = [
    b"GET / HTTP/1.1", b"POST /a/b?c=d HTTP/1.1", b"GET /a//b HTTP/1.1", b"GET /./a HTTP/1.1",
    b"GET /a/ HTTP/1.1", b"PUT /a%41 HTTP/1.1", b"OPTIONS * HTTP/1.1", b"GET http://a/b HTTP/1.1",
    b"CONNECT a:1 HTTP/1.1", b"GET / HTTP/1.0", b"get / HTTP/1.1", b"GET /?a#b HTTP/1.1",
    b"GET  / HTTP/1.1", b"DELETE /a;b=c,d HTTP/1.1", b"PATCH /.a HTTP/1.1", b"HEAD /a.b..c?? HTTP/1.1",
    b"TRACE / HTTP/1.1", b"GETS / HTTP/1.1", b"",
]  # fmt: skip
_STATUSES = [
    b"HTTP/1.1 200 OK", b"HTTP/1.1 404", b"HTTP/1.1 500 ", b"HTTP/1.1 204 No", b"HTTP/1.1 304 Not",
    b"HTTP/1.1 101 S", b"HTTP/1.1 100 C", b"HTTP/1.0 200 OK", b"HTTP/1.1 600 X", b"HTTP/1.1  200 OK",
    b"HTTP/1.1 200 a\tb\xff", b"HTTP/1.1 2000 OK", b"HTTP/1.1 200\x01",
]  # fmt: skip
_FIELDS = [
    b"Host: a", b"host: b:80", b"HOST: A.b.", b"Host:", b"Host: a,b", b"Host: [::1]:8",
    b"Content-Length: 5", b"content-length:0", b"Content-Length: +5",
    b"Content-Length: 1234567890123456789", b"Content-Length: 123456789012345678", b"Content-Length: 5 ",
    b"Content-Length:", b"Transfer-Encoding: chunked", b"Transfer-Encoding: CHUNKED ",
    b"Transfer-Encoding: gzip", b"Transfer-Encoding: xchunked", b"Connection: close",
    b"Connection: keep-alive", b"Connection: Keep-Alive", b"Connection: upgrade", b"Connection: x-a",
    b"Upgrade: websocket", b"Expect: 100-continue", b"X-A: b", b"x-a:\tc\t", b"X_A: d", b"A:", b": b",
    b"A : b", b" folded", b"A: b\x00", b"A: b\x7f", b"A: \xe9\x80", b"A\x80: b", b"A: b\rc", b"A: b\nc",
    b"A;b: c", b"X-Long-" + b"y" * 70 + b": z", b"TE: trailers", b"Cookie: a=b; c=d", b"",
]  # fmt: skip


def heads(lines):
    """Heads of well-known pieces, some with an octet changed, put in or taken out."""
    plain = st.builds(
        lambda line, fields: b"\r\n".join((line, *fields, b"", b"")),
        st.sampled_from(lines),
        st.lists(st.sampled_from(_FIELDS), max_size=6),
    )
    return plain | st.builds(_changed, plain, st.integers(0, 300), st.binary(max_size=2), st.integers(0, 2))


def _changed(raw, at, octets, cut):
    at %= len(raw)
    return raw[:at] + octets + raw[at + cut :]


@settings(max_examples=EXAMPLES)
@given(heads(_LINES), st.sampled_from([DEFAULT_LIMITS, TIGHT]))
def test_what_it_reads_as_a_request_python_reads_alike(raw, limits):
    head = codec.request(raw, limits.head_bytes, limits.fields, limits.target_bytes)
    if head is not None:
        assert values_of(head) == values_of(judge_request_head(raw, limits))


@settings(max_examples=EXAMPLES)
@given(heads(_STATUSES), st.sampled_from([DEFAULT_LIMITS, TIGHT]), st.sampled_from(["GET", "POST"]))
def test_what_it_reads_as_a_response_python_reads_alike(raw, limits, method):
    head = codec.response(raw, limits.head_bytes, limits.fields)
    if head is not None:
        assert values_of(head) == values_of(judge_response_head(raw, method, limits))


names = st.sampled_from([b"Host", b"X-A", b"Connection", b"content-length", b"TE", b"x" * 80, b"Cookie"])
pairs = st.lists(st.tuples(names, st.binary(max_size=9)), max_size=9)


@settings(max_examples=EXAMPLES // 2)
@given(pairs, st.frozensets(st.sampled_from([b"x-a", b"host", b"cookie"])), st.binary(max_size=9), pairs)
def test_it_joins_heads_as_python_does(headers, drop, middle, extra):
    wanted = join_in_python(b"GET / HTTP/1.1\r\n", headers, drop, middle, extra)
    for each in (drop, list(drop), tuple(drop)):
        assert codec.join(b"GET / HTTP/1.1\r\n", headers, each, middle, tuple(extra)) == wanted
    assert codec.join(b"", headers * 60, (), b"", extra) == join_in_python(b"", headers * 60, (), b"", extra)
    for content in (middle, memoryview(middle)):
        assert codec.join(b"", [], (), b"", extra, content) == join_in_python(
            b"", [], (), b"", extra, content
        )


texts = st.sampled_from(['{"a":', ',"x":"é"', "", "}\n"])
times = st.floats(0, 2e10) | st.sampled_from([1.0, 1.9999999999999998, 253402300799.9999])
values = texts | st.binary(max_size=20) | st.integers(-1, 2**70) | st.none() | st.just("\ud800") | times
parts = st.lists(st.tuples(texts, values), max_size=9)


@settings(max_examples=EXAMPLES)
@given(parts, st.integers(0, 2), st.integers(2040, 2060), st.integers(0, 5000))
def test_it_composes_lines_as_python_does(parts, longs, size, at):
    parts += [("", b"a" * size)] * longs
    texts, values = tuple(text for text, _ in parts), tuple(value for _, value in parts)
    room = bytearray(b"." * 5000)
    end = codec.compose(room, at, texts, values)
    assert room[:at] == b"." * at
    assert end == -1 or bytes(room[at:end]) == compose_in_python(texts, values)


@given(
    st.binary(max_size=40), st.sampled_from([b"", b'"', b"\\", b"\x00", b"\x1f", b"\x7f", b"\x80", b"\xa0"])
)
def test_what_a_json_string_may_not_hold_is_left_to_python(text, odd):
    """Octets are looked at eight at a time: each place among them is tried."""
    plain = bytes(32 + each % 90 for each in text).translate(bytes.maketrans(b'"\\', b"ab"))
    for at in range(len(plain) + 1):
        value, room = plain[:at] + odd + plain[at:], bytearray(100)
        end = codec.compose(room, 0, ("",), (value,))
        assert end == (-1 if odd else len(value) + 2)
        assert odd or bytes(room[:end]) == compose_in_python(("",), (value,))


def test_plain_heads_are_read_by_it():
    """What is compared above is not merely `None`."""
    limits = DEFAULT_LIMITS
    request = b"POST /a?b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"
    assert codec.request(request, limits.head_bytes, limits.fields, limits.target_bytes).content_length == 5
    response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert codec.response(response, limits.head_bytes, limits.fields).status == 200


def test_plain_lines_are_composed_by_it():
    room, texts = bytearray(64), ('{"a":', ',"n":', ',"o":', "")
    end = codec.compose(room, 2, texts, (b"b c", 15, None, "}"))
    assert room[2:end] == b'{"a":"b c","n":15,"o":null}'
    for seconds in (1763956800.25, 1763956800.999, 951782399.5, 1.0):
        end = codec.compose(room, 0, ("",), (seconds,))
        assert bytes(room[:end]).decode() == time_text(seconds)
    for odd in (-1.0, 0.5, 253402300800.0, float("nan"), float("inf")):
        assert codec.compose(room, 0, ("",), (odd,)) == -1
    assert codec.compose(room, 0, ("",), (b'"',)) == -1
    assert codec.compose(room, 60, texts, (b"b c", 15, None, "}")) == -1  # no room


class Index:
    """What a number could be made of, by code that could free what is written to."""

    def __index__(self) -> int:
        raise AssertionError("nobody asks")


@pytest.mark.parametrize(
    "arguments",
    [
        (b"bytes", 0, (), ()),
        (bytearray(9), "0", (), ()),
        (bytearray(9), 0, [], ()),
        (bytearray(9), 0, (1,), ("",)),
        (bytearray(9), 0, (), [""]),
        (bytearray(9), 0, ("",) * 40, ("",) * 40),
        (bytearray(9), 0, ("",), ()),
        (bytearray(9), 10, (), ()),
        (bytearray(9), -1, (), ()),
        (bytearray(9), 0, ("",), (object(),)),
        (bytearray(9), 0, ("",), (Index(),)),
    ],
)
def test_what_is_no_line_is_refused_without_harm(arguments):
    with pytest.raises((TypeError, ValueError, SystemError)):
        codec.compose(*arguments)


paths = st.text(max_size=90) | st.sampled_from(["/" + "x" * 83, "/" + "x" * 84, "/\ud800", "/\0"])


@given(
    st.integers(0, 30), st.booleans(), st.floats(), st.integers(0, 2**63 - 1), st.binary(max_size=55), paths
)
def test_it_packs_exchanges_as_python_does(at, is_told, ended_at, sent, trace, path):
    rings = bytearray(b"." * 221), bytearray(b"." * 221)
    found = [
        pack(ring, at, is_told, ended_at, 0.5, sent, 7, trace, trace[:16], path)
        for pack, ring in zip((codec.pack, pack_in_python), rings, strict=True)
    ]
    assert found[0] == found[1]
    assert rings[0] == rings[1]


SLOT = (bytearray(191), 0, False, 1.0, 2.0, 3, 4, b"t", b"p", "/")


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, b"x" * 191), (0, bytearray(190)), (1, 1), (1, -1), (1, "0"), (3, 1), (4, None), (5, Index()),
        (6, 2**64),
        (7, "t"), (7, b"t" * 56), (8, b"p" * 17), (9, b"/"),
    ],
)  # fmt: skip
def test_what_is_no_exchange_is_refused_without_harm(place, value):
    with pytest.raises((TypeError, ValueError, OverflowError)):
        codec.pack(*SLOT[:place], value, *SLOT[place + 1 :])
    assert not any(SLOT[0])


def test_anything_but_bytes_is_refused_without_harm():
    for arguments in ((), ("text", 1, 1, 1), (b"", None, 1, 1)):
        with pytest.raises(TypeError):
            codec.request(*arguments)
    with pytest.raises(TypeError):
        codec.join(b"", [("a", b"b")], (), b"", ())
