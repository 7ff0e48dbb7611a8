"""What evidence costs: `python -m tests.bench.evidence [--seconds 3] [--rounds 7] [--quick] [--parts]`.

Two pairs of sidecars, caller and callee over mTLS, the same request; one with everything off, one with
everything on at default sampling: access log and flow log to files, one percent of the traces, OTLP to a
collector, metrics read as Prometheus does by default. CPU of both sidecars per request, the pairs in turn,
medians. With `--parts` there are pairs besides with one part on each; `--cpu-only` ends there.

Then what a control plane holds for 1,000 services: each calling four others, with traces and events.
"""

import argparse
import asyncio
import http.server
import os
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

from control_plane.anomalies.watch import Watch
from control_plane.reports import Reports
from meshpy.model.names import ServiceName
from meshpy.model.span import Kind, Span
from tests.bench import meshpy_side
from tests.bench.load import Target, closed, get
from tests.bench.processes import Processes, cpu_of, rss_mib
from tests.bench.world import Way, make_world
from tests.helpers.ports import free_port

SERVICES, CALLS = 1_000, 4
SCRAPE_S = 15
OFF = {"MESHPY_TRACE_SAMPLING": "0", "MESHPY_TRACE_SLOW_MS": "1000000", "MESHPY_RECENT": "0"}


class Collector(http.server.BaseHTTPRequestHandler):
    """Takes everything."""

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_arguments):
        pass


def pair(world, name, log, environment):
    """Caller and callee with this environment."""
    ingress, h2, mesh, outbound, to_tls, opaque = (free_port() for _ in range(6))
    admins = free_port(), free_port()
    before = dict(os.environ)
    os.environ |= environment
    try:
        callee = meshpy_side.callee(world.backend, ingress, world.h2_backend, h2)
        own = meshpy_side.sidecar(
            world, "backend", callee, mesh, mesh, log=log(f"{name}-callee"), admin=admins[0]
        )
        peers = [(outbound, mesh, ingress), (to_tls, world.tls_backend, ingress)]
        caller = meshpy_side.caller(peers, (opaque, world.backend))
        log_file = log(f"{name}-caller")
        other = meshpy_side.sidecar(
            world, "caller", caller, free_port(), outbound, log=log_file, admin=admins[1]
        )
    finally:
        os.environ.clear()
        os.environ |= before
    return Way(outbound, (other, own)), admins


def scrape(admins, stop):
    """As Prometheus does."""
    while not stop.wait(SCRAPE_S):
        for port in admins:
            request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics")
            urllib.request.urlopen(request, timeout=5).read()


def weigh(world, folder, seconds, rounds, *, parts):
    """CPU of a pair per request, µs, by what is on: every round's."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    collector = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{server.server_port}"}
    flows = {"MESHPY_FLOW_LOG": str(folder / "flows.log")}
    sampled = {name: value for name, value in OFF.items() if name != "MESHPY_TRACE_SAMPLING"}
    recent = {name: value for name, value in OFF.items() if name != "MESHPY_RECENT"}
    wanted = {"off": (OFF, False), "on": (collector | flows, True)}
    if parts:
        wanted |= {
            "access log": (OFF, True),
            "recent": (recent, False),
            "traces to OTLP": (sampled | collector, False),
            "flow log": (OFF | flows, False),
        }
    ways = {}
    for name, (environment, is_logged) in wanted.items():
        slug = name.replace(" ", "-")
        ways[name], admins = pair(
            world, slug, lambda each, on=is_logged: str(folder / f"{each}.log") if on else "off", environment
        )
        if name == "on":
            scraped = admins
    stop = threading.Event()
    threading.Thread(target=scrape, args=(scraped, stop), daemon=True).start()
    found = {name: [] for name in ways}
    for number in range(rounds):
        for name in list(ways) if number % 2 else reversed(ways):
            way = ways[name]
            target = Target(way.port, get("backend"))
            seen = closed(target, seconds, lambda way=way: cpu_of(way.pids))
            assert not seen.failed, seen.failed
            found[name].append(seen.used.total_s / seen.answered * 1e6)
    stop.set()
    server.shutdown()
    return found


def show(found):
    """Each part beside everything off; ratios are of the same round."""
    print("CPU of caller and callee, µs a request")
    for name, values in found.items():
        ratio = statistics.median(a / b for a, b in zip(values, found["off"], strict=True)) - 1
        best = min(values) / min(found["off"]) - 1
        print(f"  {name:16}{statistics.median(values):7.1f}  {ratio:+.1%}, the best rounds {best:+.1%}")
    rounded = {name: [round(value, 1) for value in values] for name, values in found.items()}
    print(f"  rounds: {rounded}", file=sys.stderr)


def fill(reports, watch, minutes):
    """What 1,000 services report in so many minutes, ten seconds at a time."""
    names = [ServiceName("bench", f"service-{n}") for n in range(SERVICES)]
    counts = [0] * 14 + [0]
    counts[4] = 100
    now = time.monotonic()
    for second in range(0, minutes * 60, 10):
        for index, name in enumerate(names):
            records = [
                {
                    "direction": "outbound", "source": str(name),
                    "destination": str(names[(index + n) % SERVICES]), "protocol": "http", "mtls": True,
                    "requests": 100, "success": 100, "responses": {"200": 100},
                    "latency_ms": {"bounds": list(range(1, 15)), "counts": counts},
                }
                for n in range(1, CALLS + 1)
            ]  # fmt: skip
            reports.telemetry.record(name, records, now + second)
            watch.take_paths(name, {"classes": [["GET", f"/p{second % 600}", str(name), 200]]})
            for n in range(2):
                trace = f"{second:016x}{index:015x}{n:x}"
                attributes = {"http.request.method": "GET", "url.path": "/items", "server.address": "api"}
                reports.traces.add(
                    Span(trace, f"{index + 1:016x}", "", f"{name.name}.bench", Kind.SERVER, "GET", second, 5,
                         False, attributes)
                )  # fmt: skip
        begin = time.perf_counter()
        asyncio.run(watch.look(now + second))
        looked = time.perf_counter() - begin
    return looked


def memory(minutes):
    reports = Reports()
    watch = Watch(reports.telemetry, 60.0)
    before = rss_mib(os.getpid())
    looked = fill(reports, watch, minutes)
    held = rss_mib(os.getpid())
    traces = round(reports.traces.size_bytes / 2**20, 1)
    found = {"minutes": minutes, "edges": SERVICES * CALLS, "grown_mib": round(held - before, 1)}
    return {**found, "traces_mib": traces, "look_ms": round(looked * 1000, 1)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--parts", action="store_true")
    parser.add_argument("--cpu-only", action="store_true")
    asked = parser.parse_args()
    seconds, rounds = (1, 3) if asked.quick else (asked.seconds, asked.rounds)
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        processes = Processes(folder)
        try:
            show(weigh(make_world(processes), folder, seconds, rounds, parts=asked.parts))
        finally:
            processes.stop()
    if asked.cpu_only:
        return
    for minutes in (2, 4) if asked.quick else (10, 60):
        print(f"control plane, {SERVICES} services: {memory(minutes)}")


if __name__ == "__main__":
    main()
