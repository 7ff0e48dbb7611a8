"""What a control plane holds after hours: `python -m tests.bench.control_memory [--hours 3]`.

Fed what sidecars send, as frames, through the same doors, as fast as it goes: an hour takes seconds. First a
mesh like the demo's (six services, five edges, 50 requests a second, eight spans a second: what the demo sent
when it was looked at for an hour), then 1,000 services, each calling four others, with traces and events. RSS
at some minutes, what of it is traces, and with `--top` which lines of code hold what grew since the fifth.
"""

import argparse
import asyncio
import itertools
import json
import os
import random
import tracemalloc
from datetime import UTC, datetime

from control_plane.anomalies.watch import Watch
from control_plane.flows import FlowLog
from control_plane.reports import Reports
from control_plane.streams import Stream
from meshpy.model.names import ServiceName
from tests.bench.processes import rss_mib

MINUTES = (1, 5, 15, 30, 60, 120, 180, 360, 720, 1440)
CHAIN = ("web", "api", "catalog", "db")
BOUNDS = [0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000]
STEP_S = 10


def figures(source, destination, direction, requests):
    """What one end of an edge counted."""
    counts = [0] * (len(BOUNDS) + 1)
    counts[2] = requests
    return {
        "direction": direction, "source": source, "destination": destination, "protocol": "http",
        "mtls": True, "requests": requests, "success": requests, "responses": {"200": requests},
        "latency_ms": {"bounds": BOUNDS, "counts": counts},
    }  # fmt: skip


def spans_of(draw, names, at_s):
    """A trace through a chain of services: a CLIENT and a SERVER span for each call."""
    trace, above = f"{draw.getrandbits(128) | 1:032x}", ""
    for depth, (caller, callee) in enumerate(itertools.pairwise(names)):
        for kind, who in (("CLIENT", caller), ("SERVER", callee)):
            span = f"{draw.getrandbits(64) | 1:016x}"
            path = f"/products/{draw.randrange(500)}"
            attributes = {
                "server.address": callee.name, "server.port": 8080, "http.request.method": "GET",
                "network.protocol.version": "1.1", "service.peer.name": callee.name,
                "service.peer.namespace": callee.namespace, "http.response.status_code": 200,
                "meshpy.route": f"{callee.name}.{callee.namespace}",
                "meshpy.request_id": f"{draw.getrandbits(128):032x}",
                "network.peer.address": "10.0.1.7", "network.peer.port": draw.randrange(1024, 65536),
                **({"url.full": f"http://{callee.name}:8080{path}"} if kind == "CLIENT" else
                   {"url.path": path, "url.scheme": "http", "client.address": "10.0.1.9",
                    "user_agent.original": "python-httpx/0.27"}),
            }  # fmt: skip
            yield who, {
                "trace": trace, "span": span, "parent": above, "kind": kind, "name": f"GET {callee.name}",
                "start_us": int(at_s * 1e6) + depth * 500, "duration_us": 9000 - depth * 500, "error": False,
                "sampled": True, "attributes": attributes,
            }  # fmt: skip
            above = span


class Mesh:
    """A control plane's ears, and who speaks to them."""

    def __init__(self, names, calls, spans_per_s):
        self.names, self.calls, self.spans_per_s = names, calls, spans_per_s
        self.reports = Reports(flows=FlowLog())
        self.watch = Watch(self.reports.telemetry, 60.0)
        self.reports.paths = self.watch.take_paths
        self.streams = {name: Stream(name, "10.0.0.1", datetime.now(UTC)) for name in names}
        self.draw = random.Random(7)

    def say(self, name, now, **message):
        """One frame, through JSON as on the wire."""
        self.reports.take(self.streams[name], json.loads(json.dumps(message)), now)

    def step(self, now):
        """What is said in STEP_S."""
        for name, callees in self.calls.items():
            out = [figures(str(name), str(each), "outbound", 10 * STEP_S) for each in callees]
            self.say(name, now, type="stats", records=out)
            for callee in callees:
                back = [figures(str(name), str(callee), "inbound", 10 * STEP_S)]
                self.say(callee, now, type="stats", records=back)
                rows = [
                    [str(name), 8080, "GET", f"/products/{self.draw.randrange(500)}", 5] for _ in range(20)
                ]
                self.say(callee, now, type="seen", flows=rows, rules=[], lost=0)
                path = f"/products/{{*}}/{int(now) % 600}"
                self.say(callee, now, type="paths", classes=[["GET", path, str(name), 200]])
        for _ in range(round(self.spans_per_s * STEP_S / (2 * (len(CHAIN) - 1)))):
            first = self.draw.randrange(max(1, len(self.names) - len(CHAIN) + 1))
            for who, span in spans_of(self.draw, self.names[first : first + len(CHAIN)], now):
                self.say(who, now, type="spans", spans=[span])
        asyncio.run(self.watch.look(now))


def run(title, mesh, hours, *, top):
    """Print what is held as time goes by."""
    print(title)
    before, base = rss_mib(os.getpid()), None
    if top:
        tracemalloc.start(4)
    for step in range(1, round(hours * 3600 / STEP_S) + 1):
        mesh.step(1000.0 + step * STEP_S)
        minute, rest = divmod(step * STEP_S, 60)
        if rest == 0 and minute in MINUTES:
            traces = mesh.reports.traces
            counted = f"{len(traces)} traces count {traces.size_bytes / 2**20:.1f} MiB"
            print(f"  {minute:5} min: +{rss_mib(os.getpid()) - before:6.1f} MiB, {counted}", flush=True)
            if top and minute == MINUTES[1]:
                base = tracemalloc.take_snapshot()
    if base is not None:
        for each in tracemalloc.take_snapshot().compare_to(base, "lineno")[:12]:
            print(f"    {each}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--hours", type=float, default=3)
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--top", action="store_true")
    asked = parser.parse_args()
    demo = [ServiceName("shop", name) for name in (*CHAIN, "pay", "back-office")]
    calls = {demo[0]: [demo[1]], demo[1]: [demo[2], demo[4]], demo[2]: [demo[3]], demo[5]: [demo[1]]}
    run("the demo", Mesh(demo, calls, 8), asked.hours, top=asked.top)
    if asked.services:
        names = [ServiceName("bench", f"service-{n}") for n in range(asked.services)]
        calls = {name: [names[(n + k) % len(names)] for k in range(1, 5)] for n, name in enumerate(names)}
        run(f"{asked.services} services", Mesh(names, calls, 200), asked.hours / 12, top=asked.top)


if __name__ == "__main__":
    main()
