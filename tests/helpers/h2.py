"""HTTP/2 frames written by hand, and a client that speaks exactly the bytes a test wrote."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections import Counter
from dataclasses import dataclass, field
from typing import Self

from proxy.http.hpack import Decoder

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    range(10)
)
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY_FLAG = 1, 1, 4, 8, 32

GET = ((":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "api"))
POST = ((":method", "POST"), *GET[1:])


def frame(kind: int, payload: bytes = b"", flags: int = 0, stream: int = 0) -> bytes:
    return struct.pack(">HBBBL", len(payload) >> 8, len(payload) & 0xFF, kind, flags, stream) + payload


def number(value: int, prefix: int, flags: int = 0) -> bytes:
    """RFC 7541 §5.1."""
    limit = (1 << prefix) - 1
    if value < limit:
        return bytes((flags | value,))
    out = [flags | limit]
    value -= limit
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes((*out, value))


def literal(name: str | bytes, value: str | bytes) -> bytes:
    """A field without indexing, whatever it holds."""
    raw_name = name.encode("latin-1") if isinstance(name, str) else name
    raw_value = value.encode("latin-1") if isinstance(value, str) else value
    return b"\0" + number(len(raw_name), 7) + raw_name + number(len(raw_value), 7) + raw_value


def block(*fields: tuple[str, str]) -> bytes:
    return b"".join(literal(*each) for each in fields)


def request(
    stream: int = 1, fields: tuple[tuple[str, str], ...] = GET, *, end: bool = True, flags: int = END_HEADERS
) -> bytes:
    return frame(HEADERS, block(*fields), flags | (END_STREAM if end else 0), stream)


def settings(*values: tuple[int, int]) -> bytes:
    return frame(SETTINGS, b"".join(struct.pack(">HL", *each) for each in values))


def window(stream: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, struct.pack(">L", increment), 0, stream)


def reset(stream: int, code: int = 8) -> bytes:
    return frame(RST_STREAM, struct.pack(">L", code), 0, stream)


@dataclass
class Answer:
    """What came on one stream."""

    fields: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    is_complete: bool = False
    reset: int | None = None

    @property
    def status(self) -> int:
        return int(dict(self.fields).get(b":status", b"0"))


class H2Client:
    """A connection to a listener; `streams` holds what was answered so far."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.streams: dict[int, Answer] = {}
        self.goaways: list[tuple[int, int]] = []
        self.pings: list[bytes] = []
        self.granted: Counter[int] = Counter()
        self.is_closed = False
        self._decoder = Decoder(1 << 20, 1000)

    @classmethod
    async def connect(cls, port: int, *, hello: bytes = PREFACE + frame(SETTINGS)) -> H2Client:
        client = cls(*await asyncio.open_connection("127.0.0.1", port))
        client.writer.write(hello)
        return client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        with contextlib.suppress(ConnectionError):
            await self.writer.drain()

    async def turn(self, timeout_s: float = 5.0) -> bool:
        """Read one frame; False when the connection has ended."""
        try:
            async with asyncio.timeout(timeout_s):
                head = await self.reader.readexactly(9)
                high, low, kind, flags, stream = struct.unpack(">HBBBL", head)
                payload = await self.reader.readexactly(high << 8 | low)
        except (asyncio.IncompleteReadError, ConnectionError):
            self.is_closed = True
            return False
        self._take(kind, flags, stream, payload)
        return True

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == SETTINGS and not flags & ACK:
            self.writer.write(frame(SETTINGS, b"", ACK))
        elif kind == PING and flags & ACK:
            self.pings.append(payload)
        elif kind == PING:
            self.writer.write(frame(PING, payload, ACK))
        elif kind == WINDOW_UPDATE:
            self.granted[stream] += struct.unpack(">L", payload)[0]
        elif kind == GOAWAY:
            self.goaways.append(struct.unpack(">LL", payload[:8]))
        elif kind in (HEADERS, DATA, RST_STREAM):
            self._on_stream(kind, flags, self.streams.setdefault(stream, Answer()), payload)

    def _on_stream(self, kind: int, flags: int, answer: Answer, payload: bytes) -> None:
        if kind == RST_STREAM:
            answer.reset = struct.unpack(">L", payload)[0]
            return
        if kind == HEADERS:
            assert flags & END_HEADERS
            fields = self._decoder.decode(payload)
            if answer.status >= 200:
                answer.trailers = fields
            else:
                answer.fields = fields
        else:
            answer.body += payload
        answer.is_complete = answer.is_complete or bool(flags & END_STREAM)

    async def answer(self, stream: int = 1) -> Answer:
        """Read until a stream is complete or reset."""
        while True:
            answer = self.streams.get(stream)
            if answer is not None and (answer.is_complete or answer.reset is not None):
                return answer
            if not await self.turn():
                return answer or Answer()

    async def until_ping(self) -> None:
        """Read until what was sent so far has been read by the other side, or the connection has ended."""
        mark = b"test-%03d" % len(self.pings)
        await self.send(frame(PING, mark))
        while mark not in self.pings and await self.turn():
            pass

    async def until_closed(self) -> None:
        while await self.turn():
            pass
