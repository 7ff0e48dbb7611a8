"""Retries, timeouts, budgets, breakers, weights: counted at the application."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import socket
import time
from types import SimpleNamespace

import pytest

from meshpy.model.resilience import (
    ConnectionPool,
    LoadBalancing,
    OutlierDetection,
    RetryBudget,
    RetryOn,
    RetryPolicy,
)
from meshpy.model.route import Destination, Forward, RouteRule
from proxy.http.h1 import RequestParser
from tests.helpers.backends import Received, backend, ok, raw_server
from tests.helpers.ports import free_port
from tests.helpers.sidecars import (
    Client,
    LogLines,
    outbound_snapshot,
    plain_cluster,
    route,
    running,
)

FAST = 0.001
ON_5XX = RetryPolicy(attempts=3, on=frozenset({RetryOn.SERVER_ERROR}), backoff_s=FAST)


@contextlib.asynccontextmanager
async def road(
    pki, *ports: int, rule: RouteRule | None = None, log: LogLines | None = None, **cluster: object
):
    port = free_port()
    clusters = {"c": plain_cluster(*ports, name="c", **cluster)}
    snapshot = outbound_snapshot(port, clusters, (rule or route("c"),))
    async with running(snapshot, pki, **({"log": log.log} if log else {})) as sidecar:
        yield port, sidecar


async def test_a_get_is_tried_at_most_one_plus_attempts_times(pki):
    log = LogLines()
    async with (
        backend(ok(b"bad", "503 Service Unavailable")) as app,
        road(pki, app.port, rule=route("c", retry=ON_5XX), log=log) as (port, _),
        await Client.connect(port) as client,
    ):
        answer = await client.get()
    assert (answer.status, answer.body) == (503, b"bad")
    assert len(app.requests) == 4
    assert log.lines()[0]["attempts"] == 4


async def test_a_retry_that_helps_is_counted_as_recovered(pki):
    replies = iter([ok(b"bad", "500 Oops"), ok()])
    async with (
        backend(lambda _request: next(replies)) as app,
        road(pki, app.port, rule=route("c", retry=ON_5XX)) as (port, sidecar),
        await Client.connect(port) as client,
    ):
        assert (await client.get()).status == 200
        record = sidecar.telemetry.take_records()[0]
        assert (record["retries"], record["recovered_by_retry"]) == (1, 1)
        assert sidecar.clusters.live["c"].active_retries == 0


@pytest.mark.parametrize("behaviour", ["reset", "status", "silence"])
async def test_a_post_that_reached_the_wire_is_never_sent_twice(pki, behaviour):
    async def reply(_request: Received) -> bytes | None:
        if behaviour == "silence":
            await asyncio.sleep(0.5)
        return ok(b"bad", "503 Service Unavailable") if behaviour == "status" else None

    everything = RetryPolicy(
        attempts=3,
        per_try_timeout_s=0.1,
        on=frozenset(RetryOn),
        status_codes=frozenset({503}),
        backoff_s=FAST,
    )
    async with (
        backend(reply) as app,
        road(pki, app.port, rule=route("c", retry=everything)) as (port, _),
        await Client.connect(port) as client,
    ):
        assert (await client.post("/", b"once")).status in (503, 504)
    assert len(app.requests) == 1


async def test_a_put_is_replayed_with_its_content(pki):
    replies = iter([ok(b"bad", "500 Oops"), ok()])
    async with (
        backend(lambda _request: next(replies)) as app,
        road(pki, app.port, rule=route("c", retry=ON_5XX)) as (port, _),
        await Client.connect(port) as client,
    ):
        assert (await client.post("/", b"x" * 60_000, method="PUT")).status == 200
    assert [len(request.body) for request in app.requests] == [60_000, 60_000]


async def test_content_above_the_buffer_is_not_replayed(pki):
    async with (
        backend(ok(b"bad", "500 Oops")) as app,
        road(pki, app.port, rule=route("c", retry=ON_5XX)) as (port, _),
        await Client.connect(port) as client,
    ):
        assert (await client.post("/", b"x" * 200_000, method="PUT")).status == 500
    assert len(app.requests) == 1


async def test_a_post_moves_to_another_endpoint_when_no_connection_could_be_made(pki):
    dead = free_port()
    async with (
        backend() as app,
        road(pki, dead, app.port, rule=route("c", retry=RetryPolicy(backoff_s=FAST))) as (port, _),
        await Client.connect(port) as client,
    ):
        for _ in range(10):
            assert (await client.post("/", b"body")).status == 200
    assert len(app.requests) == 10


async def test_each_try_is_cut_at_its_timeout_and_there_are_at_most_four(pki):
    started: list[float] = []
    loop = asyncio.get_running_loop()

    async def reply(_request: Received) -> bytes:
        started.append(loop.time())
        await asyncio.sleep(5)
        return ok()

    retry = RetryPolicy(attempts=3, per_try_timeout_s=0.2, backoff_s=FAST)
    async with (
        backend(reply) as app,
        road(pki, app.port, rule=route("c", retry=retry)) as (port, _),
        await Client.connect(port) as client,
    ):
        before = loop.time()
        answer = await client.get()
        spent = loop.time() - before
    assert (answer.status, answer.body) == (504, b"upstream request timeout")
    assert len(started) == 4
    assert 0.8 <= spent < 1.4
    gaps = [later - earlier for earlier, later in itertools.pairwise(started)]
    assert all(0.19 <= gap < 0.35 for gap in gaps)


async def test_the_route_s_timeout_ends_everything_with_504_ut(pki):
    async def reply(_request: Received) -> bytes:
        await asyncio.sleep(5)
        return ok()

    log = LogLines()
    async with (
        backend(reply) as app,
        road(pki, app.port, rule=route("c", timeout_s=0.2), log=log) as (port, sidecar),
        await Client.connect(port) as client,
    ):
        assert (await client.get()).status == 504
        assert (await client.get()).status == 504
        assert log.lines()[0]["response_flags"] == "UT"
        upstream = sidecar.clusters.live["c"]
        assert (upstream.active_requests, upstream.hosts[0].active) == (0, 0)
    assert app.connections == 2


async def test_the_budget_bounds_what_a_failing_application_gets(pki):
    async def reply(_request: Received) -> bytes:
        await asyncio.sleep(0.02)
        return ok(b"bad", "503 Service Unavailable")

    pool = ConnectionPool(retry_budget=RetryBudget(percent=20.0, min_concurrency=0))
    async with (
        backend(reply) as app,
        road(pki, app.port, rule=route("c", retry=ON_5XX), pool=pool) as (port, _),
        contextlib.AsyncExitStack() as stack,
    ):
        clients = [await stack.enter_async_context(await Client.connect(port)) for _ in range(40)]
        for _ in range(3):
            answers = await asyncio.gather(*(client.get() for client in clients))
            assert {answer.status for answer in answers} == {503}
    assert 120 < len(app.requests) <= 120 * 1.4


async def test_an_idle_connection_that_the_upstream_closed_costs_a_get_nothing(pki):
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ok())
        await reader.readuntil(b"\r\n\r\n")

    async with (
        raw_server(serve) as app,
        road(pki, app) as (port, _),
        await Client.connect(port) as client,
    ):
        for _ in range(4):
            assert (await client.get()).status == 200


async def test_weights_are_shares(pki):
    rule = RouteRule(Forward((Destination("v1", 90), Destination("v2", 10))))
    port = free_port()
    async with backend(ok(b"v1")) as one, backend(ok(b"v2")) as two:
        clusters = {"v1": plain_cluster(one.port, name="v1"), "v2": plain_cluster(two.port, name="v2")}
        draw = random.Random(7).random
        async with (
            running(outbound_snapshot(port, clusters, (rule,)), pki, draw=draw),
            await Client.connect(port) as client,
        ):
            bodies = [(await client.get()).body for _ in range(1000)]
    assert 70 <= bodies.count(b"v2") <= 130


async def test_what_exceeds_the_pool_is_refused_with_uo(pki):
    arrived = asyncio.Event()

    async def reply(_request: Received) -> bytes:
        arrived.set()
        await asyncio.sleep(0.2)
        return ok()

    log = LogLines()
    pool = ConnectionPool(max_connections=1, max_pending_requests=1)
    async with (
        backend(reply) as app,
        road(pki, app.port, pool=pool, log=log) as (port, _),
        contextlib.AsyncExitStack() as stack,
    ):
        clients = [await stack.enter_async_context(await Client.connect(port)) for _ in range(4)]
        first = asyncio.get_running_loop().create_task(clients[0].get())
        await asyncio.wait_for(arrived.wait(), 10)
        others = await asyncio.gather(*(client.get() for client in clients[1:]))
        assert (await first).status == 200
        assert sorted(answer.status for answer in others) == [200, 503, 503]
        assert [line["response_flags"] for line in log.lines()].count("UO") == 2
    assert app.connections == 1


async def test_a_host_that_keeps_failing_is_left_out(pki):
    outlier = OutlierDetection(consecutive_5xx=3, max_ejection_pct=50)
    async with backend(ok(b"bad", "500 Oops")) as bad, backend() as good:
        async with (
            road(pki, bad.port, good.port, outlier=outlier, load_balancing=LoadBalancing.ROUND_ROBIN) as (
                port,
                _,
            ),
            await Client.connect(port) as client,
        ):
            statuses = [(await client.get()).status for _ in range(30)]
        assert len(bad.requests) == 3
    assert statuses[-20:] == [200] * 20


async def test_a_connection_serves_as_many_requests_as_the_pool_says(pki):
    async with (
        backend() as app,
        road(pki, app.port, pool=ConnectionPool(max_requests_per_connection=2)) as (port, _),
        await Client.connect(port) as client,
    ):
        for _ in range(6):
            assert (await client.get()).status == 200
    assert app.connections == 3


@pytest.mark.parametrize("way", ["idle", "released to one who waits"])
@pytest.mark.parametrize(("method", "is_reused"), [("POST", False), ("PATCH", False), ("GET", True)])
async def test_what_must_not_be_sent_twice_takes_no_connection_whose_end_has_arrived(
    pki, method, is_reused, way
):
    """The kernel knows of the end, the loop does not yet; a GET would be tried again in silence."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepted: list[socket.socket] = []

        def serve() -> None:
            accepted.append(listener.accept()[0])
            accepted[0].recv(65536)
            accepted[0].sendall(ok())

        served = asyncio.get_running_loop().run_in_executor(None, serve)
        async with (
            road(pki, listener.getsockname()[1]) as (port, sidecar),
            await Client.connect(port) as client,
        ):
            assert (await client.post("/", b"once")).status == 200
            await served
            host = sidecar.clusters.live["c"].hosts[0]
            (idle,) = host.idle
            assert idle.is_quiet()
            accepted[0].close()
            time.sleep(0.05)  # noqa: ASYNC251 - the loop must not run meanwhile
            head = RequestParser().feed(b"%b / HTTP/1.1\r\nHost: api\r\n\r\n" % method.encode())[0]
            given: list[object] = []
            caller = SimpleNamespace(head=head, silent_retries=0, on_connection=given.append)
            if way == "idle":
                given.append(host.acquire(caller))
            else:
                host.idle.clear()
                host.wait(caller)
                host.release(idle)
            assert (given == [idle]) is is_reused
            host.give_up(caller)


