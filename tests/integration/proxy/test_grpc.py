"""gRPC by grpcio's client and server through two sidecars over mTLS."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
import time
from dataclasses import replace

import pytest

from meshpy.model.authz import (
    Action,
    Authorization,
    AuthorizationPolicy,
    AuthorizationRule,
    Operation,
)
from meshpy.model.endpoint import Endpoint, Protocol
from meshpy.model.match import Exact
from meshpy.model.resilience import RetryOn, RetryPolicy
from proxy.access_log import AccessLog
from proxy.downstream import H2Downstream
from proxy.log_shape import LogOptions, LogShape
from proxy.series import prometheus_text
from tests.helpers.ports import free_port
from tests.helpers.sidecars import (
    LOOPBACK,
    WEB,
    LogLines,
    inbound_snapshot,
    mesh_cluster,
    outbound_snapshot,
    route,
    running,
)

grpc = pytest.importorskip("grpc", reason="grpcio is not installed")

from tests.helpers.grpc_calls import SERVICE, Failed, channel, grpc_app, tried, unary  # noqa: E402

BULK_BYTES = int(os.environ.get("MESHPY_GRPC_BULK_BYTES", "16000000"))
"""100_000_000 is what users move; `make test` moves less."""


@contextlib.asynccontextmanager
async def pair(pki, app_port, *, rules=(), callee=None, **settings):
    """web's sidecar → api's sidecar → the application; yields the port that web calls, and both sidecars."""
    port, mesh_port = free_port(), free_port()
    inbound = callee or inbound_snapshot(50051, (Endpoint(LOOPBACK, app_port),), protocol=Protocol.GRPC)
    cluster = mesh_cluster(mesh_port, 50051, protocol=Protocol.GRPC)
    outbound = outbound_snapshot(port, {"c": cluster}, rules)
    async with running(inbound, pki, mesh_port=mesh_port, **settings) as api, running(outbound, pki) as web:
        yield port, web, api


async def test_a_unary_call_brings_its_answer(pki):
    with grpc_app() as app:
        async with pair(pki, app.port) as (port, _, _):
            assert await asyncio.to_thread(unary, port, "Echo") == b"re:hi"
        assert app.metadata["x-forwarded-client-cert"].endswith("/ns/shop/sa/web")
        assert "x-request-id" in app.metadata
        assert "traceparent" in app.metadata


async def test_a_server_streams(pki):
    def download(port):
        with channel(port) as made:
            return [len(part) for part in made.unary_stream(SERVICE + "Download")(b"7x20000", timeout=10)]

    with grpc_app() as app:
        async with pair(pki, app.port) as (port, _, _):
            assert await asyncio.to_thread(download, port) == [20000] * 7


async def test_a_client_streams(pki):
    def upload(port):
        with channel(port) as made:
            parts = iter([bytes(30000)] * 9)
            return made.stream_unary(SERVICE + "Upload")(parts, timeout=10)

    with grpc_app() as app:
        async with pair(pki, app.port) as (port, _, _):
            assert await asyncio.to_thread(upload, port) == b"270000"


async def test_both_stream_in_turns(pki):
    """Each answer comes before the next question is asked: nothing on the way waits for the end."""

    def chat(port):
        answers = []
        questions: list[bytes] = [b"1", b"2", b"3"]
        turn = threading.Semaphore(1)

        def ask():
            for question in questions:
                assert turn.acquire(timeout=5)
                yield question

        with channel(port) as made:
            for answer in made.stream_stream(SERVICE + "Chat")(ask(), timeout=10):
                answers.append(answer)
                turn.release()
        return answers

    with grpc_app() as app:
        async with pair(pki, app.port) as (port, _, _):
            assert await asyncio.to_thread(chat, port) == [b"re:1", b"re:2", b"re:3"]


async def test_statuses_messages_and_trailers_of_the_application_arrive(pki):
    with grpc_app() as app:
        async with pair(pki, app.port) as (port, _, _):
            failed = await asyncio.to_thread(unary, port, "Refuse")
            assert failed.code is grpc.StatusCode.FAILED_PRECONDITION
            assert failed.details == "nein, ünder keinen Umständen"
            assert failed.trailers["x-reason"] == "why"
            missing = await asyncio.to_thread(unary, port, "Nothing")
            assert missing.code is grpc.StatusCode.UNIMPLEMENTED


async def test_a_status_after_messages_arrives(pki):
    def half(port):
        parts = []
        with channel(port) as made:
            failed = tried(lambda: parts.extend(made.unary_stream(SERVICE + "Half")(b"", timeout=10)))
        return parts, failed

    with grpc_app() as app:
        async with pair(pki, app.port) as (port, _, _):
            failed = (await asyncio.to_thread(half, port))[1]
            assert (failed.code, failed.details) == (grpc.StatusCode.DATA_LOSS, "no more")


async def test_the_deadline_travels_and_ends_the_call_everywhere(pki):
    with grpc_app() as app:
        async with pair(pki, app.port) as (port, _, _):
            failed = await asyncio.to_thread(unary, port, "Wait", timeout_s=0.3)
            assert failed.code is grpc.StatusCode.DEADLINE_EXCEEDED
            assert 0 < app.left_s[0] <= 0.3
            assert await asyncio.to_thread(app.cancelled.wait, 5)


async def test_a_deadline_that_the_client_does_not_keep_is_kept_for_it(pki):
    """A client that sends `grpc-timeout` and waits on: the mesh ends the call with DEADLINE_EXCEEDED."""

    def call(port):
        begin = time.monotonic()
        with channel(port) as made:
            failed = tried(
                lambda: made.unary_unary(SERVICE + "Wait")(b"", timeout=8, metadata=(("x-any", "1"),))
            )
        return failed, time.monotonic() - begin

    with grpc_app() as app:
        rules = (route("c", timeout_s=0.3),)
        async with pair(pki, app.port, rules=rules) as (port, _, _):
            failed, took_s = await asyncio.to_thread(call, port)
            assert failed.code is grpc.StatusCode.UNAVAILABLE  # a route's timeout is 504, as Envoy maps it
            assert took_s < 4
            assert await asyncio.to_thread(app.cancelled.wait, 5)


async def test_a_cancelled_call_is_cancelled_at_the_application(pki):
    def call(port, app):
        with channel(port) as made:
            waiting = made.unary_unary(SERVICE + "Wait").future(b"", timeout=20)
            assert app.waits.wait(5)
            waiting.cancel()
            return app.cancelled.wait(5)

    with grpc_app() as app:
        async with pair(pki, app.port) as (port, _, _):
            assert await asyncio.to_thread(call, port, app)


@pytest.mark.parametrize("fails", [1, 2])
async def test_unavailable_is_asked_for_again(pki, fails):
    """Istio's default: two retries on `unavailable`; a call is a POST and is repeated by its own status."""
    with grpc_app() as app:
        app.fails = fails
        async with pair(pki, app.port, rules=(route("c", retry=RetryPolicy()),)) as (port, _, _):
            assert await asyncio.to_thread(unary, port, "Flaky") == b"hi"
        assert app.calls == ["Flaky"] * (fails + 1)


