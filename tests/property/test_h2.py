"""Whatever a peer writes, an HTTP/2 codec answers with events, resets or GOAWAY, never with an exception."""

from __future__ import annotations

import os
import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.http.events import Body, End
from proxy.http.h2 import ClientCodec, ServerCodec
from proxy.http.h2control import Reset
from proxy.http.head import RequestHead, ResponseHead
from tests.helpers import h2

SEEDS = int(os.environ.get("MESHPY_H2_FUZZ", "400"))
POISON = (b"\r", b"\n", b"\0", b"\x7f")


def _conversation(draw: random.Random) -> bytes:
    """Frames that mostly make sense."""
    frames = []
    for _ in range(draw.randrange(1, 12)):
        stream = draw.choice([0, 1, 1, 3, 5, 7, 2, 2**31 - 1])
        names = [*h2.GET, ("content-length", "3"), ("te", "trailers"), ("x-a", "b"), (":status", "200")]
        fields = h2.block(*draw.sample(names, draw.randrange(1, len(names))))
        known = b"\x82\x86\x84\x41\x03api"
        block = draw.choice([h2.block(*h2.GET), h2.block(*h2.POST), fields, known, b"\xbe"])
        kind, flags = draw.randrange(256), draw.randrange(256)
        any_kind = h2.frame(kind, draw.randbytes(draw.randrange(20)), flags, stream)
        frames.append(
            draw.choice(
                [
                    h2.frame(h2.HEADERS, block, draw.choice([0, 1, 4, 5, 5, 5, 0x2D, 0x0C]), stream),
                    h2.frame(h2.CONTINUATION, block, draw.choice([0, 4]), stream),
                    h2.frame(h2.DATA, draw.randbytes(draw.randrange(30)), draw.choice([0, 1, 8, 9]), stream),
                    h2.frame(h2.SETTINGS, struct.pack(">HL", draw.randrange(8), draw.getrandbits(32)), 0, 0),
                    h2.window(stream, draw.getrandbits(32)),
                    h2.reset(stream, draw.getrandbits(32)),
                    any_kind,
                    h2.frame(h2.GOAWAY, draw.randbytes(8), 0, 0),
                ]
            )
        )
    return b"".join(frames)


def _mutated(draw: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(draw.randrange(4)):
        if out:
            place = draw.randrange(len(out))
            out[place : place + draw.randrange(3)] = draw.randbytes(draw.randrange(3))
    return bytes(out)


def _cut(draw: random.Random, data: bytes) -> list[bytes]:
    pieces, position = [], 0
    while position < len(data):
        step = draw.choice([1, 5, 9, 30, 1000])
        pieces.append(data[position : position + step])
        position += step
    return pieces


def _frames_of(data: bytes) -> int:
    """How many whole frames; what the codec writes must be nothing else."""
    count = position = 0
    while position < len(data):
        position += 9 + int.from_bytes(data[position : position + 3])
        count += 1
    assert position == len(data)
    return count


def _check(events) -> None:
    """Nothing that is passed on could be read in another way by the next hop."""
    for _, event in events:
        assert isinstance(event, RequestHead | ResponseHead | Body | End | Reset) or event.status >= 400
        fields = getattr(event, "headers", None) or getattr(event, "trailers", ())
        for name, value in fields:
            assert not any(octet in name + value for octet in POISON)
            assert name == name.lower()
            assert not name.startswith(b":")
        if isinstance(event, RequestHead):
            assert event.fields[b"host"]
            assert not any(octet in event.target for octet in (b" ", *POISON))


def _run(draw: random.Random, codec: ServerCodec | ClientCodec, hello: bytes) -> None:
    codec.take()
    data = _mutated(draw, _conversation(draw))
    streams = []
    for number, piece in enumerate(_cut(draw, hello + h2.frame(h2.SETTINGS) + data)):
        events = codec.receive(piece, number / 10)
        _check(events)
        streams += [stream for stream, event in events if isinstance(event, RequestHead)]
        if streams and draw.random() < 0.5:
            stream = streams.pop()
            if stream.id in codec.streams:
                codec.send_head(stream, [(b":status", b"200")])
                codec.send_content(stream, [draw.randbytes(draw.choice([0, 10, 70_000]))], ())
        _frames_of(codec.take())
    codec.drain_all()
    _frames_of(codec.take())


@pytest.mark.parametrize("seed", range(0, SEEDS, 100))
def test_a_server_survives_any_client(seed):
    for number in range(seed, seed + 100):
        _run(random.Random(number), ServerCodec(), h2.PREFACE)


@pytest.mark.parametrize("seed", range(0, SEEDS, 100))
def test_a_client_survives_any_server(seed):
    for number in range(seed, seed + 100):
        codec = ClientCodec()
        codec.receive(h2.frame(h2.SETTINGS), 0.0)
        for _ in range(3):
            codec.send_head(codec.open(0.0), [(b":method", b"GET")], is_end=True)
        _run(random.Random(number), codec, b"")


@settings(deadline=None, max_examples=150)
@given(data=st.binary(max_size=300))
def test_any_bytes_are_read_to_an_end(data):
    codec = ServerCodec()
    codec.take()
    _check(codec.receive(h2.PREFACE + data, 0.0))
    _frames_of(codec.take())
