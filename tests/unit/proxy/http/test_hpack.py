"""HPACK by the examples of RFC 7541 appendix C, and by what a hostile peer may write."""

from __future__ import annotations

import random

import pytest

from proxy.http.hpack import BadField, Decoder, HpackError, Oversized
from proxy.http.hpack_write import Encoder

PLAIN = [
    ("82 86 84 41 0f 77 77 77 2e 65 78 61 6d 70 6c 65 2e 63 6f 6d", "GET http / www.example.com"),
    ("82 86 84 be 58 08 6e 6f 2d 63 61 63 68 65", "GET http / www.example.com no-cache"),
    (
        "82 87 85 bf 40 0a 63 75 73 74 6f 6d 2d 6b 65 79 0c 63 75 73 74 6f 6d 2d 76 61 6c 75 65",
        "GET https /index.html www.example.com custom-value",
    ),
]
PACKED = [
    ("82 86 84 41 8c f1 e3 c2 e5 f2 3a 6b a0 ab 90 f4 ff", "GET http / www.example.com"),
    ("82 86 84 be 58 86 a8 eb 10 64 9c bf", "GET http / www.example.com no-cache"),
    (
        "82 87 85 bf 40 88 25 a8 49 e9 5b a9 7d 7f 89 25 a8 49 e9 5b b8 e8 b4 bf",
        "GET https /index.html www.example.com custom-value",
    ),
]


def _decoder(max_bytes: int = 60_000, max_fields: int = 100) -> Decoder:
    return Decoder(max_bytes, max_fields)


@pytest.mark.parametrize("blocks", [PLAIN, PACKED], ids=["C.3", "C.4"])
def test_requests_of_appendix_c(blocks):
    decoder = _decoder()
    for block, values in blocks:
        fields = decoder.decode(bytes.fromhex(block))
        assert " ".join(value.decode() for _, value in fields) == values


def test_responses_of_appendix_c_evict():
    """C.6 with a table of 256 octets: the third response leaves three entries."""
    decoder = _decoder()
    first = (
        "3f e1 01 48 82 64 02 58 85 ae c3 77 1a 4b 61 96 d0 7a be 94 10 54 d4 44 a8 20 05 95 04 0b 81 66 e0 "
        "82 a6 2d 1b ff 6e 91 9d 29 ad 17 18 63 c7 8f 0b 97 c8 e9 ae 82 ae 43 d3"
    )
    second = "48 83 64 0e ff c1 c0 bf"
    third = (
        "88 c1 61 96 d0 7a be 94 10 54 d4 44 a8 20 05 95 04 0b 81 66 e0 84 a6 2d 1b ff c0 5a 83 9b d9 ab 77 "
        "ad 94 e7 82 1d d7 f2 e6 c7 b3 35 df df cd 5b 39 60 d5 af 27 08 7f 36 72 c1 ab 27 0f b5 29 1f 95 87 "
        "31 60 65 c0 03 ed 4e e5 b1 06 3d 50 07"
    )
    blocks = (first, second, third)
    last = [decoder.decode(bytes.fromhex(block)) for block in blocks][-1]
    assert dict(last)[b"set-cookie"] == b"foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"
    with pytest.raises(HpackError):
        decoder.decode(bytes.fromhex("c1"))  # index 65, one beyond the three that are left


@pytest.mark.parametrize("seed", range(10))
def test_what_is_written_is_read(seed):
    draw = random.Random(seed)
    encoder, decoder = Encoder(), _decoder()
    names = [b":path", b"content-type", b"x-request-id", b"cookie", b"grpc-status", b"x-" + b"n" * 200]
    for turn in range(60):
        if turn % 17 == 9:
            encoder.limit(draw.choice([0, 64, 1000, 4096, 100_000]))
        fields = [
            (draw.choice(names), bytes(draw.choices(b"abc/\xff", k=draw.choice([0, 3, 40, 600]))))
            for _ in range(draw.randrange(1, 9))
        ]
        assert decoder.decode(encoder.encode(fields)) == fields


def test_secrets_enter_no_table():
    encoder, decoder = Encoder(), _decoder()
    fields = [(b"authorization", b"Bearer x"), (b"cookie", b"a=b"), (b"set-cookie", b"a=b")]
    first, second = encoder.encode(fields), encoder.encode(fields)
    assert first == second
    assert all(octet & 0xF0 == 0x10 for octet in (first[0],))
    decoder.decode(first)
    with pytest.raises(HpackError):
        decoder.decode(b"\xbe")


@pytest.mark.parametrize(
    "block",
    [
        b"\x80",
        b"\xc6",
        b"\x40",
        b"\x40\x05ab",
        b"\x82\x20",
        b"\x3f\xff\xff\xff\xff\xff\xff\x01",
        b"\0\x01x\x81\x18",
    ],
)
def test_what_is_no_block_is_refused(block):
    with pytest.raises(HpackError):
        _decoder().decode(block)


def test_a_bomb_is_read_without_being_kept():
    """One entry of 3,900 octets and 60,000 references to it: 230 MB by the letter."""
    decoder = _decoder()
    decoder.decode(b"\x40\x01x" + b"\x7f\xbd\x1d" + b"y" * 3900)
    with pytest.raises(Oversized):
        decoder.decode(b"\xbe" * 60_000)
    assert decoder.decode(b"\xbe") == [(b"x", b"y" * 3900)]


def test_the_table_follows_a_block_that_is_too_large():
    decoder = _decoder(max_fields=2)
    with pytest.raises(Oversized):
        decoder.decode(b"\x82\x82\x82\x40\x01x\x01y")
    assert decoder.decode(b"\xbe") == [(b"x", b"y")]


@pytest.mark.parametrize(
    "field", [b"\x01X\x01y", b"\x01x\x02y\n", b"\x01x\x02\x00y", b"\x01x\x02 y", b"\0\x01y", b"\x02x \x01y"]
)
def test_a_field_that_must_not_pass_is_marked_and_stays_marked(field):
    decoder = _decoder()
    assert type(decoder.decode(b"\x40" + field)[0]) is BadField
    assert type(decoder.decode(b"\xbe")[0]) is BadField


def test_equal_blocks_are_read_once():
    decoder = _decoder()
    first = decoder.decode(b"\x82\x86\x84")
    assert decoder.decode(b"\x82\x86\x84") is first
    decoder.decode(b"\x40\x01x\x01y")
    assert decoder.decode(b"\x82\x86\x84") is not first