async def test_a_status_that_no_word_names_is_not_asked_for_again(pki):
    with grpc_app() as app:
        app.fails = 1
        retry = RetryPolicy(on=frozenset({RetryOn.CANCELLED, RetryOn.INTERNAL}))
        async with pair(pki, app.port, rules=(route("c", retry=retry),)) as (port, _, _):
            failed = await asyncio.to_thread(unary, port, "Flaky")
            assert failed.code is grpc.StatusCode.UNAVAILABLE
        assert app.calls == ["Flaky"]


async def test_methods_are_judged_by_their_path(pki):
    operation = Operation(paths=(Exact(SERVICE + "Echo"),))
    rule = AuthorizationRule("rules[0]", operations=(operation,))
    policy = AuthorizationPolicy("AuthorizationPolicy shop/echo", Action.ALLOW, (rule,))
    authorization = Authorization(baseline=frozenset({WEB}), policies=(policy,))
    with grpc_app() as app:
        inbound = inbound_snapshot(
            50051, (Endpoint(LOOPBACK, app.port),), protocol=Protocol.GRPC, authorization=authorization
        )
        async with pair(pki, app.port, callee=inbound) as (port, _, _):
            assert await asyncio.to_thread(unary, port, "Echo") == b"re:hi"
            denied = await asyncio.to_thread(unary, port, "Refuse")
            assert denied.code is grpc.StatusCode.PERMISSION_DENIED
            assert "RBAC: access denied by" in denied.details
        assert app.calls == ["Echo"]


async def test_a_dead_application_is_unavailable(pki):
    async with pair(pki, free_port(), rules=(route("c"),)) as (port, _, _):
        failed = await asyncio.to_thread(unary, port, "Echo")
        assert failed.code is grpc.StatusCode.UNAVAILABLE
        assert "upstream connect error" in failed.details


async def test_a_call_that_failed_is_an_error_for_the_log_though_http_says_200(pki, tmp_path):
    file = tmp_path / "access.log"
    with grpc_app() as app:
        for shape in LogShape:
            settings = {"log": AccessLog.open(str(file)), "log_options": LogOptions(shape, kept_pct=0)}
            async with pair(pki, app.port, **settings) as (port, _, _):
                await asyncio.to_thread(unary, port, "Echo")
                await asyncio.to_thread(unary, port, "Refuse")
    envoy, ecs, loki = file.read_text().splitlines()
    assert json.loads(envoy)["grpc_status"] == 9
    assert json.loads(ecs)["meshpy"]["grpc_status"] == 9
    assert " status=200 grpc_status=9 " in loki


