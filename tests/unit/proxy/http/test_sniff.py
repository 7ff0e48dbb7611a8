"""What a client speaks is told by its first bytes, however they are cut."""

import pytest

from proxy.http.sniff import Spoken, spoken

CASES = [
    (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", Spoken.HTTP1),
    (b"PROPFIND /x HTTP/1.0\r\n", Spoken.HTTP1),
    (b"M-SEARCH * HTTP/1.1\r\n", Spoken.HTTP1),
    (b"GET / HTTP/1.1\n", Spoken.HTTP1),  # a bare LF is for the parser to refuse, not to be passed on unread
    (b"GET / HTTP/2\r\n", Spoken.HTTP1),
    (b"GET /" + b"a" * 9000, Spoken.HTTP1),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0", Spoken.HTTP2),
    (b"\x16\x03\x01\x02\x00\x01", Spoken.TLS),
    (b"GET key\r\n", Spoken.OPAQUE),  # Redis, inline
    (b"GET / HTTP/1.1 \r\n", Spoken.OPAQUE),
    (b"get / HTTP/1.1\r\n", Spoken.OPAQUE),
    (b"*1\r\n$4\r\nPING\r\n", Spoken.OPAQUE),
    (b"\r\nGET / HTTP/1.1\r\n", Spoken.OPAQUE),
    (b"\x00\x00\x00\x08\x04\xd2\x16\x2f", Spoken.OPAQUE),  # PostgreSQL asks for TLS
    (b"SSH-2.0-x\r\n", Spoken.OPAQUE),
    (b"PRI * HTTP/2.0\r\n\r\nXX", Spoken.OPAQUE),
    (b"\x16\x02", Spoken.OPAQUE),
]


@pytest.mark.parametrize(("first", "expected"), CASES)
def test_the_same_is_told_of_whole_and_of_cut_bytes(first, expected):
    assert spoken(first) is expected
    told = [spoken(first[:end]) for end in range(1, len(first) + 1)]
    known = [each for each in told if each is not None]
    assert known[0] is expected
    assert told.index(expected) == len(told) - len(known)


@pytest.mark.parametrize("first", [b"G", b"GET", b"GET /", b"PRI * HT", b"\x16", b"P", b"PO"])
def test_more_is_waited_for_while_it_may_still_be_read(first):
    assert spoken(first) is None
