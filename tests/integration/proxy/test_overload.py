"""Bounds of the process: connections, descriptors, content, memory, and those who hold on to them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Self

import pytest

from proxy.decide.overload import Level
from proxy.options import ProcessLimits
from tests.helpers.backends import Received, backend, ok, raw_server
from tests.helpers.load import load
from tests.helpers.peers import Processes, start_sidecar
from tests.helpers.ports import free_port
from tests.helpers.sidecars import (
    LOOPBACK,
    Client,
    outbound_snapshot,
    plain_cluster,
    running,
)

MIB = 1 << 20


@contextlib.contextmanager
def process(pki, tmp_path: Path, app_port: int, **options):
    """A sidecar of its own process before an app; yields its port and its process."""
    port = free_port()
    snapshot = outbound_snapshot(port, {"c": plain_cluster(app_port, name="c")})
    processes = Processes(tmp_path)
    try:
        started = start_sidecar(processes, pki, snapshot, port, **options)
        yield port, started
    finally:
        processes.stop()


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def cpu_s(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


async def metrics(port: int) -> str:
    async with await Client.connect(port) as client:
        await client.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return (await client.answer()).body.decode()


async def test_with_64_descriptors_accepting_pauses_without_spinning_and_goes_on(pki, tmp_path):
    def narrow() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    released = asyncio.Event()

    async def held(_request: Received) -> bytes:
        await released.wait()
        return ok()

    async with backend(held) as app:
        with process(pki, tmp_path, app.port, preexec_fn=narrow) as (port, started):
            clients = [await Client.connect(port) for _ in range(100)]
            for client in clients:
                await client.send(b"GET / HTTP/1.1\r\nHost: api\r\n\r\n")
            await asyncio.sleep(0.5)
            assert 0 < len(app.requests) < 30
            before, began = cpu_s(started.process.pid), time.monotonic()
            await asyncio.sleep(1.5)
            assert (cpu_s(started.process.pid) - before) / (time.monotonic() - began) < 0.5
            released.set()
            async with asyncio.timeout(20):
                answers = [await client.answer() for client in clients]
            for client in clients:
                client.writer.close()
            assert [answer.status for answer in answers] == [200] * 100
            assert any(answer.headers.get("connection") == "close" for answer in answers)
            assert started.process.poll() is None


async def test_with_64_descriptors_a_load_is_served_beside_fifty_idle_connections(pki, tmp_path):
    """Those that ask nothing make room; who comes waits its turn."""

    def narrow() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))

    async with backend() as app:
        with process(pki, tmp_path, app.port, preexec_fn=narrow) as (port, started):
            idle = [await Client.connect(port) for _ in range(50)]
            account = await load(port)
            print(f"\nfd limit 64, 50 idle connections: {account}")
            for client in idle:
                client.writer.close()
            assert set(account.outcomes) <= {"200", "503"}
            assert account.outcomes["200"] >= account.sent * 0.9
            assert started.process.poll() is None


async def test_a_listener_has_a_share_of_the_connections_and_more_wait_their_turn(pki):
    port, released = free_port(), asyncio.Event()

    async def held(_request: Received) -> bytes:
        await released.wait()
        return ok()

    async with backend(held) as app:
        snapshot = outbound_snapshot(port, {"c": plain_cluster(app.port, name="c")})
        limits = ProcessLimits(connections_per_listener=2)
        async with running(snapshot, pki, limits=limits) as sidecar, contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(await Client.connect(port)) for _ in range(3)]
            for client in clients:
                await client.send(b"GET / HTTP/1.1\r\nHost: api\r\n\r\n")
            async with asyncio.timeout(5):
                while sidecar.capacity.open < 2:  # noqa: ASYNC110 - what others do has no event
                    await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            assert (sidecar.capacity.open, len(app.requests)) == (2, 2)
            released.set()
            async with asyncio.timeout(5):
                assert [(await client.answer()).status for client in clients] == [200] * 3


async def test_who_asks_nothing_makes_room_for_who_waits(pki):
    port = free_port()
    async with backend() as app:
        snapshot = outbound_snapshot(port, {"c": plain_cluster(app.port, name="c")})
        limits = ProcessLimits(connections_per_listener=2)
        async with running(snapshot, pki, limits=limits), contextlib.AsyncExitStack() as stack:
            idle = [await stack.enter_async_context(await Client.connect(port)) for _ in range(2)]
            async with asyncio.timeout(5), await Client.connect(port) as third:
                assert (await third.get()).status == 200
                assert await idle[0].is_closed()


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_content_above_the_limit_is_413(pki, is_chunked):
    port = free_port()
    async with backend() as app:
        snapshot = outbound_snapshot(port, {"c": plain_cluster(app.port, name="c")})
        async with running(snapshot, pki, limits=ProcessLimits(request_bytes=1000)):
            for size, status in ((1000, 200), (1001, 413)):
                async with await Client.connect(port) as client:
                    if is_chunked:
                        head = b"POST / HTTP/1.1\r\nHost: api\r\nTransfer-Encoding: chunked\r\n\r\n"
                        await client.send(head + b"%x\r\n%b\r\n0\r\n\r\n" % (size, b"x" * size))
                        assert (await client.answer()).status == status
                    else:
                        assert (await client.post("/", b"x" * size)).status == status
    assert len(app.requests) == 1


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_levels_end_connections_first_and_refuse_requests_then(pki, method):
    port = free_port()
    async with backend() as app:
        snapshot = outbound_snapshot(port, {"c": plain_cluster(app.port, name="c")})
        async with running(snapshot, pki, limits=ProcessLimits(memory_bytes=1 << 40)) as sidecar:
            guard, size = sidecar.guard, 1 << 40

            async def ask():
                async with await Client.connect(port) as client:
                    return await (client.get() if method == "GET" else client.post("/", b"x"))

            guard._set(Level.SHRINK, size)
            answer = await ask()
            assert (answer.status, answer.headers.get("connection")) == (200, "close")
            guard._set(Level.REFUSE, size)
            answer = await ask()
            assert (answer.status, answer.headers["x-envoy-overloaded"]) == (503, "true")
            guard._set(Level.CALM, 0)
            answer = await ask()
            assert (answer.status, answer.headers.get("connection")) == (200, None)
    assert len(app.requests) == 2


async def test_what_is_shed_is_what_holds_most(pki):
    port = free_port()
    with Hole() as app:
        snapshot = outbound_snapshot(port, {"c": plain_cluster(app.port, name="c")})
        async with (
            running(snapshot, pki, limits=ProcessLimits(memory_bytes=1 << 40)) as sidecar,
            await Client.connect(port) as small,
            await Client.connect(port) as large,
        ):
            await small.send(b"GET / HTTP/1.1\r\nHost: api\r\n\r\n")
            large.writer.write(bytes(UPLOAD))
            for _ in range(100):
                held = [each.held_bytes for down in sidecar.shared.open for each in down.exchanges()]
                if max(held, default=0) > 200_000:
                    break
                await asyncio.sleep(0.02)
            sidecar.guard._shed(1)
            answer = await large.head()
            assert answer[0] == 503
            assert sidecar.guard.shed == 1
            assert not small.reader._buffer
            large.writer.transport.abort()


async def test_200_clients_that_drip_their_heads_do_not_hurt_another(pki):
    port = free_port()
    async with backend() as app:
        snapshot = outbound_snapshot(port, {"c": plain_cluster(app.port, name="c")})
        async with running(snapshot, pki), contextlib.AsyncExitStack() as stack:
            drips = [await stack.enter_async_context(await Client.connect(port)) for _ in range(200)]
            for drip in drips:
                await drip.send(b"GET / HTTP/1.1\r\nHost: api\r\n")
            async with await Client.connect(port) as victim:
                for turn in range(50):
                    for drip in drips[turn * 4 : turn * 4 + 4]:
                        await drip.send(b"X-A: b\r\n")
                    assert (await victim.get()).status == 200
    assert len(app.requests) == 50


async def test_a_client_that_reads_slowly_holds_a_fast_upstream_back(pki, tmp_path):
    sent = [0]

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 209715200\r\n\r\n")
        while sent[0] < 200 * MIB:
            writer.write(b"x" * MIB)
            await writer.drain()
            sent[0] += MIB

    async with raw_server(serve) as app:
        with process(pki, tmp_path, app) as (port, started):
            before = resident(started.process.pid)
            client = await Client.connect(port)
            client.writer.transport.pause_reading()
            await client.send(b"GET / HTTP/1.1\r\nHost: api\r\n\r\n")
            await asyncio.sleep(1)
            assert sent[0] < 32 * MIB
            assert resident(started.process.pid) - before < 8 * MIB
            client.writer.transport.abort()


class Hole:
    """An app that accepts and takes nothing, until it is told to serve."""

    def __init__(self) -> None:
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # or the kernel takes it all
        self._listener.bind((LOOPBACK, 0))
        self._listener.listen(1024)
        self.port = self._listener.getsockname()[1]
        self.is_serving = False
        self._held: list[socket.socket] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                accepted, _ = self._listener.accept()
            except OSError:
                return
            if not self.is_serving:
                self._held.append(accepted)
                continue
            with accepted, contextlib.suppress(OSError):
                accepted.settimeout(2)
                accepted.recv(65536)
                accepted.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")

    def serve(self) -> None:
        """Let go of everybody and answer whoever comes now."""
        self.is_serving = True
        for held in self._held:
            held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.serve()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(3)


async def test_an_upstream_that_reads_slowly_holds_a_fast_client_back(pki, tmp_path):
    with Hole() as app, process(pki, tmp_path, app.port) as (port, started):
        before = resident(started.process.pid)
        with socket.create_connection((LOOPBACK, port)) as client:
            client.setblocking(False)
            client.send(b"PUT / HTTP/1.1\r\nHost: api\r\nContent-Length: 209715200\r\n\r\n")
            sent, block = 0, b"x" * MIB
            for _ in range(100):
                with contextlib.suppress(BlockingIOError):
                    sent += client.send(block)
                await asyncio.sleep(0.01)
            assert sent < 32 * MIB
            assert resident(started.process.pid) - before < 8 * MIB


UPLOAD = memoryview(b"PUT / HTTP/1.1\r\nHost: api\r\nContent-Length: 8388608\r\n\r\n" + b"x" * 8 * MIB)


class Flood:
    """Uploads of 8 MB from as many connections as wanted; each sends as fast as it is taken."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.sent: dict[socket.socket, int] = {}

    def open(self, count: int) -> None:
        for _ in range(count):
            sock = socket.create_connection((LOOPBACK, self._port))
            sock.setblocking(False)
            self.sent[sock] = 0

    def push(self) -> None:
        for sock, sent in self.sent.items():
            with contextlib.suppress(OSError):
                self.sent[sock] = sent + sock.send(UPLOAD[sent:])

    def answers(self) -> Counter[bytes]:
        found: Counter[bytes] = Counter()
        for sock in self.sent:
            with contextlib.suppress(OSError):
                found[sock.recv(4096)[9:12]] += 1
        return found

    def close(self) -> None:
        for sock in self.sent:
            sock.close()


