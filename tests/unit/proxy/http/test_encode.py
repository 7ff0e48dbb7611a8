"""What leaves for the next hop: framing written anew, hop-by-hop fields gone, our own fields kept."""

from __future__ import annotations

import pytest

from proxy.http.encode import encode_chunk, encode_request_head, encode_response_head, response_framing
from proxy.http.events import Framing
from proxy.http.hygiene import strip_spoofed
from proxy.http.request_head import parse_request_head
from proxy.http.response_head import parse_response_head


def request(*fields: bytes, line: bytes = b"GET /x HTTP/1.1"):
    return parse_request_head(line + b"\r\nHost: a\r\n" + b"".join(f + b"\r\n" for f in fields) + b"\r\n")


def response(*fields: bytes, method="GET", status=b"200 OK"):
    return parse_response_head(
        b"HTTP/1.1 " + status + b"\r\n" + b"".join(f + b"\r\n" for f in fields) + b"\r\n", method
    )


def test_hop_by_hop_fields_stay_on_their_hop():
    head = request(
        b"Connection: close, X-Hop", b"X-Hop: 1", b"Keep-Alive: 5", b"Proxy-Authorization: s", b"X-End: 2"
    )
    assert encode_request_head(head) == b"GET /x HTTP/1.1\r\nHost: a\r\nX-End: 2\r\n\r\n"


def test_connection_cannot_remove_fields_of_the_mesh():
    """35: hop-by-hop abuse."""
    head = request(
        b"Connection: x-meshpy-identity, authorization, host", b"Authorization: t", b"X-Meshpy-Identity: me"
    )
    wire = encode_request_head(head, [(b"x-forwarded-for", b"10.0.0.1")])
    assert wire.count(b"Host: a\r\n") == wire.count(b"Authorization: t\r\n") == 1
    assert b"X-Meshpy-Identity: me\r\nx-forwarded-for: 10.0.0.1\r\n" in wire


def test_the_targets_authority_is_the_host_that_is_forwarded():
    """24: absolute form against Host."""
    head = request(line=b"GET http://B:81/y HTTP/1.1")
    assert (head.host, head.authority.port) == ("b", 81)
    assert encode_request_head(head) == b"GET /y HTTP/1.1\r\nHost: b:81\r\n\r\n"


def test_routes_may_rewrite_target_host_and_fields():
    head = request(b"X-Old: 1")
    wire = encode_request_head(head, [(b"X-New", b"2")], target=b"/z", host=b"c", drop=[b"x-old"])
    assert wire == b"GET /z HTTP/1.1\r\nHost: c\r\nX-New: 2\r\n\r\n"


def test_h2c_is_never_passed_on():
    """36: h2c smuggling."""
    head = request(b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk")
    assert head.upgrade is None
    assert encode_request_head(head, upgrade=True) == b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"


def test_websocket_is_passed_on_when_asked():
    head = request(b"Connection: keep-alive, Upgrade", b"Upgrade: WebSocket")
    assert head.upgrade == b"websocket"
    assert b"Connection: Upgrade\r\nUpgrade: websocket\r\n" in encode_request_head(head, upgrade=True)
    assert b"pgrade" not in encode_request_head(head)


@pytest.mark.parametrize(
    "fields",
    [[b"Upgrade: websocket"], [b"Connection: upgrade"], [b"Connection: upgrade", b"Upgrade: h2c, websocket"]],
)
def test_an_upgrade_needs_both_fields_and_one_protocol(fields):
    assert request(*fields).upgrade is None


def test_only_te_trailers_is_kept():
    assert b"TE: trailers" in encode_request_head(request(b"TE: gzip, trailers"))
    assert b"TE:" not in encode_request_head(request(b"TE: gzip"))


def test_expect_without_content_is_forgotten():
    """32."""
    head = request(b"Expect: 100-continue")
    assert not head.expect_continue
    assert b"Expect" not in encode_request_head(head)
    assert request(b"Expect: 100-Continue", b"Content-Length: 1", line=b"PUT / HTTP/1.1").expect_continue


def test_keep_alive_by_version_and_option():
    assert request().keep_alive
    assert not request(b"Connection: Keep-Alive, CLOSE").keep_alive
    assert not request(b"Connection: keep-alive", line=b"GET / HTTP/1.0").keep_alive


def test_an_answer_until_close_becomes_chunked_for_a_client_of_1_1():
    head = response()
    assert response_framing(head, 1) is Framing.CHUNKED
    assert b"Transfer-Encoding: chunked\r\n" in encode_response_head(head)
    wire = encode_response_head(response(b"Transfer-Encoding: chunked"), request_minor=0)
    assert b"Transfer-Encoding" not in wire
    assert b"Connection: close\r\n" in wire


def test_answers_without_content_keep_the_length_they_tell():
    assert b"Content-Length: 9\r\n" in encode_response_head(response(b"Content-Length: 9", method="HEAD"))
    assert b"Content-Length: 9\r\n" in encode_response_head(response(b"Content-Length: 9", status=b"304 X"))
    assert b"Content-Length" not in encode_response_head(response(b"Content-Length: 0", status=b"204 X"))


def test_an_empty_chunk_is_not_written():
    assert encode_chunk(b"") == b""
    assert encode_chunk(memoryview(b"0123456789")) == b"a\r\n0123456789\r\n"


def test_spoofed_fields_and_their_underscore_twins_are_stripped():
    """41, 42."""
    headers = [
        (b"X_Meshpy_Identity", b"a"),
        (b"X-Forwarded-Client-Cert", b"b"),
        (b"X-Ok", b"c"),
        (b"x-meshpy-q", b"d"),
    ]
    assert strip_spoofed(headers) == [(b"X-Ok", b"c")]
    plain = [(b"X-Ok", b"c")]
    assert strip_spoofed(plain) is plain


def test_every_value_of_a_repeated_field_is_seen():
    """43: CVE-2026-26308."""
    head = request(b"X-Role: user", b"x-role: admin")
    assert head.get(b"x-role") == b"user"
    assert head.get_all(b"x-role") == [b"user", b"admin"]
    assert head.get_all(b"x-none") == []


def test_hosts_compare_without_case_port_and_trailing_dot():
    """44: CVE-2021-39155."""
    for host in (b"SECRET.com", b"secret.com.", b"secret.COM:8080"):
        assert parse_request_head(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n").host == "secret.com"


def test_connect_when_allowed_names_host_and_port():
    raw = b"CONNECT A:443 HTTP/1.1\r\nHost: a:443\r\n\r\n"
    head = parse_request_head(raw, allow_connect=True)
    assert (head.target, head.host, head.authority.port) == (b"a:443", "a", 443)
    assert parse_request_head(raw.replace(b"A:443", b"A"), allow_connect=True).status == 400
