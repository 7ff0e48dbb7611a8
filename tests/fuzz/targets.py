"""What is fuzzed: each target takes any bytes and fails when a promise about them is broken.

The first two octets of an input say where it is cut; the rest is what a peer sends.
"""

from __future__ import annotations

from collections.abc import Callable

from proxy.http.chunked import ChunkDecoder
from proxy.http.client_hello import HelloReader
from proxy.http.encode import encode_chunk, encode_last_chunk, encode_request_head, encode_response_head
from proxy.http.events import Body, End, Framing, Refused
from proxy.http.h1 import RequestParser, ResponseParser
from proxy.http.h2 import ClientCodec, ServerCodec
from proxy.http.head import RequestHead, ResponseHead
from proxy.http.hpack import BadField, Decoder, HpackError, Oversized
from proxy.http.hpack_write import Encoder
from proxy.http.limits import DEFAULT_LIMITS
from proxy.http.proxy_protocol import HeaderReader, ProxyHeader
from proxy.http.sniff import spoken
from tests.helpers import h2
from tests.helpers.http1 import read_requests, read_response

__all__ = ["SEEDS", "TARGETS"]

_METHODS = ("GET", "HEAD", "CONNECT", "POST")


def _cut(data: bytes) -> tuple[list[bytes], bytes]:
    """The pieces in which the rest arrives, and the rest."""
    at, rest = int.from_bytes(data[:2]), data[2:]
    at = at % (len(rest) + 1)
    return [piece for piece in (rest[:at], rest[at:]) if piece], rest


def h1_requests(data: bytes) -> None:
    """Requests read alike however they are cut; what is passed on reads back as the same request."""
    pieces, raw = _cut(data)
    assert read_requests(pieces) == read_requests([raw])
    parser = RequestParser()
    head: RequestHead | None = None
    written, is_whole = b"", False
    for event in parser.feed(raw):
        if isinstance(event, RequestHead):
            head = event
            written = encode_request_head(event)
        elif isinstance(event, Body) and head is not None:
            is_chunked = head.framing is Framing.CHUNKED
            written += encode_chunk(event.data) if is_chunked else bytes(event.data)
        elif isinstance(event, End) and head is not None:
            is_whole = True
            written += encode_last_chunk(event.trailers) if head.framing is Framing.CHUNKED else b""
    if head is not None and is_whole:
        _reads_back(head, written)


def _reads_back(head: RequestHead, written: bytes) -> None:
    """The next hop finds one request in what was written for one, and the one that was judged."""
    events = RequestParser(allow_connect=True).feed(written)
    assert not any(isinstance(event, Refused) for event in events), (written, events)
    again = events[0]
    assert isinstance(again, RequestHead)
    told = ("method", "path", "query")
    assert [getattr(again, name) for name in told] == [getattr(head, name) for name in told]
    assert again.authority.text == head.authority.text
    assert sum(isinstance(event, RequestHead) for event in events) == 1
    assert isinstance(events[-1], End), (written, events)


def h1_responses(data: bytes) -> None:
    """Responses read alike however they are cut; a head that is passed on reads back alike."""
    method = _METHODS[data[0] % len(_METHODS)] if data else "GET"
    pieces, raw = _cut(data)
    assert read_response(pieces, method) == read_response([raw], method)
    parser = ResponseParser()
    parser.begin(method)
    for event in parser.feed(raw):
        if isinstance(event, ResponseHead) and not event.is_interim and event.status != 101:
            again = ResponseParser()
            again.begin(method)
            (first, *_) = again.feed(encode_response_head(event))
            assert isinstance(first, ResponseHead), first
            assert first.status == event.status


def chunked(data: bytes) -> None:
    """Chunked content comes apart alike however it is cut, and is whole when it says so."""
    pieces, raw = _cut(data)
    assert _decoded(pieces) == _decoded([raw])


def _decoded(pieces: list[bytes]) -> tuple[object, ...]:
    decoder = ChunkDecoder(DEFAULT_LIMITS)
    content = b""
    for piece in pieces:
        parts, _ = decoder.decode(piece, 0)
        content += b"".join(parts)
    return content, decoder.is_done, decoder.problem, tuple(decoder.trailers)


def h2_server(data: bytes) -> None:
    """Whatever a client of HTTP/2 sends, what is passed on could be read in one way only; bridged as well."""
    pieces, _ = _cut(data)
    codec = ServerCodec()
    for number, piece in enumerate([h2.PREFACE + h2.frame(h2.SETTINGS), *pieces]):
        for stream, event in codec.receive(piece, number / 10):
            if isinstance(event, RequestHead):
                _bridge(event)
                if stream.id in codec.streams:
                    codec.send_head(stream, [(b":status", b"200")])
                    codec.send_content(stream, [b"x" * 70_000], ())
        _whole_frames(codec.take())
    codec.drain_all()
    _whole_frames(codec.take())


