"""Spans and metrics in a collector that knows the conventions: HTTP and gRPC, with TLS, when it fails."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from dataclasses import replace

import grpc
import pytest

from meshpy.model.endpoint import Endpoint
from meshpy.model.names import ServiceName
from meshpy.model.resilience import RetryOn, RetryPolicy
from meshpy.model.snapshot import Workload
from meshpy.otlp.settings import Signal, read_destination
from meshpy.protobuf import message, text, varint
from proxy.export import Export
from proxy.options import OtlpOptions
from tests.helpers.backends import backend, ok
from tests.helpers.issuer import server_certificate
from tests.helpers.otlp import Collector, grpc_collector, http_collector, judge, plain
from tests.helpers.ports import free_port
from tests.helpers.sidecars import (
    API,
    LOOPBACK,
    WEB,
    Client,
    inbound_snapshot,
    mesh_cluster,
    outbound_snapshot,
    route,
    running,
)
from tests.integration.proxy.test_pair import DENY_ALL, pair

CATALOG = ServiceName("shop", "catalog")
TRACE = "a" * 32
SAMPLED = f"traceparent: 00-{TRACE}-{'b' * 16}-01\r\n"
UNSAMPLED = SAMPLED.replace("-01\r", "-00\r")
ON_5XX = RetryPolicy(attempts=2, on=frozenset({RetryOn.SERVER_ERROR}), backoff_s=0.001)
RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo"
COLLECTORS = {"http/protobuf": http_collector, "grpc": grpc_collector}


def options(collector, protocol, signal=Signal.TRACES, **more) -> OtlpOptions:
    scheme = more.pop("scheme", "http")
    environment = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"{scheme}://{LOOPBACK}:{collector.port}",
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "OTEL_BSP_SCHEDULE_DELAY": "50",
        "OTEL_METRIC_EXPORT_INTERVAL": "50",
        **more,
    }
    found = read_destination(signal, environment)
    return OtlpOptions(**{str(signal): found}, resource=(("deployment.environment.name", "test"),))


@contextlib.asynccontextmanager
async def exporting(sidecar, otlp, service=WEB):
    """As `proxy.app` starts it."""
    export = Export(otlp, sidecar.telemetry, service, task="t1", node="n1", started_at=time.time())
    if export.spans is not None:
        sidecar.span_sinks.append(export.spans.offer)
    async with asyncio.TaskGroup() as group:
        works = [group.create_task(export.run_spans()), group.create_task(export.run_metrics())]
        try:
            yield export
        finally:
            for work in works:
                work.cancel()


@contextlib.asynccontextmanager
async def three(pki, otlp_of):
    """web → api → catalog, whose first answer is a 503; api's app copies the trace context as apps do."""
    ports = [free_port() for _ in range(4)]
    web_port, api_port, api_mesh, catalog_mesh = ports
    answers = iter((ok(b"", "503 Service Unavailable"), ok(b"fine"), ok(b"fine"), ok(b"fine")))

    async def api_app(request):
        async with await Client.connect(api_port) as client:
            carried = "".join(f"traceparent: {value}\r\n" for value in request.headers("traceparent"))
            answer = await client.get("/stock", headers=carried)
        return ok(answer.body)

    async with backend(api_app) as app, backend(lambda _request: next(answers)) as stock:
        calls = outbound_snapshot(
            api_port, {"c": mesh_cluster(catalog_mesh, workload=CATALOG)}, (route("c", retry=ON_5XX),)
        )
        api = replace(inbound_snapshot(80, (Endpoint(LOOPBACK, app.port),)), outbound=calls.outbound)
        api = replace(api, clusters={**api.clusters, **calls.clusters})
        catalog = inbound_snapshot(80, (Endpoint(LOOPBACK, stock.port),))
        allowed = replace(catalog.authorization, baseline=frozenset({API}))
        catalog = replace(catalog, workload=Workload(CATALOG, "mesh.test"), authorization=allowed)
        web = outbound_snapshot(web_port, {"c": mesh_cluster(api_mesh)})
        async with (
            running(catalog, pki, mesh_port=catalog_mesh) as callee,
            running(api, pki, mesh_port=api_mesh) as middle,
            running(web, pki) as caller,
            exporting(callee, otlp_of, CATALOG),
            exporting(middle, otlp_of, API),
            exporting(caller, otlp_of, WEB),
        ):
            yield web_port, (caller, middle, callee)


