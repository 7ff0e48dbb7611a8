"""What evidence costs: `python -m tests.bench.evidence [--starts 5] [--seconds 0.5] [--rounds 11] [--parts]`.

Two pairs of sidecars, caller and callee over mTLS, the same request; one with everything off, one with
everything on at default sampling: access log and flow log to files, one percent of the traces, OTLP to a
collector, metrics read as Prometheus does by default. CPU of both sidecars per request, the pairs in turn,
medians. Where things happen to lie in memory moves a pair by some percent for as long as it runs, so all of
it is started anew several times, and the median of the starts is what counts. With `--parts` there are pairs
besides with one part on each. What a control plane holds is weighed by `control_memory`.
"""

import argparse
import http.server
import os
import statistics
import tempfile
import threading
import urllib.request
from pathlib import Path

from tests.bench import meshpy_side
from tests.bench.load import Target, closed, get
from tests.bench.processes import Processes, cpu_of
from tests.bench.world import Way, make_world
from tests.helpers.ports import free_port

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
    ratios = {}
    for name, values in found.items():
        ratios[name] = statistics.median(a / b for a, b in zip(values, found["off"], strict=True)) - 1
        best = min(values) / min(found["off"]) - 1
        print(
            f"  {name:16}{statistics.median(values):7.1f}  {ratios[name]:+.1%}, the best rounds {best:+.1%}"
        )
    return ratios


def start(seconds, rounds, *, parts):
    """What all pairs took, started for this."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        processes = Processes(folder)
        try:
            return weigh(make_world(processes), folder, seconds, rounds, parts=parts)
        finally:
            processes.stop()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--parts", action="store_true")
    asked = parser.parse_args()
    ratios = []
    for number in range(1, asked.starts + 1):
        print(f"CPU of caller and callee, µs a request; start {number} of {asked.starts}", flush=True)
        ratios.append(show(start(asked.seconds, asked.rounds, parts=asked.parts)))
    print("all starts, against everything off")
    for name in ratios[0]:
        each = sorted(found[name] for found in ratios)
        print(f"  {name:16}{statistics.median(each):+.1%}  from {each[0]:+.1%} to {each[-1]:+.1%}")


if __name__ == "__main__":
    main()
