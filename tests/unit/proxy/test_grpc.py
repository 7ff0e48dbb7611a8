"""gRPC's own fields: what they mean, whatever a peer writes into them."""

from __future__ import annotations

import random

import pytest

from proxy.decide.grpc import Messages, call_of, status_of_http, timeout_s, trailers_of
from proxy.http.h2frames import DEFAULT_H2_LIMITS
from proxy.http.h2heads import read_request


def _head(*fields: tuple[bytes, bytes]):
    base = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", b"/a.B/C"), (b":authority", b"api")]
    return read_request([*base, *fields], DEFAULT_H2_LIMITS, is_end=False)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"1H", 3600),
        (b"2M", 120),
        (b"3S", 3),
        (b"250m", 0.25),
        (b"500u", 0.0005),
        (b"99999999n", 0.099999999),
    ],
)
def test_a_timeout_has_a_number_and_a_unit(value, seconds):
    assert timeout_s(value) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value", [None, b"", b"1", b"S", b"123456789S", b"-1S", b"1s", b"1 S", b"1.5S", b"1SS"]
)
def test_what_is_no_timeout_is_none(value):
    assert timeout_s(value) is None


@pytest.mark.parametrize(
    ("content_type", "is_call"),
    [
        (b"application/grpc", True),
        (b"application/grpc+proto", True),
        (b"application/grpc;charset=utf-8", True),
        (b"application/grpc-web", False),
        (b"application/grpcx", False),
        (b"application/json", False),
    ],
)
def test_calls_are_known_by_their_content_type(content_type, is_call):
    assert (call_of(_head((b"content-type", content_type))) is not None) is is_call


def test_a_status_that_is_no_number_is_unknown():
    call = call_of(_head((b"content-type", b"application/grpc")))
    call.take_status(b"14")
    assert (call.status, call.http_status) == (14, 503)
    call.take_status(b"x")
    assert (call.status, call.http_status) == (2, 500)


@pytest.mark.parametrize(
    ("http", "grpc"),
    [(400, 13), (401, 16), (403, 7), (404, 12), (429, 14), (502, 14), (503, 14), (504, 14), (501, 2)],
)
def test_errors_of_the_mesh_are_mapped_as_envoy_maps_them(http, grpc):
    assert status_of_http(http) == grpc


def test_messages_are_percent_encoded():
    assert trailers_of(7, b"100 % n\xc3\xb6\n") == (
        (b"grpc-status", b"7"),
        (b"grpc-message", b"100 %25 n%C3%B6"),
    )
    assert trailers_of(0, b"") == ((b"grpc-status", b"0"),)


@pytest.mark.parametrize("seed", range(20))
def test_messages_are_counted_however_they_are_cut(seed):
    draw = random.Random(seed)
    sizes = [draw.choice([0, 1, 4, 5, 6, 300]) for _ in range(30)]
    data = b"".join(b"\0" + size.to_bytes(4, "big") + bytes(size) for size in sizes)
    messages = Messages()
    position = 0
    while position < len(data):
        step = draw.choice([1, 2, 5, 40, 700])
        messages.feed(memoryview(data)[position : position + step])
        position += step
    assert messages.count == len(sizes)
