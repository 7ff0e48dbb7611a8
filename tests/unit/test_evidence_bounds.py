"""A hundred thousand distinct hosts, paths, callers and header values: what keeps evidence stays bounded."""

import time

from control_plane.telemetry import MAX_EDGES, Telemetry
from control_plane.traces.store import MAX_OPERATIONS, TraceStore
from control_plane.traffic import edges, stat
from meshpy.model.names import ServiceName
from meshpy.model.span import Kind, Span
from meshpy.model.tap import TapFilter
from proxy.look import MAX_GROUPS, Question, answer
from proxy.path_watch import MAX_CLASSES, PathWatch
from proxy.recent import KEPT, Alike, Recent
from proxy.redaction import redacted_target
from proxy.series import prometheus_text
from proxy.telemetry import Edge, EdgeKey
from proxy.telemetry import Telemetry as SidecarTelemetry

MANY = 100_000
API = ServiceName("shop", "api")


def test_metrics_of_a_sidecar():
    telemetry = SidecarTelemetry()
    for number in range(MANY):
        key = EdgeKey("inbound", f"shop/s{number}", "shop/api", "api.shop", "http", is_mtls=True)
        telemetry.edge(key).http(200, "-", 1.0, 1, 1)
    lines = prometheus_text(telemetry).splitlines()
    counted = [line for line in lines if line.startswith("istio_requests_total")]
    assert len(counted) <= 1001
    assert sum(int(line.rpartition(" ")[2]) for line in counted) == MANY


def test_the_last_exchanges_and_classes_of_paths_of_a_sidecar():
    recent, watch = Recent(), PathWatch()
    edge = Edge(EdgeKey("inbound", "", "shop/api", "api.shop", "http", is_mtls=False))
    now = time.monotonic()
    for number in range(MANY):
        text = f"/w{number:x}q" + "y" * 20
        alike = Alike(edge, f"M{number}", f"h{number}", 1, 200, "-", None, None)
        recent.add(alike, b"", b"", True, now + number / 1e6, now, text, 1, 1, None)
        if number % 100 == 0:
            watch.look(recent, now + number / 1e6)
    assert len(recent) == KEPT
    assert len(watch._seen) <= MAX_CLASSES
    groups = answer(recent, Question(1, TapFilter(), "path", since_s=60))["groups"]
    assert len(groups) <= MAX_GROUPS
    for number in range(MANY):
        redacted_target(b"/x?a=%d" % number)


def test_the_trace_store():
    store = TraceStore(max_bytes=1_000_000)
    for number in range(MANY):
        attributes = {"url.path": f"/p{number}", "user_agent.original": f"agent {number}"}
        ids = f"{number + 1:032x}", f"{number + 1:016x}"
        span = Span(*ids, "", "api.shop", Kind.SERVER, f"GET r{number}", number, 1, False, attributes)
        store.add(span)
    assert store.size_bytes <= 1_000_000
    assert len(store.operations("api.shop")) <= MAX_OPERATIONS


def test_the_control_plane_s_figures_and_what_the_dashboard_polls():
    telemetry = Telemetry()
    for begin in range(0, MANY, 1000):
        records = [
            {"direction": "inbound", "source": f"shop/s{begin + n}", "destination": "shop/api",
             "protocol": "http", "requests": 1, "success": 1, "responses": {"200": 1}}
            for n in range(1000)
        ]  # fmt: skip
        telemetry.record(API, records, 100.0)
    assert len(edges(telemetry.traffic(100.0))) <= MAX_EDGES
    assert telemetry.dropped >= MANY - MAX_EDGES
    assert len(stat(telemetry.traffic(100.0), "service", TapFilter())) == 1