async def test_a_get_that_met_a_dead_kept_connection_gets_a_fresh_one_whatever_is_kept_beside_it(pki):
    """A server that closes kept connections closes many: the second is as dead as the first."""
    both = asyncio.Barrier(2)

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"GET /both " in head:
            await both.wait()
        writer.write(ok())
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async with (
        raw_server(once) as app,
        road(pki, app, rule=route("c", retry=RetryPolicy(attempts=0))) as (port, sidecar),
        await Client.connect(port) as one,
        await Client.connect(port) as two,
    ):
        answers = await asyncio.gather(one.get("/both"), two.get("/both"))
        assert [each.status for each in answers] == [200, 200]
        assert len(sidecar.clusters.live["c"].hosts[0].idle) == 2
        assert (await one.get()).status == 200


async def test_retry_after_is_honoured_and_a_long_one_is_the_caller_s_affair(pki):
    waits = iter([b"1", b"0", b"60"])
    seen: list[float] = []
    loop = asyncio.get_running_loop()

    def reply(_request: Received) -> bytes:
        seen.append(loop.time())
        return ok(b"busy", "503 Service Unavailable", f"Retry-After: {next(waits).decode()}\r\n")

    async with (
        backend(reply) as app,
        road(pki, app.port, rule=route("c", retry=ON_5XX)) as (port, _),
        await Client.connect(port) as client,
    ):
        answer = await client.get()
    assert (answer.status, answer.headers["retry-after"]) == (503, "60")
    assert len(seen) == 3
    assert seen[1] - seen[0] >= 1.0


