"""Spans in by stream, out by Jaeger's query API."""

import asyncio

import pytest

from control_plane.settings import OtlpSettings
from meshpy.otlp.settings import Signal, read_destination
from tests.helpers.control_plane import WEB, plane
from tests.helpers.otlp import grpc_collector, http_collector, judge

TRACE = "0af7651916cd43dd8448eb211c80319c"


def _span(number, kind, parent="", **fields):
    return {
        "trace": TRACE,
        "span": f"{number:016x}",
        "parent": parent,
        "kind": kind,
        "name": "GET /items",
        "start_us": 1_700_000_000_000_000 + number,
        "duration_us": 2_500,
        "attributes": {"http.request.method": "GET", "http.response.status_code": 200},
        **fields,
    }


@pytest.fixture
async def mesh(tmp_path):
    """web called api once; one span of the message is malformed."""
    async with plane(tmp_path) as running:
        web, api = await running.enrol(WEB, task="w1"), await running.enrol()
        async with running.stream(web, task="w1") as caller, running.stream(api) as callee:
            await caller.socket.send_json({"type": "spans", "spans": [_span(1, "CLIENT"), {"trace": "x"}]})
            served = _span(2, "SERVER", f"{1:016x}", error=True)
            await callee.socket.send_json({"type": "spans", "spans": [served]})
            async with asyncio.timeout(5):
                while len((await running.call("GET", "/api/services"))[1]["data"]) < 2:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            yield running


async def test_a_trace_is_one_tree_over_both_services(mesh):
    status, answer = await mesh.call("GET", f"/api/traces/{TRACE}")
    (trace,) = answer["data"]
    client, server = trace["spans"]
    assert status == 200
    assert (client["references"], client["operationName"], client["duration"]) == ([], "GET /items", 2_500)
    assert server["references"] == [{"refType": "CHILD_OF", "traceID": TRACE, "spanID": client["spanID"]}]
    names = {key: process["serviceName"] for key, process in trace["processes"].items()}
    assert [names[each["processID"]] for each in (client, server)] == ["web.shop", "api.shop"]
    tags = {tag["key"]: (tag["type"], tag["value"]) for tag in server["tags"]}
    assert tags["http.response.status_code"] == ("int64", 200)
    assert tags["span.kind"] == ("string", "server")
    assert tags["error"] == ("bool", True)


async def test_what_grafana_and_jaeger_ask_first_is_answered(mesh):
    assert (await mesh.call("GET", "/api/services"))[1]["data"] == ["api.shop", "web.shop"]
    assert (await mesh.call("GET", "/api/services/web.shop/operations"))[1]["data"] == ["GET /items"]
    operations = (await mesh.call("GET", "/api/operations?service=api.shop"))[1]["data"]
    assert operations == [{"name": "GET /items", "spanKind": "server"}]
    calls = (await mesh.call("GET", "/api/dependencies?endTs=1700000001000&lookback=100000"))[1]["data"]
    assert calls == [{"parent": "web.shop", "child": "api.shop", "callCount": 1}]


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("service=web.shop", 1),
        ("service=nobody", 0),
        ("service=web.shop&operation=GET%20/items&limit=5&lookback=1h", 1),
        ("service=api.shop&tags=%7B%22error%22%3A%22true%22%7D", 1),
        ("service=web.shop&tags=%7B%22error%22%3A%22true%22%7D", 0),
        ("service=web.shop&tag=http.response.status_code:200", 1),
        ("service=web.shop&minDuration=2ms&maxDuration=3ms", 1),
        ("service=web.shop&minDuration=1.5s", 0),
        ("service=web.shop&minDuration=1m0.5s", 0),
        ("service=web.shop&minDuration=0s2000000ns&maxDuration=0m3ms", 1),
        ("service=web.shop&start=1700000000000000&end=1700000001000000", 1),
        ("service=web.shop&end=1600000001000000", 0),
        (f"traceID={TRACE}", 1),
    ],
)
async def test_traces_are_searched_as_jaeger_has_it(mesh, query, count):
    status, answer = await mesh.call("GET", f"/api/traces?{query}")
    assert (status, len(answer["data"])) == (200, count)


@pytest.mark.parametrize(
    "path",
    ["traces", "traces?service=a&minDuration=fast", "traces?service=a&tags=%5B", "traces?service=a&limit=-1",
     "traces/xyz", "dependencies?endTs=now"],
)  # fmt: skip
async def test_a_malformed_question_is_answered_in_jaegers_form(mesh, path):
    status, answer = await mesh.call("GET", f"/api/{path}")
    assert (status, answer["data"], answer["errors"][0]["code"]) == (400, None, 400)


async def test_an_unknown_trace_is_a_404(mesh):
    assert (await mesh.call("GET", f"/api/traces/{'1' * 32}"))[0] == 404


async def _frame(sidecar, kind):
    async with asyncio.timeout(5):
        while (message := await sidecar.socket.receive_json())["type"] != kind:
            pass
    return message


async def test_a_trace_that_one_sidecar_kept_for_a_failure_is_asked_of_all_once(tmp_path):
    async with plane(tmp_path) as running:
        web, api = await running.enrol(WEB, task="w1"), await running.enrol()
        async with running.stream(web, task="w1") as caller, running.stream(api) as callee:
            await _frame(caller, "snapshot")
            sampled = {**_span(3, "SERVER"), "trace": "b" * 32}
            for _ in range(2):
                failed = _span(2, "SERVER", f"{1:016x}", error=True, sampled=False)
                await callee.socket.send_json({"type": "spans", "spans": [failed, sampled]})
            assert (await _frame(caller, "recall"))["traces"] == [TRACE]
            called = _span(1, "CLIENT", sampled=False)
            await caller.socket.send_json({"type": "spans", "spans": [called]})
            async with asyncio.timeout(5):
                while len((await running.call("GET", "/api/services"))[1]["data"]) < 2:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            running.running.parts.reports.recall.ask()
            assert running.running.parts.reports.asks.newest == 1
            (trace,) = (await running.call("GET", f"/api/traces/{TRACE}"))[1]["data"]
            assert len(trace["spans"]) == 2


@pytest.mark.parametrize("open_collector", [http_collector, grpc_collector])
async def test_spans_of_all_sidecars_go_on_to_a_collector_as_if_they_had_sent_them(tmp_path, open_collector):
    async with open_collector() as collector:
        environment = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc" if open_collector is grpc_collector else "http/protobuf",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
            "OTEL_METRIC_EXPORT_INTERVAL": "50",
        }
        traces, metrics = (read_destination(signal, environment) for signal in Signal)
        otlp = OtlpSettings(traces, metrics, (("deployment.environment.name", "test"),))
        async with plane(tmp_path, otlp=otlp) as running:
            api = await running.enrol()
            async with running.stream(api) as callee:
                attributes = {"server.address": "api", "url.path": "/items", "url.scheme": "http"}
                attributes |= _span(2, "SERVER")["attributes"]
                span = _span(2, "SERVER", f"{1:016x}", name="GET", attributes=attributes)
                await callee.socket.send_json({"type": "spans", "spans": [span]})
                await collector.wait_for(lambda: bool(collector.spans))
            ((resource, told),) = collector.spans
            await collector.wait_for(lambda: any(signal == "metrics" for signal, _ in collector.requests))
    judge(resource, told)
    assert (resource["service.name"], resource["service.instance.id"], resource["host.name"]) == (
        "api",
        "t1",
        "n1",
    )