def _bridge(head: RequestHead) -> None:
    """A request of HTTP/2, written as HTTP/1.1 with content that fits it."""
    written = encode_request_head(head)
    if head.framing is Framing.CHUNKED:
        written += encode_chunk(b"abc") + encode_last_chunk(())
    elif head.framing is Framing.LENGTH and head.content_length < 1 << 16:
        written += b"a" * head.content_length
    elif head.framing is Framing.LENGTH:
        return
    _reads_back(head, written)


def bridge(data: bytes) -> None:
    """A header block of any bytes behind a good beginning, and content, across the bridge to HTTP/1.1."""
    block = h2.block(*h2.POST) + data[1:]
    flags = h2.END_HEADERS | (h2.END_STREAM if data[:1] < b"\x80" else 0)
    h2_server(b"\0\0" + h2.frame(h2.HEADERS, block, flags, 1) + h2.frame(h2.DATA, b"abc", h2.END_STREAM, 1))


def h2_client(data: bytes) -> None:
    """Whatever a server of HTTP/2 sends, responses are heads that HTTP/1.1 can write."""
    pieces, _ = _cut(data)
    codec = ClientCodec()
    codec.receive(h2.frame(h2.SETTINGS), 0.0)
    for _ in range(3):
        codec.send_head(codec.open(0.0), [(b":method", b"GET")], is_end=True)
    codec.take()
    for number, piece in enumerate(pieces):
        for _, event in codec.receive(piece, number / 10):
            if isinstance(event, ResponseHead) and not event.is_interim:
                again = ResponseParser()
                again.begin("GET")
                (first, *_) = again.feed(encode_response_head(event))
                assert isinstance(first, ResponseHead), first
        _whole_frames(codec.take())


def _whole_frames(written: bytes) -> None:
    position = 0
    while position < len(written):
        position += 9 + int.from_bytes(written[position : position + 3])
    assert position == len(written)


def hpack(data: bytes) -> None:
    """A block is read or refused; what was read is written and read again alike."""
    decoder = Decoder(max_bytes=65536, max_fields=100)
    try:
        fields = decoder.decode(data)
    except (HpackError, Oversized):
        return
    good = [field for field in fields if not isinstance(field, BadField)]
    assert Decoder(max_bytes=1 << 20, max_fields=1000).decode(Encoder().encode(good)) == good


def proxy_header(data: bytes) -> None:
    """A PROXY header is found, or is none, however it arrives."""
    pieces, raw = _cut(data)
    assert _first(HeaderReader(), pieces) == _first(HeaderReader(), [raw])


def client_hello(data: bytes) -> None:
    """The server name is found, or there is none, however the ClientHello arrives."""
    pieces, raw = _cut(data)
    assert _first(HelloReader(), pieces) == _first(HelloReader(), [raw])


def _first(reader: HeaderReader | HelloReader, pieces: list[bytes]) -> object:
    for piece in pieces:
        outcome = reader.feed(piece)
        if outcome is not None:
            return outcome._replace(rest=b"") if isinstance(outcome, ProxyHeader) else outcome
    return None


def sniff(data: bytes) -> None:
    """What is told of a beginning does not change with what follows it."""
    pieces, raw = _cut(data)
    early = spoken(pieces[0]) if pieces else None
    assert early is None or early is spoken(raw)


TARGETS: dict[str, Callable[[bytes], None]] = {
    each.__name__: each
    for each in (
        h1_requests,
        h1_responses,
        chunked,
        h2_server,
        h2_client,
        bridge,
        hpack,
        proxy_header,
        client_hello,
        sniff,
    )
}

_GET = b"GET /a/../b?c HTTP/1.1\r\nHost: a\r\nConnection: close, x\r\nX: y\r\n\r\n"
_POST = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nT: u\r\n\r\n"
_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello"
SEEDS: dict[str, tuple[bytes, ...]] = {
    "h1_requests": (_GET, _POST, _GET + _POST, b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"),
    "h1_responses": (_OK, b"HTTP/1.1 100 Continue\r\n\r\n" + _OK, b"HTTP/1.0 204\r\n\r\n"),
    "chunked": (_POST.partition(b"\r\n\r\n")[2], b"ffffffff\r\n"),
    "h2_server": (h2.request(), h2.request(fields=h2.POST, end=False) + h2.frame(h2.DATA, b"abc", 1, 1)),
    "h2_client": (h2.frame(h2.HEADERS, h2.block((":status", "200"), ("content-length", "3")), 4, 1),),
    "bridge": (h2.literal("content-length", "3"), h2.literal("te", "trailers") + h2.literal("cookie", "a=b")),
    "hpack": (h2.block(*h2.GET), b"\x82\x86\x84\x41\x03api\xbe", b"\x3f\xe1\x1f"),
    "proxy_header": (
        b"PROXY TCP4 192.0.2.1 192.0.2.2 5000 443\r\nrest",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12),
    ),
    "client_hello": (bytes.fromhex("1603010045010000410303") + bytes(32) + b"\0\0\2\x13\1\1\0" + bytes(24),),
    "sniff": (_GET, h2.PREFACE, b"\x16\x03\x01"),
}
"""Good beginnings; two octets are put before each where a target cuts."""
