"""A closed loop over HTTP/2: gRPC-like unary calls, some streams at once on each of some connections."""

import asyncio
import gc
import struct
import time

import uvloop

from proxy.http.hpack import Decoder
from proxy.http.hpack_write import Encoder
from tests.bench.h2_backend import DATA, HEADERS, PING, SETTINGS, frame
from tests.bench.load import Seen

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HELLO = (
    _PREFACE
    + frame(SETTINGS, struct.pack(">HLHL", 2, 0, 4, 2**30), 0, 0)
    + frame(8, struct.pack(">L", 2**30), 0, 0)
)
_REQUEST = (
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/api/v1.Items/Get"),
    (b":authority", b"backend"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
    (b"user-agent", b"grpc-bench/1.0"),
    (b"grpc-accept-encoding", b"identity, deflate, gzip"),
)
_MESSAGE = b"\0\0\0\0\x40" + b"x" * 64
_DEADLINE_S = 30.0


class _Client(asyncio.Protocol):
    """One connection: `streams` calls at once until the run's end."""

    def __init__(self, run, streams):
        self.run, self.streams = run, streams
        self.next, self.open = 1, 0
        self.held = b""
        self.encoder, self.decoder = Encoder(), Decoder(1 << 16, 100)

    def connection_made(self, transport):
        self.transport = transport
        transport.write(_HELLO)

    def call(self):
        stream, self.next = self.next, self.next + 2
        self.open += 1
        return frame(HEADERS, self.encoder.encode(_REQUEST), 4, stream) + frame(DATA, _MESSAGE, 1, stream)

    def begin(self):
        self.transport.write(b"".join(self.call() for _ in range(self.streams)))

    def data_received(self, data):
        data = self.held + data
        position, end = 0, len(data)
        out = []
        while end - position >= 9:
            high, low, kind, flags, _ = struct.unpack_from(">HBBBL", data, position)
            stop = position + 9 + (high << 8 | low)
            if stop > end:
                break
            if kind == HEADERS:
                fields = self.decoder.decode(data[position + 9 : stop])
                if flags & 1:
                    self.open -= 1
                    if self.run.on_answer(is_good=(b"grpc-status", b"0") in fields):
                        out.append(self.call())
            elif kind == SETTINGS and not flags & 1:
                out.append(frame(SETTINGS, b"", 1, 0))
            elif kind == PING and not flags & 1:
                out.append(frame(PING, data[position + 9 : stop], 1, 0))
            elif kind in (3, 7):
                self.run.failed += 1
            position = stop
        self.held = data[position:]
        if out:
            self.transport.write(b"".join(out))
        if not self.open:
            self.run.on_idle()

    def connection_lost(self, _error):
        if self.open:
            self.run.failed += self.open
            self.open = 0
            self.run.on_idle()


class _Run:
    """Counts, and tells whether to go on."""

    def __init__(self):
        self.answered = self.failed = 0
        self.stop_at = 0.0
        self.clients = []
        self.idle = asyncio.Event()

    def on_answer(self, *, is_good):
        self.answered += 1
        self.failed += not is_good
        return time.perf_counter() < self.stop_at

    def on_idle(self):
        if not any(client.open for client in self.clients):
            self.idle.set()

    async def go(self, seconds):
        self.answered = self.failed = 0
        self.idle.clear()
        self.stop_at = time.perf_counter() + seconds
        for client in self.clients:
            client.begin()
        async with asyncio.timeout(_DEADLINE_S):
            await self.idle.wait()


async def _closed(port, connections, streams, seconds, meter):
    run = _Run()
    loop = asyncio.get_running_loop()
    for _ in range(connections):
        _, client = await loop.create_connection(lambda: _Client(run, streams), "127.0.0.1", port)
        run.clients.append(client)
    await run.go(0.0)
    await run.go(0.05)
    gc.collect()
    gc.disable()
    before = meter()
    await run.go(seconds)
    used = meter() - before
    gc.enable()
    for client in run.clients:
        client.transport.close()
    await asyncio.sleep(0.02)
    return Seen(run.answered - run.failed, run.failed, (), used)


def closed(port, connections, streams, seconds, meter):
    """Keep every stream busy for some seconds."""
    return uvloop.run(_closed(port, connections, streams, seconds, meter))