async def test_calls_are_counted_and_logged_in_their_own_words(pki):
    log = LogLines()
    with grpc_app() as app:
        async with pair(pki, app.port, log=log.log) as (port, web, api):
            await asyncio.to_thread(unary, port, "Echo")
            await asyncio.to_thread(unary, port, "Refuse")
            await asyncio.sleep(0.1)
            for sidecar in (web, api):
                text = prometheus_text(sidecar.telemetry)
                assert 'request_protocol="grpc"' in text
                assert 'grpc_response_status="0"} 1' in text
                assert 'grpc_response_status="9"} 1' in text
                requests, responses = (
                    line.rsplit(" ", 1)[1]
                    for line in text.splitlines()
                    if line.startswith(("istio_request_messages_total{", "istio_response_messages_total{"))
                )
                assert (requests, responses) == ("2", "1")
    first, second = log.lines()
    log.close()
    assert (first["protocol"], first["response_code"], first["grpc_status"]) == ("HTTP/2", 200, 0)
    assert second["grpc_status"] == 9


async def test_much_data_passes_in_bounded_memory(pki):
    """Bulk both ways through both sidecars, while what waits in them stays small."""
    size = 250_000

    def download(port):
        with channel(port) as made:
            request = b"%dx%d" % (BULK_BYTES // size, size)
            return sum(map(len, made.unary_stream(SERVICE + "Download")(request, timeout=120)))

    with grpc_app() as app:
        async with pair(pki, app.port) as (port, web, api):
            task = asyncio.create_task(asyncio.to_thread(download, port))
            most = 0
            while not task.done():
                for sidecar in (web, api):
                    for down in filter(lambda each: isinstance(each, H2Downstream), sidecar.shared.open):
                        waits = sum(stream.waiting_bytes for stream in down.codec.streams.values())
                        most = max(most, waits + down.transport.get_write_buffer_size())
                await asyncio.sleep(0.002)
            assert await task == BULK_BYTES // size * size
    assert most < 2_000_000


async def test_a_slow_reader_holds_the_sender_back(pki):
    """Nobody reads the answers: the application is stopped by flow control, not fed into a buffer."""
    sent = []

    with grpc_app() as app:
        original = app._download

        def counted(request, context):
            for part in original(request, context):
                sent.append(len(part))
                yield part

        app._download = counted
        async with pair(pki, app.port) as (port, _, _):

            def call():
                with channel(port) as made:
                    stream = made.unary_stream(SERVICE + "Download")(b"400x100000", timeout=20)
                    next(stream)
                    time.sleep(0.7)
                    seen = len(sent)
                    stream.cancel()
                    return seen

            assert await asyncio.to_thread(call) < 200


async def test_draining_finishes_calls_and_fails_none(pki):
    """GOAWAY: calls in progress end well, new ones find another connection."""

    def chat(port, began, go_on):
        def ask():
            yield b"1"
            began.set()
            assert go_on.wait(10)
            yield b"2"

        with channel(port) as made:
            return list(made.stream_stream(SERVICE + "Chat")(ask(), timeout=20))

    began, go_on = threading.Event(), threading.Event()
    with grpc_app() as app:
        async with pair(pki, app.port) as (port, web, _):
            task = asyncio.create_task(asyncio.to_thread(chat, port, began, go_on))
            assert await asyncio.to_thread(began.wait, 5)
            drain = asyncio.create_task(web.drain(8))
            await asyncio.sleep(0.5)
            go_on.set()
            assert await task == [b"re:1", b"re:2"]
            await drain
            assert not web.shared.open


async def test_a_call_that_policy_no_longer_allows_is_cut(pki):
    def wait(port):
        return unary(port, "Wait", timeout_s=15)

    with grpc_app() as app:
        inbound = inbound_snapshot(50051, (Endpoint(LOOPBACK, app.port),), protocol=Protocol.GRPC)
        async with pair(pki, app.port, callee=inbound) as (port, _, api):
            task = asyncio.create_task(asyncio.to_thread(wait, port))
            assert await asyncio.to_thread(app.waits.wait, 5)
            closed = Authorization(baseline=frozenset())
            await api.apply(replace(inbound, version="closed", revision=2, authorization=closed))
            failed = await task
            assert isinstance(failed, Failed)
            assert failed.code is grpc.StatusCode.PERMISSION_DENIED
            assert await asyncio.to_thread(app.cancelled.wait, 5)