async def test_an_outage_seen_through_three_hops_is_not_amplified(pki):
    """Each hop retries every 5xx; after some fifty bad answers a hop retries nothing (THREATS P17)."""
    count = 1000
    async with backend(ok(b"bad", "503 Service Unavailable")) as app, contextlib.AsyncExitStack() as stack:
        port = app.port
        for _ in range(3):
            port, _sidecar = await stack.enter_async_context(
                road(pki, port, rule=route("c", retry=RetryPolicy(attempts=2, on=ON_5XX.on, backoff_s=FAST)))
            )
        clients = [await stack.enter_async_context(await Client.connect(port)) for _ in range(10)]

        async def drive(client: Client) -> None:
            for _ in range(count // len(clients)):
                assert (await client.get()).status == 503

        async with asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(drive(client))
    assert count < len(app.requests) <= count * 1.2


async def test_retries_come_back_when_the_outage_is_over(pki):
    status = ["503 Service Unavailable"]
    async with (
        backend(lambda _request: ok(b"x", status[0])) as app,
        road(pki, app.port, rule=route("c", retry=ON_5XX)) as (port, sidecar),
        await Client.connect(port) as client,
    ):
        for _ in range(100):
            await client.get()
        during = len(app.requests)
        assert during < 160
        assert sidecar.clusters.live["c"].stats.retries_throttled > 0
        status[0] = "200 OK"
        for _ in range(60):
            await client.get()
        status[0] = "503 Service Unavailable"
        before = len(app.requests)
        await client.get()
        assert len(app.requests) - before == 4


async def test_what_a_limit_refuses_says_so_in_envoys_word(pki):
    async def reply(_request: Received) -> bytes:
        await asyncio.sleep(0.2)
        return ok()

    async with (
        backend(reply) as app,
        road(pki, app.port, pool=ConnectionPool(max_requests=2)) as (port, sidecar),
        contextlib.AsyncExitStack() as stack,
    ):
        clients = [await stack.enter_async_context(await Client.connect(port)) for _ in range(8)]
        answers = await asyncio.gather(*(client.get() for client in clients))
        refused = [answer for answer in answers if answer.status == 503]
        assert len(refused) == 6
        assert {answer.headers["x-envoy-overloaded"] for answer in refused} == {"true"}
        assert sidecar.clusters.live["c"].stats.overflow["requests"] == 6
        assert (await clients[0].get()).status == 200
    assert len(app.requests) == 3


async def test_what_was_not_sent_goes_elsewhere_whatever_the_budget(pki):
    """One of two endpoints refuses: of 40 posts at once none fails, with a budget of one retry in all."""
    budget = RetryBudget(percent=0.0, min_concurrency=1)
    retry = RetryPolicy(attempts=2, on=frozenset({RetryOn.CONNECT_FAILURE}), backoff_s=FAST)
    outliers = OutlierDetection(consecutive_5xx=0, consecutive_local_origin=0)
    async with (
        backend(ok()) as app,
        road(
            pki,
            app.port,
            free_port(),
            rule=route("c", retry=retry),
            pool=ConnectionPool(retry_budget=budget),
            outlier=outliers,
        ) as (port, _),
    ):

        async def post() -> int:
            async with await Client.connect(port) as client:
                return (await client.post("/", b"x")).status

        assert await asyncio.gather(*(post() for _ in range(40))) == [200] * 40
    assert len(app.requests) == 40