@pytest.mark.parametrize("protocol", COLLECTORS)
async def test_a_request_over_three_services_with_a_retry_is_one_trace_with_the_right_parents(pki, protocol):
    async with COLLECTORS[protocol]() as collector, three(pki, options(collector, protocol)) as (port, _):
        async with await Client.connect(port) as client:
            answer = await client.get("/cart?token=secret", headers=SAMPLED)
            assert answer.body == b"fine"
        await collector.wait_for(lambda: len(collector.spans) >= 6)
        spans = collector.spans
    for resource, span in spans:
        judge(resource, span)
    assert {span.trace_id.hex() for _, span in spans} == {TRACE}
    names = {span.span_id.hex(): resource["service.name"] for resource, span in spans}
    edges = sorted(
        (names.get(span.parent_span_id.hex(), "app"), names[span.span_id.hex()], span.kind)
        for _, span in spans
    )
    server, client = 2, 3
    assert edges == [
        ("api", "api", client),
        ("api", "api", client),
        ("api", "catalog", server),
        ("api", "catalog", server),
        ("app", "web", client),
        ("web", "api", server),
    ]
    tries = [span for resource, span in spans if resource["service.name"] == "api" and span.kind == client]
    assert len({span.parent_span_id for span in tries}) == 1
    first, second = sorted(tries, key=lambda span: span.start_time_unix_nano)
    assert plain(first.attributes)["error.type"] == "503"
    assert plain(second.attributes)["http.request.resend_count"] == 1
    served = [span.parent_span_id for resource, span in spans if resource["service.name"] == "catalog"]
    assert set(served) == {first.span_id, second.span_id}
    assert all(b"secret" not in span.SerializeToString() for _, span in spans)
    assert {resource["deployment.environment.name"] for resource, _ in spans} == {"test"}


async def test_the_rest_of_a_trace_that_failed_somewhere_comes_when_it_is_asked_for(pki):
    async with (
        http_collector() as collector,
        three(pki, options(collector, "http/protobuf")) as (port, all_three),
    ):
        async with await Client.connect(port) as client:
            await client.get("/cart", headers=UNSAMPLED)
        await collector.wait_for(lambda: len(collector.spans) >= 1)
        assert {resource["service.name"] for resource, _ in collector.spans} == {"catalog"}
        for sidecar in all_three:  # what the control plane asks
            sidecar.spans.recall([TRACE], time.monotonic())
        await collector.wait_for(lambda: len(collector.spans) >= 6)
        spans = collector.spans
    assert len({span.span_id for _, span in spans}) == 6
    for resource, span in spans:
        judge(resource, span)
        assert not span.flags & 1


async def test_a_denied_request_leaves_spans_with_who_denied_it(pki):
    async with backend() as app, http_collector() as collector:
        callee = inbound_snapshot(80, (Endpoint(LOOPBACK, app.port),), authorization=DENY_ALL)
        async with (
            pair(pki, app.port, callee=callee) as (port, _, web, api),
            exporting(api, options(collector, "http/protobuf"), API),
            exporting(web, options(collector, "http/protobuf"), WEB),
            await Client.connect(port) as client,
        ):
            assert (await client.get("/items", headers=UNSAMPLED)).status == 403
            await collector.wait_for(lambda: len(collector.spans) == 1)
            ((_, denied),) = collector.spans
            web.spans.recall([denied.trace_id.hex()], time.monotonic())
            await collector.wait_for(lambda: len(collector.spans) == 2)
        (served_by, served), (_, called) = collector.spans
    judge(served_by, served)
    attributes = plain(served.attributes)
    assert served_by["service.name"] == "api"
    assert attributes["meshpy.policy"] == "NetworkPolicy default/deny-all"
    assert (attributes["meshpy.rule"], attributes["meshpy.verdict"]) == ("ingress[0]", "DENIED")
    assert attributes["http.response.status_code"] == 403
    assert served.parent_span_id == called.span_id


async def test_a_collector_that_is_busy_is_asked_again_and_one_that_refuses_is_not(pki):
    async with http_collector() as collector, backend() as app, pair(pki, app.port) as (port, _, web, _):
        collector.answers += [503, 429, 200, 400, 202]
        async with (
            exporting(web, options(collector, "http/protobuf")) as export,
            await Client.connect(port) as client,
        ):
            await client.get("/", headers=SAMPLED)
            await collector.wait_for(lambda: len(collector.spans) == 1)
            await client.get("/", headers=SAMPLED)
            await collector.wait_for(lambda: export.spans.counts.failed == 1)
            assert (export.spans.counts.sent, len(collector.spans)) == (1, 1)
            await client.get("/", headers=SAMPLED)
            await collector.wait_for(lambda: export.spans.counts.sent == 2)
            await client.get("/", headers=SAMPLED)
            await collector.wait_for(lambda: export.spans.counts.sent == 2)


async def test_a_grpc_status_that_may_pass_is_tried_again_an_exhausted_collector_where_it_says_when(pki):
    async with grpc_collector() as collector, backend() as app, pair(pki, app.port) as (port, _, web, _):
        pause = message(3, text(1, RETRY_INFO), message(2, message(1, varint(2, 1_000_000))))
        collector.answers += [
            (grpc.StatusCode.UNAVAILABLE, b""),
            (grpc.StatusCode.RESOURCE_EXHAUSTED, varint(1, 8) + message(3, text(1, "other")) + pause),
            None,
            (grpc.StatusCode.RESOURCE_EXHAUSTED, b""),
        ]
        async with exporting(web, options(collector, "grpc")) as export, await Client.connect(port) as client:
            await client.get("/", headers=SAMPLED)
            await collector.wait_for(lambda: len(collector.spans) == 1)
            await client.get("/", headers=SAMPLED)
            await collector.wait_for(lambda: export.spans.counts.failed == 1)


