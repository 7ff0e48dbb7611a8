"""Loads, each bounded in time: closed loop (CPU per request), fixed rate (latency), fresh connections.

Connections are made and warmed up before the first measurement, so that a slice holds requests and nothing
else. What the generator costs itself is nobody's figure: only the proxies' CPU is read.
"""

import asyncio
import contextlib
import gc
import time
from collections import deque
from dataclasses import dataclass, field

import uvloop

CONNECTIONS = 64
_DEADLINE_S = 30.0


@dataclass(frozen=True)
class Seen:
    """What one slice saw: answers, failures, latencies in seconds, the meter's reading."""

    answered: int
    failed: int
    latencies_s: tuple[float, ...] = ()
    used: object = None

    def quantile_ms(self, share):
        """The latency that `share` of the requests did not exceed."""
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000 if ordered else 0.0


@dataclass(frozen=True)
class Target:
    """Where a load goes, and what it sends.

    Args:
        tls: a client context, None for plaintext.
        request: one whole request; its answer has a Content-Length.
    """

    port: int
    request: bytes
    tls: object = None
    server_name: str = ""
    connections: int = CONNECTIONS
    host: str = "127.0.0.1"


def get(host, path="/api/v1/items?page=2"):
    """A GET as libraries send it."""
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\n"
        "Accept-Encoding: gzip, deflate\r\nX-Customer: 4711\r\nCookie: session=abcdef0123456789\r\n\r\n"
    ).encode()


def post(host, size, path="/api/v1/items"):
    """A POST with `size` bytes of content."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\n"
        f"Content-Type: application/octet-stream\r\nContent-Length: {size}\r\n\r\n"
    )
    return head.encode() + b"x" * size


@dataclass
class _Run:
    """A closed loop: whoever was answered sends again until `stop_at`."""

    target: Target
    stop_at: float = 0.0
    outstanding: int = 0
    answered: int = 0
    failed: int = 0
    latencies: list[float] = field(default_factory=list)
    clients: list["_Client"] = field(default_factory=list)
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    def on_answer(self, client, latency, *, is_good):
        self.answered += 1
        self.failed += not is_good
        self.latencies.append(latency)
        if time.perf_counter() < self.stop_at:
            client.send()
            return
        self.outstanding -= 1
        if self.outstanding == 0:
            self.idle.set()

    def on_lost(self, client):
        if client.is_busy:
            self.failed += 1
            self.outstanding -= 1
        if self.outstanding == 0:
            self.idle.set()

    async def go(self, seconds):
        """Send on every connection for some seconds, then wait for the last answers."""
        self.idle.clear()
        self.answered = self.failed = 0
        self.latencies = []
        self.stop_at = time.perf_counter() + seconds
        self.outstanding = len(self.clients)
        for client in self.clients:
            client.send()
        async with asyncio.timeout(_DEADLINE_S):
            await self.idle.wait()


class _Client(asyncio.Protocol):
    """One connection: send, read head and Content-Length content, tell the run."""

    def __init__(self, run):
        self.run = run
        self.buffer = b""
        self.missing = 0
        self.is_good = True
        self.is_busy = False
        self.sent_at = 0.0

    def connection_made(self, transport):
        self.transport = transport

    def send(self, at=None):
        self.is_busy = True
        self.sent_at = at or time.perf_counter()
        self.transport.write(self.run.target.request)

    def data_received(self, data):
        if self.missing:
            self.missing -= len(data)
        else:
            self.buffer += data
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self.buffer[:end].lower()
            start = head.find(b"content-length:")
            length = int(head[start + 15 :].split(b"\r\n", 1)[0]) if start >= 0 else 0
            self.is_good = head.startswith(b"http/1.1 200")
            self.missing = end + 4 + length - len(self.buffer)
            self.buffer = b""
        if self.missing <= 0:
            self.missing = 0
            self.is_busy = False
            self.run.on_answer(self, time.perf_counter() - self.sent_at, is_good=self.is_good)

    def connection_lost(self, _error):
        self.run.on_lost(self)


async def _connected(run):
    loop = asyncio.get_running_loop()
    target = run.target
    for _ in range(target.connections):
        _, client = await loop.create_connection(
            lambda: _Client(run),
            target.host,
            target.port,
            ssl=target.tls,
            server_hostname=target.server_name if target.tls else None,
        )
        run.clients.append(client)


async def _close(run):
    for client in run.clients:
        client.transport.close()
    await asyncio.sleep(0.02)


async def _closed(target, seconds, meter):
    run = _Run(target)
    await _connected(run)
    await run.go(0.0)
    await run.go(0.05)
    gc.collect()
    gc.disable()
    before = meter()
    await run.go(seconds)
    used = meter() - before
    gc.enable()
    await _close(run)
    return Seen(run.answered - run.failed, run.failed, tuple(run.latencies), used)


@dataclass
class _Paced(_Run):
    """An open loop: requests leave when they are due, whether or not others were answered."""

    due: deque[float] = field(default_factory=deque)
    free: list["_Client"] = field(default_factory=list)
    is_ending: bool = False

    def on_answer(self, client, latency, *, is_good):
        self.outstanding -= 1
        self.answered += 1
        self.failed += not is_good
        self.latencies.append(latency)
        if self.due:
            client.send(self.due.popleft())
        else:
            self.free.append(client)
        if self.is_ending and self.outstanding == 0:
            self.idle.set()

    def tick(self, at):
        self.outstanding += 1
        if self.free:
            self.free.pop().send(at)
        else:
            self.due.append(at)


async def _rate(target, seconds, per_second):
    run = _Paced(target)
    await _connected(run)
    run.free = list(run.clients)
    gc.disable()
    start = time.perf_counter()
    for number in range(int(seconds * per_second)):
        at = start + number / per_second
        delay = at - time.perf_counter()
        if delay > 0:
            await asyncio.sleep(delay)
        run.tick(time.perf_counter() if delay > 0 else at)
    run.is_ending = True
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(5.0 if run.outstanding else 0.0):
            await run.idle.wait()
    gc.enable()
    await _close(run)
    return Seen(run.answered - run.failed, run.failed + run.outstanding, tuple(run.latencies))


async def _fresh(target, seconds, meter, concurrency):
    """One connection, one request, close, again."""
    seen = [0, 0]
    before = meter()
    stop_at = time.perf_counter() + seconds

    async def worker():
        while time.perf_counter() < stop_at:
            run = _Run(Target(target.port, target.request, target.tls, target.server_name, 1))
            try:
                async with asyncio.timeout(10):
                    await _connected(run)
                    await run.go(0.0)
            except (OSError, TimeoutError):
                seen[1] += 1
                continue
            finally:
                for client in run.clients:
                    client.transport.close()
            seen[0] += run.answered - run.failed
            seen[1] += run.failed

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    await asyncio.sleep(0.05)
    return Seen(seen[0], seen[1], (), meter() - before)


def closed(target, seconds, meter):
    """Keep every connection busy for some seconds; `used` is what the meter grew by meanwhile."""
    return uvloop.run(_closed(target, seconds, meter))


def rate(target, seconds, per_second):
    """Send at a fixed rate; latencies count from when a request was due."""
    return uvloop.run(_rate(target, seconds, per_second))


def fresh(target, seconds, meter, concurrency=8):
    """A connection for each request."""
    return uvloop.run(_fresh(target, seconds, meter, concurrency))
