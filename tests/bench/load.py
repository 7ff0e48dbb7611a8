"""A bounded load over keep-alive connections, each of which sends again when it was answered."""

import asyncio
import time
from dataclasses import dataclass

import uvloop


@dataclass(frozen=True)
class Load:
    """What one run saw: latencies in seconds, ascending."""

    latencies_s: tuple[float, ...]
    errors: int

    def quantile_ms(self, share):
        """The latency that `share` of the requests did not exceed."""
        return self.latencies_s[min(len(self.latencies_s) - 1, int(share * len(self.latencies_s)))] * 1000


class Client(asyncio.Protocol):
    """One connection: send, wait for head and Content-Length body, send again."""

    def __init__(self, run):
        self.run = run
        self.buffer = b""
        self.sent_at = 0.0

    def connection_made(self, transport):
        self.transport = transport
        self.send()

    def send(self):
        if self.run.left == 0:
            self.transport.close()
            return
        self.run.left -= 1
        self.sent_at = time.perf_counter()
        self.transport.write(self.run.request)

    def data_received(self, data):
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.buffer[:end].lower()
        start = head.find(b"content-length:")
        length = int(head[start + 15 :].split(b"\r\n", 1)[0]) if start >= 0 else 0
        if len(self.buffer) < end + 4 + length:
            return
        self.buffer = self.buffer[end + 4 + length :]
        self.run.latencies.append(time.perf_counter() - self.sent_at)
        if not head.startswith(b"http/1.1 200"):
            self.run.errors += 1
        self.send()

    def connection_lost(self, _error):
        self.run.closed()


class _Run:
    def __init__(self, request, count, connections):
        self.request = request
        self.left = count
        self.open = connections
        self.latencies = []
        self.errors = 0
        self.done = asyncio.get_running_loop().create_future()

    def closed(self):
        self.open -= 1
        if self.open == 0 and not self.done.done():
            self.done.set_result(None)


async def _load(port, host, count, connections, timeout_s):
    request = (
        f"GET /api/v1/items?page=2 HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\n"
        "Accept-Encoding: gzip, deflate\r\nX-Customer: 4711\r\nCookie: session=abcdef0123456789\r\n\r\n"
    ).encode()
    run = _Run(request, count, connections)
    loop = asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(lambda: Client(run), "127.0.0.1", port)
    async with asyncio.timeout(timeout_s):
        await run.done
    return Load(tuple(sorted(run.latencies)), run.errors + run.left)


def load(port, host="backend", count=20_000, connections=64, timeout_s=120):
    """Send the load to 127.0.0.1:`port` and return what came back.

    Raises:
        TimeoutError: it did not end within `timeout_s`.
    """
    return uvloop.run(_load(port, host, count, connections, timeout_s))
