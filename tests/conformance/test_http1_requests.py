"""Requests that must be refused, and requests that must pass, as bytes (RFC 9112; cases 1-40)."""

from __future__ import annotations

import pytest

from tests.helpers.codecs import CODECS, using
from tests.helpers.http1 import one_by_one, read_requests


@pytest.fixture(autouse=True, params=CODECS)
def codec(request):
    """Every table is read twice: by Python, and by the compiled codec where it was built."""
    with using(request.param):
        yield


H = b"Host: a\r\n"


def get(*fields: bytes) -> bytes:
    return b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(field + b"\r\n" for field in fields) + b"\r\n"


def post(*fields: bytes, content: bytes = b"") -> bytes:
    return get(*fields).replace(b"GET", b"POST", 1) + content


def chunked(content: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", content=content)


REFUSED = {
    "1 length and coding": (
        post(b"Content-Length: 5", b"Transfer-Encoding: chunked", content=b"0\r\n\r\n"),
        400,
    ),
    "2 two lengths": (post(b"Content-Length: 5", b"Content-Length: 6"), 400),
    "2 two equal lengths": (post(b"Content-Length: 5", b"content-length: 5", content=b"hello"), 400),
    "3 length list": (post(b"Content-Length: 5, 5"), 400),
    **{
        f"4 length {value!r}": (post(b"Content-Length: " + value), 400)
        for value in (
            b"+5",
            b"-1",
            b"0x10",
            b"1_0",
            b"5 5",
            b"9" * 20,
            b"",
            b"5\xa0",
            b"\xd9\xa5",
            b"5;",
            b"1e2",
        )
    },
    "5 xchunked": (post(b"Transfer-Encoding: xchunked"), 400),
    "6 ,chunked": (post(b"Transfer-Encoding: ,chunked"), 400),
    "6 chunked,": (post(b"Transfer-Encoding: chunked,"), 400),
    "7 two codings": (post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"), 400),
    "7 coding then identity": (post(b"Transfer-Encoding: chunked", b"transfer-encoding: identity"), 400),
    "8 space before colon": (post(b"Transfer-Encoding : chunked"), 400),
    "8 tab before colon": (post(b"Transfer-Encoding\t: chunked"), 400),
    **{
        f"9 coding with {octet!r}": (post(b"Transfer-Encoding: " + octet + b"chunked"), 400)
        for octet in (b"\x0b", b"\x0c", b"\xa0", b"\x85", b"\x00", b'"')
    },
    "10 coding on 1.0": (b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "11 chunked, identity": (post(b"Transfer-Encoding: chunked, identity"), 400),
    "11 chunked, gzip": (post(b"Transfer-Encoding: chunked, gzip"), 501),
    "11 empty coding": (post(b"Transfer-Encoding:"), 400),
    **{
        f"12 chunk size {size!r}": (chunked(size + b"\r\nhello\r\n0\r\n\r\n"), 400)
        for size in (
            b"0x5",
            b"+5",
            b"-5",
            b"6_0",
            b" 5",
            b"5 ",
            b"0" * 16 + b"5",
            b"",
            b"5\x0b",
            b"g",
            b"f" * 16,
        )
    },
    "13 CR in extension": (chunked(b"5;a\rb\r\nhello\r\n0\r\n\r\n"), 400),
    "13 LF in extension": (chunked(b"5;a\nhello\r\n0\r\n\r\n"), 400),
    "13 control in extension": (chunked(b"5;a\x01\r\nhello\r\n0\r\n\r\n"), 400),
    "13 bare semicolon": (chunked(b"5;\r\nhello\r\n0\r\n\r\n"), 400),
    "13 64 KiB extension": (chunked(b"5;" + b"a" * 65536 + b"\r\nhello\r\n0\r\n\r\n"), 400),
    "13 many extensions": (chunked((b"1;" + b"a" * 500 + b"\r\nx\r\n") * 40 + b"0\r\n\r\n"), 400),
    "14 no CRLF after chunk": (chunked(b"5\r\nhello0\r\n\r\n"), 400),
    "14 spill": (chunked(b"5\r\nhelloX\r\n0\r\n\r\n"), 400),
    "14 LF after chunk": (chunked(b"5\r\nhello\n0\r\n\r\n"), 400),
    "14 LF after size": (chunked(b"5\nhello\r\n0\r\n\r\n"), 400),
    "15 LF lines": (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    "15 LF in fields": (b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400),
    "15 LF at the end": (b"GET / HTTP/1.1\r\nHost: a\r\n\n", 400),
    "16 CR in line": (b"GET /\r HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "16 CR in name": (get(b"X\rY: a"), 400),
    "16 CR in value": (get(b"X: a\rY: b"), 400),
    "16 CR CR LF": (get(b"X: a\r"), 400),
    "17 folded": (get(b"X: a", b" b"), 400),
    "17 folded by tab": (get(b"X: a", b"\tb"), 400),
    **{
        f"18 value with {octet:#x}": (get(b"X: a" + bytes((octet,)) + b"b"), 400)
        for octet in (0, 1, 8, 0x1F, 0x7F)
    },
    "19 no colon": (get(b"X"), 400),
    "19 empty name": (get(b": a"), 400),
    "19 space before the first field": (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", 400),
    **{
        f"20 name {name!r}": (get(name + b": a"), 400)
        for name in (b"X Y", b"X\xe9", b"X(", b"X\x00", b'"X"', b"X/Y")
    },
    "21 no Host": (b"GET / HTTP/1.1\r\nX: a\r\n\r\n", 400),
    "21 no Host, no field": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "22 two equal Hosts": (get(b"Host: a"), 400),
    "22 two Hosts": (get(b"HOST: b"), 400),
    **{
        f"23 Host {host!r}": (b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n", 400)
        for host in (
            b"u@a",
            b"u:p@a",
            b"a/b",
            b"a,b",
            b"a b",
            b"",
            b"@",
            b"a:b",
            b"a:99999",
            b"a:0",
            b"[::1",
            b"::1",
            b"a?b",
            b"a#b",
            b"a\\b",
            b"a%00",
            b".",
            b"a..b",
            b"a:80:80",
            b"\xe9",
            b"a:-1",
            b"http://a",
        )
    },
    "24 absolute form, no Host": (b"GET http://a/ HTTP/1.1\r\n\r\n", 400),
    "24 absolute form with userinfo": (b"GET http://u@b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "24 absolute form, bad Host": (b"GET http://b/ HTTP/1.1\r\nHost: a@b\r\n\r\n", 400),
    "24 other scheme": (b"GET ftp://b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "25 authority form on GET": (b"GET a:80 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "25 star on GET": (b"GET * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "25 no slash": (b"GET index.html HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "26 CONNECT": (b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 405),
    "27 lower case": (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "27 junk": (b'G=":<> / HTTP/1.1\r\nHost: a\r\n\r\n', 400),
    "27 unknown": (b"GETS / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
    "28 HTTP/0.9": (b"GET /\r\n", 400),
    "28 1.32": (b"GET / HTTP/1.32\r\nHost: a\r\n\r\n", 400),
    "28 huge version": (b"GET / HTTP/4294967295.255\r\nHost: a\r\n\r\n", 400),
    "28 1.2": (b"GET / HTTP/1.2\r\nHost: a\r\n\r\n", 505),
    "28 2.0 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "28 lower-case name": (b"GET / http/1.1\r\nHost: a\r\n\r\n", 400),
    "28 two spaces": (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "28 space at the end": (b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n", 400),
    "28 tab": (b"GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "29 60 KiB and one": (get(b"X: " + b"a" * (60 * 1024 + 1 - len(get(b"X: ")))), 431),
    "29 endless head": (b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 11000, 431),
    "29 101 fields": (get(*[b"X: a"] * 100), 431),
    "30 long target": (b"GET /" + b"a" * 8192 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "30 endless target": (b"GET /" + b"a" * 20000, 414),
    "31 bad trailer": (chunked(b"0\r\nX y: a\r\n\r\n"), 400),
    "31 folded trailer": (chunked(b"0\r\nX: a\r\n b\r\n\r\n"), 400),
    "31 LF trailer": (chunked(b"0\r\nX: a\n\r\n"), 400),
    "31 endless trailers": (chunked(b"0\r\n" + b"X: aaaaaaa\r\n" * 2000), 400),
    "32 unknown Expect": (post(b"Expect: 200-ok", b"Content-Length: 1", content=b"a"), 417),
    "54 fragment": (b"GET /admin#x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "56 NUL escape": (b"GET /admin%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "raw 8-bit target": (b"GET /caf\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "broken escape": (b"GET /%%32%65 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    "TRACE with content": (b"TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\na", 400),
    "cut in the head": (b"GET / HTTP/1.1\r\nHo", 400),
    "cut in the content": (post(b"Content-Length: 5", content=b"hell"), 400),
    "cut in a chunk": (chunked(b"5\r\nhel"), 400),
    "five empty lines first": (b"\r\n" * 5 + get(), 400),
    "TLS hello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n", 400),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name):
    raw, status = REFUSED[name]
    told = read_requests([raw])
    assert told[-1][0] == "refused", told
    assert told[-1][1] == status, told
    assert not [event for event in told if event[0] == "end"]


@pytest.mark.parametrize("name", [name for name in REFUSED if len(REFUSED[name][0]) < 4000])
def test_refused_alike_however_it_is_cut(name):
    raw, _ = REFUSED[name]
    assert read_requests(one_by_one(raw)) == read_requests([raw])


@pytest.mark.parametrize("name", REFUSED)
def test_refused_alike_in_pieces(name):
    raw, _ = REFUSED[name]
    assert read_requests([raw[at : at + 1021] for at in range(0, len(raw), 1021)]) == read_requests([raw])


ACCEPTED = {
    "plain": (get(), [("/", b"", ())]),
    "28 HTTP/1.0": (b"GET /x HTTP/1.0\r\nHost: a\r\n\r\n", [("/x", b"", ())]),
    "empty lines first": (b"\r\n\r\n" + get(), [("/", b"", ())]),
    "no space after colon": (b"GET / HTTP/1.1\r\nHost:a\r\n\r\n", [("/", b"", ())]),
    "spaces around a value": (b"GET / HTTP/1.1\r\nHost: \t a \t\r\n\r\n", [("/", b"", ())]),
    "empty value": (get(b"X:"), [("/", b"", ())]),
    "obs-text": (get(b"X: caf\xe9"), [("/", b"", ())]),
    "quotes": (b'GET /with_"q"?foo="b" HTTP/1.1\r\nHost: a\r\n\r\n', [("/with_%22q%22", b"", ())]),
    "25 OPTIONS *": (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", [("*", b"", ())]),
    "24 absolute": (b"GET http://b/x?y HTTP/1.1\r\nHost: a\r\n\r\n", [("/x", b"", ())]),
    "24 absolute, no path": (b"GET HTTP://b HTTP/1.1\r\nHost: a\r\n\r\n", [("/", b"", ())]),
    "length": (post(b"Content-Length: 5", content=b"hello"), [("/", b"hello", ())]),
    "length with zeros": (post(b"Content-Length: 005", content=b"hello"), [("/", b"hello", ())]),
    "length 0": (post(b"Content-Length: 0"), [("/", b"", ())]),
    "chunked": (chunked(b"5\r\nhello\r\n06\r\n world\r\n0\r\n\r\n"), [("/", b"hello world", ())]),
    "Chunked": (
        post(b"Transfer-Encoding: Chunked", content=b"A\r\n0123456789\r\n00\r\n\r\n"),
        [("/", b"0123456789", ())],
    ),
    "extensions": (chunked(b'5; some; p=stuff;q="a;\\"b"\r\nhello\r\n0;last\r\n\r\n'), [("/", b"hello", ())]),
    "31 trailers": (
        chunked(
            b"0\r\nX-Sum: 1\r\nHost: b\r\nContent-Length: 3\r\nAuthorization: c\r\n"
            b"Transfer-Encoding: x\r\n\r\n"
        ),
        [("/", b"", ((b"X-Sum", b"1"),))],
    ),
    "31 trailers spelt with _": (
        chunked(b"0\r\nX_Forwarded_For: 1\r\nTransfer_Encoding: x\r\nX_Spiffe_Id: y\r\nX_Sum: 1\r\n\r\n"),
        [("/", b"", ((b"X_Sum", b"1"),))],
    ),
    "pipelined": (
        post(b"Content-Length: 2", content=b"ab") + chunked(b"0\r\n\r\n") + get(),
        [("/", b"ab", ()), ("/", b"", ()), ("/", b"", ())],
    ),
    "100 fields": (get(*[b"X: a"] * 99), [("/", b"", ())]),
    "60 KiB": (get(b"X: " + b"a" * (60 * 1024 - len(get(b"X: ")))), [("/", b"", ())]),
    "M-SEARCH": (b"M-SEARCH * HTTP/1.1\r\nHost: a\r\n\r\n".replace(b"*", b"/"), [("/", b"", ())]),
    "IPv6 Host": (b"GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", [("/", b"", ())]),
    "Swarm's name": (b"GET / HTTP/1.1\r\nHost: shop_api:8080\r\n\r\n", [("/", b"", ())]),
}


def messages(told):
    found: list = []
    content = b""
    for event in told:
        if event[0] == "head":
            content = b""
            found.append((event[1]["path"], b"", ()))
        elif event[0] == "body":
            content += event[1]
        elif event[0] == "end":
            found[-1] = (found[-1][0], content, event[1])
        else:
            found.append(event)
    return found


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(name):
    raw, expected = ACCEPTED[name]
    assert messages(read_requests([raw])) == expected


@pytest.mark.parametrize("name", [name for name in ACCEPTED if len(ACCEPTED[name][0]) < 4000])
def test_accepted_alike_however_it_is_cut(name):
    raw, _ = ACCEPTED[name]
    whole = read_requests([raw])
    assert read_requests(one_by_one(raw)) == whole
    for at in range(1, len(raw)):
        assert read_requests([raw[:at], raw[at:]]) == whole


@pytest.mark.parametrize("name", ACCEPTED)
def test_bytes_after_a_request_begin_the_next(name):
    """33, 34: what follows is read as a request of its own, and refused as one."""
    raw, expected = ACCEPTED[name]
    assert messages(read_requests([raw + b"garbage\r\n\r\n"])) == [
        *expected,
        ("refused", 400, "request-line"),
    ]


def test_only_the_next_request_is_held_back():
    """A second request is not read before the first is answered."""
    from proxy.http.h1 import RequestParser

    parser = RequestParser()
    events = parser.feed(get() + b"bad\r\n\r\n")
    assert len(events) == 2
    assert parser.has_leftover
    (refused,) = parser.next_message()
    assert refused.status == 400
    assert parser.feed(get()) == []
