"""Spans of real exchanges: who is whose parent, what is kept, what is said."""

from __future__ import annotations

import asyncio

from meshpy.model.resilience import RetryOn, RetryPolicy
from tests.helpers.backends import backend, ok
from tests.helpers.ports import free_port
from tests.helpers.sidecars import (
    Client,
    outbound_snapshot,
    plain_cluster,
    route,
    running,
)
from tests.integration.proxy.test_pair import pair

TRACE, APP_SPAN = "a" * 32, "b" * 16
SAMPLED = f"traceparent: 00-{TRACE}-{APP_SPAN}-01\r\n"
UNSAMPLED = f"traceparent: 00-{TRACE}-{APP_SPAN}-00\r\n"
ON_5XX = RetryPolicy(attempts=3, on=frozenset({RetryOn.SERVER_ERROR}), backoff_s=0.001)


def _own_span(request) -> str:
    return request.headers("traceparent")[0].split("-")[2]


async def test_each_attempt_is_a_client_span_below_the_apps_own_and_the_answer_is_the_last(pki):
    answers = iter((ok(b"", "503 Service Unavailable"), ok(b"", "503 Service Unavailable"), ok(b"fine")))
    port = free_port()
    async with backend(lambda _request: next(answers)) as app:
        snapshot = outbound_snapshot(
            port, {"c": plain_cluster(app.port, name="c")}, (route("c", retry=ON_5XX),)
        )
        async with running(snapshot, pki) as sidecar, await Client.connect(port) as client:
            assert (await client.get("/items?q=secret", headers=SAMPLED)).status == 200
            spans = sidecar.spans.take()
    assert [span["span"] for span in spans] == [_own_span(request) for request in app.requests]
    assert len({span["span"] for span in spans}) == 3
    assert {(span["trace"], span["parent"], span["kind"]) for span in spans} == {(TRACE, APP_SPAN, "CLIENT")}
    assert [span["error"] for span in spans] == [True, True, False]
    attributes = [span["attributes"] for span in spans]
    assert [each["http.response.status_code"] for each in attributes] == [503, 503, 200]
    assert [each.get("http.request.resend_count") for each in attributes] == [None, 1, 2]
    assert all("secret" not in str(each) for each in attributes)
    starts = [span["start_us"] for span in spans]
    assert starts == sorted(starts)


async def test_the_callees_span_stands_below_the_callers_and_the_app_below_it(pki):
    async with (
        backend() as app,
        pair(pki, app.port) as (port, _, web, api),
        await Client.connect(port) as client,
    ):
        await client.get("/items", headers=SAMPLED)
        (called,), (served,) = web.spans.take(), api.spans.take()
    assert (called["kind"], served["kind"]) == ("CLIENT", "SERVER")
    assert (called["parent"], served["parent"]) == (APP_SPAN, called["span"])
    assert _own_span(app.requests[0]) == served["span"]
    assert called["start_us"] <= served["start_us"]
    assert called["duration_us"] >= served["duration_us"]
    assert served["attributes"]["url.path"] == "/items"
    assert called["attributes"]["url.full"] == "http://api/items"


async def test_the_app_behind_two_sidecars_reads_the_same_span_in_b3_as_in_traceparent(pki):
    id_64 = "c" * 16
    async with (
        backend() as app,
        pair(pki, app.port) as (port, _, _, api),
        await Client.connect(port) as client,
    ):
        await client.get("/", headers=f"b3: {id_64}-{APP_SPAN}-d\r\n")
        await client.get("/", headers=f"x-b3-traceid: {id_64}\r\nx-b3-spanid: {APP_SPAN}\r\n")
        await client.get("/", headers="b3: 0\r\n")
        single, multi, alone = app.requests
        served = api.spans.take()[0]
    assert single.headers("b3") == [f"{id_64}-{served['span']}-d"]
    assert _own_span(single) == served["span"]
    assert multi.headers("x-b3-traceid") == [id_64]
    assert multi.headers("x-b3-spanid") == [_own_span(multi)]
    _, trace, span, flags = alone.headers("traceparent")[0].split("-")
    assert (alone.headers("b3"), flags) == ([f"{trace}-{span}-0"], "00")


async def test_of_traces_that_are_not_sampled_failures_and_slow_ones_are_kept(pki):
    async def answer(request):
        if b"/slow" in request.head:
            await asyncio.sleep(0.2)
        return ok(b"", "500 Internal Server Error") if b"/bad" in request.head else ok(b"")

    port = free_port()
    async with backend(answer) as app:
        snapshot = outbound_snapshot(port, {"c": plain_cluster(app.port, name="c")}, (route("c"),))
        async with running(snapshot, pki) as sidecar, await Client.connect(port) as client:
            sidecar.spans.slow_s = 0.15
            for path in ("/fine", "/bad", "/slow", "/fine"):
                await client.get(path, headers=UNSAMPLED)
            spans = sidecar.spans.take()
    assert [span["attributes"]["url.full"] for span in spans] == ["http://api/bad", "http://api/slow"]
    assert spans[0]["attributes"]["error.type"] == "500"


async def test_what_is_kept_between_two_reports_is_bounded(pki):
    port = free_port()
    async with backend() as app:
        snapshot = outbound_snapshot(port, {"c": plain_cluster(app.port, name="c")}, (route("c"),))
        async with running(snapshot, pki) as sidecar, await Client.connect(port) as client:
            for _ in range(520):
                await client.get("/", headers=SAMPLED)
            assert len(sidecar.spans.take()) == 500
            assert sidecar.spans.dropped == 20
            assert sidecar.spans.take() == []
