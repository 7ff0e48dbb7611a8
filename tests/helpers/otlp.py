"""A strict OTLP receiver over HTTP and gRPC, and a judge of spans by OpenTelemetry's semantic conventions."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import pkgutil
import re
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from importlib import import_module

import grpc
from aiohttp import web
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.semconv import _incubating, attributes

LOOPBACK = "127.0.0.1"
_CONSTANT = re.compile(r'^[A-Z_]+: Final = "([a-z0-9_.]+)"\n"""\n(Deprecated)?', re.MULTILINE)
_HTTP = "/v1/"
_GRPC = {
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export": "traces",
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export": "metrics",
}
_MESSAGES = {
    "traces": (ExportTraceServiceRequest, ExportTraceServiceResponse),
    "metrics": (ExportMetricsServiceRequest, ExportMetricsServiceResponse),
}


@dataclass
class Collector:
    """Keeps what it was sent; `answers` come before it: statuses, or gRPC codes and details."""

    port: int = 0
    requests: list[tuple[str, object]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    answers: list[object] = field(default_factory=list)
    rejected: int = 0

    def take(self, signal: str, headers: dict[str, str], body: bytes) -> bytes:
        request, answer = (kind() for kind in _MESSAGES[signal])
        assert request.ParseFromString(body) == len(body)
        size = request.ByteSize()
        request.DiscardUnknownFields()
        assert request.ByteSize() == size, "fields that OTLP does not have"
        self.requests.append((signal, request))
        self.headers.append(headers)
        if self.rejected:
            answer.partial_success.error_message = "no room"
            name = "rejected_spans" if signal == "traces" else "rejected_data_points"
            setattr(answer.partial_success, name, self.rejected)
        return answer.SerializeToString()

    @property
    def spans(self) -> list[tuple[dict[str, object], Span]]:
        """Every span with the attributes of its resource."""
        return [
            (plain(group.resource.attributes), span)
            for signal, request in self.requests
            if signal == "traces"
            for group in request.resource_spans
            for scope in group.scope_spans
            for span in scope.spans
        ]

    async def wait_for(self, is_there: Callable[[], bool], seconds: float = 10) -> None:
        async with asyncio.timeout(seconds):
            while not is_there():  # noqa: ASYNC110
                await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def http_collector(tls: ssl.SSLContext | None = None) -> AsyncIterator[Collector]:
    """OTLP/HTTP on a free port of loopback."""
    collector = Collector()

    async def export(request: web.Request) -> web.Response:
        assert request.content_type == "application/x-protobuf"
        body = await request.read()
        if collector.answers and (status := collector.answers.pop(0)) != 200:
            return web.Response(status=status, headers={"Retry-After": "0"}, text="not now")
        signal = request.path.removeprefix(_HTTP)
        headers = {name.lower(): value for name, value in request.headers.items()}
        answer = collector.take(signal, headers, body)
        return web.Response(body=answer, content_type="application/x-protobuf")

    app = web.Application()
    app.router.add_post("/v1/traces", export)
    app.router.add_post("/v1/metrics", export)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, LOOPBACK, 0, ssl_context=tls).start()
    collector.port = runner.addresses[0][1]
    try:
        yield collector
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def grpc_collector(credentials: grpc.ServerCredentials | None = None) -> AsyncIterator[Collector]:
    """OTLP/gRPC by Google's own server, on a free port of loopback."""
    collector = Collector()

    class Handler(grpc.GenericRpcHandler):
        def service(self, call):
            signal = _GRPC.get(call.method)
            if signal is None:
                return None
            fields = dict(call.invocation_metadata)

            async def export(body: bytes, context: grpc.aio.ServicerContext) -> bytes:
                if collector.answers and (answer := collector.answers.pop(0)):
                    code, details = answer
                    await context.abort(code, "not now", (("grpc-status-details-bin", details),))
                return collector.take(signal, fields, body)

            return grpc.unary_unary_rpc_method_handler(export)

    server = grpc.aio.server(handlers=(Handler(),))
    address = f"{LOOPBACK}:0"
    collector.port = (
        server.add_insecure_port(address)
        if credentials is None
        else server.add_secure_port(address, credentials)
    )
    await server.start()
    try:
        yield collector
    finally:
        await server.stop(0)


def plain(pairs) -> dict[str, object]:
    """Attributes as a dictionary; none may come twice."""
    found = {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in pairs}
    assert len(found) == len(pairs)
    return found


def _conventions() -> tuple[frozenset[str], frozenset[str]]:
    """The names of all attributes, and those that are deprecated."""
    known, deprecated = set(), set()
    for package in (attributes, import_module(f"{_incubating.__name__}.attributes")):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            for name, old in _CONSTANT.findall(inspect.getsource(import_module(module.name))):
                (deprecated if old else known).add(name)
    return frozenset(known), frozenset(deprecated - known)


KNOWN, DEPRECATED = _conventions()
_METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY", "_OTHER"}
_REQUIRED = {
    ("http", Span.SPAN_KIND_CLIENT): {"http.request.method", "server.address", "server.port", "url.full"},
    ("http", Span.SPAN_KIND_SERVER): {"http.request.method", "url.path", "url.scheme"},
    ("rpc", Span.SPAN_KIND_CLIENT): {"rpc.system.name", "rpc.method", "server.address", "server.port"},
    ("rpc", Span.SPAN_KIND_SERVER): {"rpc.system.name", "rpc.method", "server.address"},
}
_TYPES = {"server.port": int, "network.peer.port": int, "http.response.status_code": int,
          "http.request.resend_count": int, "rpc.response.status_code": str, "url.full": str,
          "error.type": str}  # fmt: skip


def judge(resource: dict[str, object], span: Span) -> None:
    """Fail unless a span is as the conventions for HTTP and RPC spans have it."""
    found = plain(span.attributes)
    unknown = {name for name in {*found, *resource} if name not in KNOWN and not name.startswith("meshpy.")}
    assert not unknown, f"not in the conventions: {unknown} (deprecated: {unknown & DEPRECATED})"
    assert resource["service.name"]
    assert resource["service.namespace"]
    assert (len(span.trace_id), len(span.span_id), len(span.parent_span_id) in (0, 8)) == (16, 8, True)
    assert any(span.trace_id)
    assert any(span.span_id)
    assert 1.6e18 < span.start_time_unix_nano <= span.end_time_unix_nano
    family = "rpc" if "rpc.system.name" in found else "http"
    missing = _REQUIRED[family, span.kind] - found.keys()
    assert not missing, missing
    assert all(isinstance(found[name], kind) for name, kind in _TYPES.items() if name in found)
    if family == "http":
        assert found["http.request.method"] in _METHODS
        method = found["http.request.method"]
        assert span.name.split(" ")[0] == ("HTTP" if method == "_OTHER" else method)
        assert "?" not in str(found.get("url.full", "")) + str(found.get("url.path", ""))
        status = found.get("http.response.status_code", 0)
        is_client = span.kind == Span.SPAN_KIND_CLIENT
        is_error = not status or status >= 500 or (status >= 400 and is_client)
    else:
        assert span.name == found["rpc.method"]
        is_error = span.status.code == Status.STATUS_CODE_ERROR
    assert (span.status.code == Status.STATUS_CODE_ERROR) == is_error
    assert ("error.type" in found) == is_error
