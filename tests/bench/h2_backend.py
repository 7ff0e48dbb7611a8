"""A gRPC-like application over HTTP/2 with prior knowledge, as cheap as Python can be: `h2_backend.py PORT`.

Each request (HEADERS, DATA) is answered by head, one message of 64 bytes, and trailers.
"""

import asyncio
import struct
import sys

import uvloop

from proxy.http.hpack_write import Encoder

PREFACE = 24
HEADERS, DATA, SETTINGS, PING = 1, 0, 4, 6
HEAD = ((b":status", b"200"), (b"content-type", b"application/grpc"), (b"grpc-accept-encoding", b"identity"))
TRAILERS = ((b"grpc-status", b"0"),)
MESSAGE = b"\0\0\0\0\x40" + b"y" * 64


def frame(kind, payload, flags, stream):
    return struct.pack(">HBBBL", len(payload) >> 8, len(payload) & 0xFF, kind, flags, stream) + payload


HELLO = frame(SETTINGS, struct.pack(">HLHL", 3, 2**20, 4, 2**30), 0, 0) + frame(
    8, struct.pack(">L", 2**30), 0, 0
)


class Backend(asyncio.Protocol):
    """One connection; frames are looked at only as far as the end of each stream."""

    def connection_made(self, transport):
        self.transport = transport
        self.held = b""
        self.skip = PREFACE
        self.encoder = Encoder()
        transport.write(HELLO)

    def data_received(self, data):
        data = self.held + data
        position, end = self.skip, len(data)
        if end < position:
            self.held = data
            return
        self.skip = 0
        out = []
        while end - position >= 9:
            high, low, kind, flags, stream = struct.unpack_from(">HBBBL", data, position)
            stop = position + 9 + (high << 8 | low)
            if stop > end:
                break
            if kind in (HEADERS, DATA):
                if flags & 1:
                    out += self.answer(stream)
            elif kind == SETTINGS and not flags & 1:
                out.append(frame(SETTINGS, b"", 1, 0))
            elif kind == PING and not flags & 1:
                out.append(frame(PING, data[position + 9 : stop], 1, 0))
            position = stop
        self.held = data[position:]
        if out:
            self.transport.write(b"".join(out))

    def answer(self, stream):
        encode = self.encoder.encode
        yield frame(HEADERS, encode(HEAD), 4, stream)
        yield frame(DATA, MESSAGE, 0, stream)
        yield frame(HEADERS, encode(TRAILERS), 5, stream)


async def main(port):
    server = await asyncio.get_running_loop().create_server(Backend, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
