"""The PROXY protocol: the examples of its text, every way to spoil one, and round trips."""

import pytest

from proxy.http.proxy_protocol import MAX_V2_BYTES, HeaderReader, NoHeader, ProxyHeader, header_v1, header_v2

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
V4 = bytes([192, 0, 2, 1, 198, 51, 100, 2]) + (5000).to_bytes(2, "big") + (443).to_bytes(2, "big")


def v2(body, command=0x21, family=0x11, length=None):
    size = len(body) if length is None else length
    return SIGNATURE + bytes([command, family]) + size.to_bytes(2, "big") + body


def read(data, step=0):
    reader = HeaderReader()
    if not step:
        return reader.feed(data)
    for at in range(0, len(data), step):
        outcome = reader.feed(data[at : at + step])
        if outcome is not None:
            return outcome
    return None


@pytest.mark.parametrize("step", [0, 1, 5])
@pytest.mark.parametrize(
    ("data", "source", "port"),
    [
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 5000 443\r\n", "192.0.2.1", 5000),
        (b"PROXY TCP6 2001:db8::1 ::1 65535 65535\r\n", "2001:db8::1", 65535),
        (b"PROXY UNKNOWN\r\n", "", 0),
        (b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", "", 0),
        (v2(V4), "192.0.2.1", 5000),
        (v2(V4 + b"\x04\x00\x02ab" + b"\x20\x00\x00"), "192.0.2.1", 5000),
        (v2(bytes(15) + b"\x01" + bytes(16) + b"\x00\x50\x00\x51", family=0x21), "::1", 80),
        (v2(b"", command=0x20, family=0), "", 0),
        (v2(b"whatever", command=0x20, family=0x11), "", 0),
    ],
)
def test_headers_of_both_versions_however_they_arrive(data, source, port, step):
    assert read(data, step) == ProxyHeader(source, port, b"")
    if not step:
        assert read(data + b"GET / HTTP/1.1\r\n") == ProxyHeader(source, port, b"GET / HTTP/1.1\r\n")


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "no-header"),
        (b"\x16\x03\x01\x02\x00", "no-header"),
        (b"PROXYTCP4", "no-header"),
        (b"\r\n\r\nGET", "no-header"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 5000\r\n", "malformed"),
        (b"PROXY TCP4 192.0.2.1  198.51.100.2 5000 443\r\n", "malformed"),
        (b"PROXY TCP4 192.0.2.256 198.51.100.2 5000 443\r\n", "malformed"),
        (b"PROXY TCP4 ::1 ::1 5000 443\r\n", "malformed"),
        (b"PROXY TCP6 192.0.2.1 192.0.2.1 5000 443\r\n", "malformed"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 65536 443\r\n", "malformed"),
        (b"PROXY TCP4 192.0.2.1 198.51.100.2 5000 443 x\r\n", "malformed"),
        (b"PROXY UDP4 192.0.2.1 198.51.100.2 5000 443\r\n", "malformed"),
        (b"PROXY tcp4 192.0.2.1 198.51.100.2 5000 443\r\n", "malformed"),
        (b"PROXY UNKNOWNX\r\n", "malformed"),
        (b"PROXY UNKNOWN " + b"x" * 100, "too-long"),
        (v2(V4, command=0x22), "malformed"),
        (v2(V4, command=0x11), "malformed"),
        (v2(V4, family=0x12), "family"),
        (v2(bytes(216), family=0x31), "family"),
        (v2(V4[:-1]), "malformed"),
        (v2(V4, family=0x21), "malformed"),
        (v2(V4 + b"\x04\x00\x05ab"), "malformed"),
        (v2(V4 + b"\x04"), "malformed"),
        (v2(V4, length=MAX_V2_BYTES + 1), "too-long"),
    ],
)
def test_what_is_no_header_is_refused(data, reason, step):
    assert read(data, step) == NoHeader(reason)


@pytest.mark.parametrize("write", [header_v1, header_v2])
@pytest.mark.parametrize(
    ("source", "destination"), [(("192.0.2.1", 1), ("192.0.2.2", 2)), (("2001:db8::1", 65535), ("::1", 443))]
)
def test_what_is_written_reads_back(write, source, destination):
    assert read(write(source, destination) + b"x") == ProxyHeader(*source, b"x")


@pytest.mark.parametrize("write", [header_v1, header_v2])
def test_addresses_of_two_families_or_none_are_the_sender_s_own(write):
    for source, destination in ((("192.0.2.1", 1), ("::1", 2)), (("", 0), ("", 0))):
        assert read(write(source, destination)) == ProxyHeader("", 0, b"")
