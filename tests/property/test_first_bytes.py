"""What a connection begins with (ClientHello, PROXY header): no crash, and the same however it arrives."""

import ssl
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.http.client_hello import MAX_BYTES, HelloReader
from proxy.http.proxy_protocol import HeaderReader, ProxyHeader, header_v1, header_v2


def client_hello():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname="vault.example.com").do_handshake()
    return outgoing.read()


ENDS = (("192.0.2.1", 5000), ("192.0.2.2", 443))
SEEDS = [client_hello(), header_v1(*ENDS), header_v2(*ENDS), header_v2(*ENDS)[:16] + bytes(40)]


@st.composite
def spoiled(draw):
    """A good beginning with some octets changed, cut out or put in."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        how = draw(st.integers(0, 2))
        data[at : at + (how != 1)] = b"" if how == 0 else draw(st.binary(min_size=1, max_size=3))
    return bytes(data)


def fed(reader, pieces):
    """The outcome and how many bytes had come by then; without the rest, which depends on the pieces."""
    for piece in pieces:
        outcome = reader.feed(piece)
        if outcome is not None:
            return outcome._replace(rest=b"") if isinstance(outcome, ProxyHeader) else outcome
    return None


@settings(max_examples=300)
@given(spoiled() | st.binary(max_size=200), st.lists(st.integers(0, 400), max_size=4))
def test_readers_of_first_bytes_say_the_same_however_the_bytes_arrive(data, cuts):
    places = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    pieces = [data[a:b] for a, b in pairwise(places) if a < b]
    for reader in (HelloReader, HeaderReader):
        assert fed(reader(), pieces) == fed(reader(), [data])


@settings(max_examples=20)
@given(st.integers(1, 255))
def test_a_hello_that_never_ends_is_given_up_within_its_bound(size):
    reader, record = (
        HelloReader(),
        b"\x16\x03\x01" + size.to_bytes(2, "big") + b"\x01\x00\x40\x00"[: min(4, size)],
    )
    record += bytes(5 + size - len(record))
    taken = 0
    while reader.feed(record) is None:
        taken += size
        assert taken <= MAX_BYTES + 2 * 255
