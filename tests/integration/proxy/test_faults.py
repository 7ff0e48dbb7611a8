"""Faults at load: every request is accounted for, no POST arrives twice, no broken answer looks whole."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
import struct
from collections import Counter
from dataclasses import replace

import pytest

from meshpy.model.resilience import ConnectionPool, OutlierDetection, RetryOn, RetryPolicy
from meshpy.model.route import Destination, Forward, HeaderOps, RouteRule
from tests.helpers.backends import Received, backend, ok
from tests.helpers.load import RPS, SECONDS, Account, load
from tests.helpers.ports import free_port
from tests.helpers.sidecars import (
    LOOPBACK,
    Client,
    outbound_snapshot,
    plain_cluster,
    route,
    running,
)

_UNLUCKY = 0.25**4
"""Of requests of which each of four tries meets one reset in four."""
RESET = struct.pack("ii", 1, 0)
EVERYTHING = RetryPolicy(
    attempts=3,
    on=frozenset(RetryOn),
    status_codes=frozenset({503}),
    per_try_timeout_s=0.5,
    backoff_s=0.001,
)


class Counting:
    """An app that notes every request it reads, and misbehaves as `fault` says.

    Args:
        fault: `(number of the request at its connection, number at the app, writer)` → True when it has
            answered in its own way.

    Attributes:
        faulted: by method, how many were answered so.
    """

    def __init__(self, fault) -> None:
        self.fault = fault
        self.seen: Counter[str] = Counter()
        self.faulted: Counter[str] = Counter()
        self.read = 0
        self.port = 0
        self._serving: set[asyncio.Task] = set()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with (
            contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError),
            contextlib.closing(writer),
        ):
            for number in itertools.count():
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"POST"):
                    await reader.readexactly(200)
                target = head.split(b" ", 2)[1].decode()
                self.seen[target] += 1
                self.read += 1  # a retry as well: else it met the fault of its first try again
                if await self.fault(number, self.read, writer):
                    self.faulted[head.split(b" ", 1)[0].decode()] += 1
                    break
                writer.write(ok(target.encode()))

    def posts(self) -> Counter[str]:
        return Counter({target: count for target, count in self.seen.items() if "POST" in target})

    @contextlib.asynccontextmanager
    async def listening(self):
        server = await asyncio.start_server(self._accept, LOOPBACK, 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            serving = tuple(self._serving)
            for task in serving:
                task.cancel()
            await asyncio.gather(*serving)


@contextlib.asynccontextmanager
async def road(pki, *ports: int, retry: RetryPolicy = EVERYTHING, **cluster: object):
    port = free_port()
    snapshot = outbound_snapshot(
        port, {"c": plain_cluster(*ports, name="c", **cluster)}, (route("c", retry=retry),)
    )
    async with running(snapshot, pki) as sidecar:
        yield port, sidecar


def account_for(name: str, account: Account, app: Counting | None = None) -> None:
    """Print the counts; a POST that was read twice is the one thing that no fault excuses."""
    assert account.sent == int(RPS * SECONDS)
    print(f"\n{name}: {account}")
    if app is not None:
        assert max(app.posts().values(), default=0) <= 1


def beyond_budget(sidecar) -> int:
    """How many retries were not made because of what retries may cost."""
    stats = sidecar.clusters.live["c"].stats
    return stats.retries_over_budget + stats.retries_throttled


def reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None:  # else the sidecar has ended it already
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_reset_within_an_answer_is_a_broken_answer_for_the_client(pki, framing):
    head = b"Content-Length: 1000\r\n\r\n" + b"x" * 500
    if framing == "chunked":
        head = b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"

    async def fault(_number: int, total: int, writer: asyncio.StreamWriter) -> bool:
        if total % 5:
            return False
        writer.write(b"HTTP/1.1 200 OK\r\n" + head)
        await asyncio.sleep(0.005)
        reset(writer)
        return True

    async with Counting(fault).listening() as app, road(pki, app.port) as (port, _):
        account = await load(port)
    account_for(f"reset mid-body, {framing}", account, app)
    assert set(account.outcomes) == {"200", "broken message"}
    assert account.outcomes["broken message"] == account.sent // 5
    assert all(answer.body.startswith(b"/") for answer in account.answers)


async def test_an_app_that_closes_kept_connections_without_a_word_costs_no_get_and_doubles_no_post(pki):
    async def fault(number: int, _total: int, writer: asyncio.StreamWriter) -> bool:
        if number < 2:
            return False
        writer.write(ok(b"last"))
        return True

    async with Counting(fault).listening() as app, road(pki, app.port) as (port, sidecar):
        account = await load(port)
        over_budget = beyond_budget(sidecar)
    account_for("early close on keep-alive", account, app)
    assert set(account.outcomes) <= {"200", "503"}
    assert account.outcomes["200"] >= account.sent * 0.9
    assert (account.refused["GET"], over_budget) == (0, 0)
    # POSTs that were written while the close was on its way: nobody but the app can know that it read none.
    assert not any(app.seen[path] for path in account.refused_paths)


async def test_connections_reset_before_an_answer_double_no_post(pki):
    async def fault(_number: int, total: int, writer: asyncio.StreamWriter) -> bool:
        if total % 4:
            return False
        reset(writer)
        return True

    async with Counting(fault).listening() as app, road(pki, app.port) as (port, sidecar):
        account = await load(port)
        over_budget = beyond_budget(sidecar)
    account_for("reset before the answer", account, app)
    assert set(account.outcomes) <= {"200", "503"}
    assert account.refused["POST"] == app.faulted["POST"]
    assert account.refused["GET"] <= over_budget + max(3, account.sent * _UNLUCKY), over_budget


async def test_an_endpoint_that_swallows_connections_is_left_out_and_fails_nobody(pki):
    """A listener whose backlog is full answers no SYN: a black hole."""
    with contextlib.ExitStack() as stack:
        hole = stack.enter_context(socket.socket())
        hole.bind((LOOPBACK, 0))
        hole.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(hole.getsockname())
        outlier = OutlierDetection(
            consecutive_5xx=0, split_local_origin=True, consecutive_local_origin=3, max_ejection_pct=50
        )
        async with (
            Counting(_no_fault).listening() as app,
            road(
                pki,
                app.port,
                hole.getsockname()[1],
                outlier=outlier,
                pool=ConnectionPool(connect_timeout_s=0.2),
                retry=replace(EVERYTHING, per_try_timeout_s=None),
            ) as (port, sidecar),
        ):
            account = await load(port)
            stats = sidecar.clusters.live["c"].stats
            account_for(f"black hole, {stats.connect_failures} dials failed", account, app)
            assert account.outcomes == {"200": account.sent}
            assert stats.ejections == {"consecutive-local-origin-failures": 1}


async def _no_fault(_number: int, _total: int, _writer: asyncio.StreamWriter) -> bool:
    return False


async def test_an_endpoint_that_never_answers_is_left_by_every_get_and_costs_each_post_its_time(pki):
    async def silent(_number: int, _total: int, _writer: asyncio.StreamWriter) -> bool:
        await asyncio.sleep(0.6)
        return True

    async with (
        Counting(_no_fault).listening() as app,
        Counting(silent).listening() as mute,
        road(
            pki,
            app.port,
            mute.port,
            retry=replace(EVERYTHING, per_try_timeout_s=0.2),
            outlier=OutlierDetection(max_ejection_pct=50),
        ) as (port, _),
    ):
        account = await load(port)
    account_for("mute endpoint", account, app)
    assert max((app.posts() + mute.posts()).values()) <= 1
    assert set(account.outcomes) <= {"200", "504", "503"}
    assert account.outcomes["200"] >= account.sent * 0.9


async def test_a_client_that_closes_its_sending_side_gets_its_answer(pki):
    async def slow(_request: Received) -> bytes:
        await asyncio.sleep(0.05)
        return ok(b"whole")

    patient = replace(EVERYTHING, per_try_timeout_s=None)  # half a second is little where many things run
    async with backend(slow) as app, road(pki, app.port, retry=patient) as (port, _):

        async def one(_number: int) -> bytes:
            async with await Client.connect(port) as client:
                await client.send(b"GET / HTTP/1.1\r\nHost: api\r\n\r\n")
                client.writer.write_eof()
                return (await client.answer()).body

        bodies = await asyncio.gather(*(one(number) for number in range(50)))
    assert bodies == [b"whole"] * 50


async def test_a_load_of_half_closed_connections_is_answered_and_leaves_none_open(pki):
    async with Counting(_no_fault).listening() as app, road(pki, app.port) as (port, sidecar):
        account = await load(port, half_closing=True)
        account_for("half-close", account, app)
        assert account.outcomes == {"200": account.sent}
        async with asyncio.timeout(5):
            while sidecar.shared.open:  # noqa: ASYNC110 - what others do has no event
                await asyncio.sleep(0.01)


async def test_a_hundred_clients_that_send_a_byte_at_a_time_harm_nobody_and_are_sent_away(pki, monkeypatch):
    monkeypatch.setattr("proxy.downstream.life.CHECK_S", 0.1)
    monkeypatch.setattr("proxy.downstream.life.HEAD_TIMEOUT_S", 0.6)

    async def send(writer: asyncio.StreamWriter) -> None:
        for octet in b"GET / HTTP/1.1\r\nHost: api\r\nX: " + b"a" * 1000:
            writer.write(bytes((octet,)))
            await asyncio.sleep(0.05)

    async def drip(port: int) -> bytes:
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(send(writer))
            answer = await reader.readline()
            sending.cancel()
        writer.close()
        return answer

    async with Counting(_no_fault).listening() as app, road(pki, app.port) as (port, _):
        slow: list[bytes] = []

        async def attack() -> None:
            slow.extend(await asyncio.gather(*(drip(port) for _ in range(100))))

        account = await load(port, during=attack)
    account_for("slowloris, 100 clients", account, app)
    assert account.outcomes == {"200": account.sent}
    assert slow == [b"HTTP/1.1 408 Request Timeout\r\n"] * 100


async def test_a_drain_under_load_loses_nothing(pki):
    async with Counting(_no_fault).listening() as app, road(pki, app.port) as (port, sidecar):

        async def stop() -> None:
            await asyncio.sleep(SECONDS / 3)
            # over when nobody has come for a while: a load that lags behind its rate lasts longer
            await sidecar.drain(20 * SECONDS, SECONDS)

        account = await load(port, during=stop)
    account_for("drain", account, app)
    assert account.outcomes == {"200": account.sent}
    assert sum(answer.headers.get("connection") == "close" for answer in account.answers) > account.sent / 2


async def test_ten_snapshots_a_second_fail_nothing_and_no_request_mixes_two(pki):
    """Version n routes to the app that answers n, and adds `x-version: n` to the answer."""
    async with contextlib.AsyncExitStack() as stack:
        apps = [await stack.enter_async_context(backend(ok(b"%d" % number))) for number in range(3)]
        port = free_port()

        def snapshot(number: int):
            name = f"c{number}"
            headers = HeaderOps(set=(("x-version", str(number)),))
            rule = RouteRule(Forward((Destination(name),)), response_headers=headers, retry=EVERYTHING)
            return outbound_snapshot(port, {name: plain_cluster(apps[number].port, name=name)}, (rule,))

        sidecar = await stack.enter_async_context(running(snapshot(0), pki))

        async def churn() -> None:
            for turn in range(1, int(SECONDS * 10)):
                await asyncio.sleep(0.1)
                await sidecar.apply(snapshot(turn % 3))

        account = await load(port, during=churn)
    account_for("snapshot churn", account)
    assert account.outcomes == {"200": account.sent}
    assert {answer.body for answer in account.answers} == {b"0", b"1", b"2"}
    assert all(answer.headers["x-version"].encode() == answer.body for answer in account.answers)
