"""Applications that record every byte they receive and answer as a test tells them."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Received:
    """One request as it arrived."""

    head: bytes
    body: bytes
    connection: int

    @property
    def line(self) -> str:
        return self.head.split(b"\r\n")[0].decode("latin-1")

    @property
    def method(self) -> str:
        return self.line.split(" ")[0]

    @property
    def target(self) -> str:
        return self.line.split(" ")[1]

    def headers(self, name: str) -> list[str]:
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        pairs = (line.partition(":") for line in lines)
        return [value.strip() for key, _, value in pairs if key.lower() == name]


Reply = Callable[[Received], bytes | Awaitable[bytes | None] | None]


def ok(body: bytes = b"hello", status: str = "200 OK", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


@dataclass
class Backend:
    """`reply` gets each request and returns the bytes to write; None closes the connection."""

    reply: Reply = lambda _request: ok()
    requests: list[Received] = field(default_factory=list)
    raw: bytearray = field(default_factory=bytearray)
    connections: int = 0
    open: int = 0
    port: int = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        number = self.connections
        try:
            while await self._one(reader, writer, number):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        self.raw += head
        request = Received(head, b"", number)
        if "100-continue" in request.headers("expect"):
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.body = await self._body(reader, request)
        self.requests.append(request)
        result = self.reply(request)
        data = await result if isinstance(result, Awaitable) else result
        if data is None:
            return False
        writer.write(data)
        await writer.drain()
        return b"connection: close" not in data.lower() and b"101 Switching" not in data

    async def _body(self, reader: asyncio.StreamReader, request: Received) -> bytes:
        if request.headers("transfer-encoding") == ["chunked"]:
            body = b""
            while size := int(line := await self._line(reader), 16):
                assert line
                data = await reader.readexactly(size + 2)
                self.raw += data
                body += data[:-2]
            while await self._line(reader) != b"\r\n":
                pass
            return body
        length = int((request.headers("content-length") or ["0"])[0])
        data = await reader.readexactly(length)
        self.raw += data
        return data

    async def _line(self, reader: asyncio.StreamReader) -> bytes:
        line = await reader.readline()
        if not line:
            raise asyncio.IncompleteReadError(line, None)
        self.raw += line
        return line


@contextlib.asynccontextmanager
async def backend(reply: Reply | bytes | None = None) -> AsyncIterator[Backend]:
    """An HTTP application on a free loopback port."""
    app = Backend()
    if isinstance(reply, bytes):
        app.reply = lambda _request, data=reply: data
    elif reply is not None:
        app.reply = reply
    server = await asyncio.start_server(app._serve, "127.0.0.1", 0, limit=1 << 20)
    app.port = server.sockets[0].getsockname()[1]
    async with server_closed(server):
        yield app


@contextlib.asynccontextmanager
async def server_closed(server: asyncio.Server) -> AsyncIterator[None]:
    try:
        yield
    finally:
        server.close()


@contextlib.asynccontextmanager
async def raw_server(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    tls: ssl.SSLContext | None = None,
) -> AsyncIterator[int]:
    """A server of one's own making; yields its port."""

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await serve(reader, writer)
        writer.close()

    server = await asyncio.start_server(guarded, "127.0.0.1", 0, ssl=tls)
    async with server_closed(server):
        yield server.sockets[0].getsockname()[1]