async def test_memory_stays_below_its_limit_under_slow_uploads_and_service_comes_back(pki, tmp_path):
    """An app that takes nothing: new uploads are refused, where that is not enough the largest shed."""
    with Hole() as app, process(pki, tmp_path, app.port) as (_, started):
        await asyncio.sleep(0.5)  # it listens before it has all of its memory
        limit = resident(started.process.pid) + 16 * MIB
    environment = {**os.environ, "MESHPY_MEMORY_LIMIT": str(limit)}
    with Hole() as app, process(pki, tmp_path, app.port, env=environment) as (port, started):
        pid, peak, flood = started.process.pid, 0, Flood(port)
        for turn in range(40):
            flood.open(5 if turn < 20 else 0)
            flood.push()
            await asyncio.sleep(0.02)
            peak = max(peak, resident(pid))
        answers = flood.answers()
        counted = await metrics(started.admin)
        assert started.process.poll() is None
        assert peak < limit
        assert answers[b"503"] > 0
        assert "meshpy_overload_level" in counted
        flood.close()
        app.serve()
        statuses = []
        for _ in range(40):
            async with await Client.connect(port) as client:
                statuses.append((await client.get()).status)
            if statuses[-1] == 200:
                break
            await asyncio.sleep(0.2)
        assert statuses[-1] == 200
        log = "".join(path.read_text() for path in tmp_path.glob("*.log"))
        assert "level refuse" in log or "level shed" in log
        assert "Traceback" not in log
        print(f"{len(flood.sent)} uploads, peak {peak >> 20} of {limit >> 20} MiB, answers {dict(answers)}")