async def test_what_has_no_room_is_dropped_and_counted_and_requests_go_on(pki):
    async with backend() as app, pair(pki, app.port) as (port, _, web, _):
        nobody = free_port()
        environment = {
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://{LOOPBACK}:{nobody}/v1/traces",
            "OTEL_BSP_MAX_QUEUE_SIZE": "5",
            "OTEL_BSP_SCHEDULE_DELAY": "10",
        }
        otlp = OtlpOptions(read_destination(Signal.TRACES, environment))
        async with exporting(web, otlp) as export, await Client.connect(port) as client:
            for _ in range(30):
                assert (await client.get("/", headers=SAMPLED)).status == 200
            await Collector().wait_for(lambda: export.spans.counts.dropped > 0)
            assert export.spans.waiting <= 5
            assert export.spans.counts.sent == 0


async def test_what_the_collector_rejects_of_a_request_is_counted(pki):
    async with http_collector() as collector, backend() as app, pair(pki, app.port) as (port, _, web, _):
        collector.rejected = 1
        async with (
            exporting(web, options(collector, "http/protobuf")) as export,
            await Client.connect(port) as client,
        ):
            await client.get("/", headers=SAMPLED)
            await collector.wait_for(lambda: export.spans.counts.rejected == 1)


@pytest.mark.parametrize("protocol", COLLECTORS)
async def test_headers_tls_and_compression_are_the_variables_(pki, tmp_path, protocol):
    certificate, key = server_certificate(tmp_path)
    secret = tmp_path / "headers"
    secret.write_text("authorization=Bearer t0ken\n")
    if protocol == "grpc":
        pair_of = (key.read_bytes(), certificate.read_bytes())
        opened = grpc_collector(grpc.ssl_server_credentials([pair_of]))
    else:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate, key)
        opened = http_collector(tls)
    async with opened as collector, backend() as app, pair(pki, app.port) as (port, _, web, _):
        otlp = options(
            collector,
            protocol,
            scheme="https",
            OTEL_EXPORTER_OTLP_CERTIFICATE=str(certificate),
            OTEL_EXPORTER_OTLP_HEADERS="x-tenant=shop%20one",
            OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
            MESHPY_OTLP_HEADERS_FILE=str(secret),
        )
        async with exporting(web, otlp), await Client.connect(port) as client:
            await client.get("/", headers=SAMPLED)
            await collector.wait_for(lambda: len(collector.spans) == 1)
    (headers,) = collector.headers
    assert (headers["x-tenant"], headers["authorization"]) == ("shop one", "Bearer t0ken")


@pytest.mark.parametrize("protocol", COLLECTORS)
async def test_a_collector_that_proves_nothing_is_told_nothing(pki, tmp_path, protocol):
    certificate, key = server_certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    async with http_collector(tls) as collector, backend() as app, pair(pki, app.port) as (port, _, web, _):
        otlp = options(collector, protocol, scheme="https")
        async with exporting(web, otlp) as export, await Client.connect(port) as client:
            await client.get("/", headers=SAMPLED)
            await collector.wait_for(lambda: export.spans.counts.retried > 0)
            assert (collector.requests, export.spans.counts.sent) == ([], 0)


@pytest.mark.parametrize("protocol", COLLECTORS)
async def test_metrics_are_pushed_whole_with_examples(pki, protocol):
    async with (
        COLLECTORS[protocol]() as collector,
        backend() as app,
        pair(pki, app.port) as (port, _, web, _),
    ):
        otlp = options(collector, protocol, Signal.METRICS)
        async with await Client.connect(port) as client:
            await client.get("/", headers=SAMPLED)
            async with exporting(web, otlp):
                await collector.wait_for(lambda: bool(collector.requests))
    _, request = collector.requests[0]
    (group,) = request.resource_metrics
    assert plain(group.resource.attributes)["service.name"] == "web"
    metrics = {metric.name: metric for metric in group.scope_metrics[0].metrics}
    (count,) = metrics["istio_requests_total"].sum.data_points
    assert metrics["istio_requests_total"].sum.is_monotonic
    assert (count.as_double, plain(count.attributes)["destination_workload"]) == (1.0, "api")
    (durations,) = metrics["istio_request_duration_milliseconds"].histogram.data_points
    assert durations.count == sum(durations.bucket_counts) == 1
    assert len(durations.bucket_counts) == len(durations.explicit_bounds) + 1
    assert [exemplar.trace_id.hex() for exemplar in durations.exemplars] == [TRACE]
    assert 0 < count.start_time_unix_nano <= count.time_unix_nano
