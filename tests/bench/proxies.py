"""CPU per request, latency and memory of meshpy's sidecar and of Envoy, interleaved in one run.

CPU is what the kernel charged the proxy's threads (/proc/PID/task/*/schedstat, user and system), divided by
the requests of that round. Machines are shared: only the ratios of one run count. `make bench` prints them
and writes build/bench.json.
"""

import argparse
import contextlib
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from certs.identity import save_bundle
from meshpy.wire import encode
from tests.bench import envoy_side, meshpy_side
from tests.bench.load import load
from tests.helpers.pki import mesh_pki

ROOT = Path(__file__).parents[2]
ENVOY = ROOT / "build/bench/envoy/envoy/_bin/envoy"
SCENARIOS = ("plain", "pair")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port, process):
    for _ in range(200):
        if process.poll() is not None:
            raise SystemExit(f"{process.args[0]} ended with {process.returncode}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    raise SystemExit(f"nobody listens on {port}: {process.args}")


def cpu_s(pid):
    """Seconds on a CPU of all threads of a process."""
    return (
        sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9
    )


def rss_mib(pid):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


class Candidate:
    """One way from the client to the backend: the port to call and the processes whose CPU counts."""

    def __init__(self, name, scenario, port, pids):
        self.name, self.scenario, self.port, self.pids = name, scenario, port, pids
        self.cpu_us, self.p50_ms, self.p99_ms = [], [], []

    def round(self, count):
        before = sum(map(cpu_s, self.pids))
        seen = load(self.port, count=count)
        if seen.errors:
            raise SystemExit(f"{self.name} {self.scenario}: {seen.errors} of {count} requests failed")
        self.cpu_us.append((sum(map(cpu_s, self.pids)) - before) / count * 1e6)
        self.p50_ms.append(seen.quantile_ms(0.5))
        self.p99_ms.append(seen.quantile_ms(0.99))

    def figures(self):
        return {
            "cpu_us_per_request": round(statistics.median(self.cpu_us), 1),
            "p50_ms": round(statistics.median(self.p50_ms), 2),
            "p99_ms": round(statistics.median(self.p99_ms), 2),
            "rss_mib": round(sum(map(rss_mib, self.pids)), 1),
        }


class Bench:
    """Starts every process in a folder of its own and ends each by its pid."""

    def __init__(self, folder):
        self.folder, self.processes = folder, []
        pki = mesh_pki("cluster.local")
        self.identities = {}
        for service in (meshpy_side.CALLER, meshpy_side.CALLEE):
            self.identities[service.name] = folder / service.name
            (folder / service.name).mkdir()
            pki.identity(service.namespace, service.name).save(folder / service.name)
            save_bundle(folder / service.name, pki.bundle)

    def start(self, argv, port):
        log = (self.folder / f"{len(self.processes)}.log").open("wb")
        process = subprocess.Popen(list(map(str, argv)), stdout=log, stderr=log, cwd=ROOT)
        self.processes.append(process)
        wait_for(port, process)
        return process.pid

    def stop(self):
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()

    def backend(self):
        port = free_port()
        self.start([sys.executable, "tests/bench/backend.py", port], port)
        return port

    def meshpy(self, backend):
        ingress, mesh, outbound = free_port(), free_port(), free_port()
        proxy = Path(sys.executable).with_name("meshpy-proxy")

        def sidecar(service, snapshot, port, mesh_port):
            file = self.folder / f"{service}.json"
            file.write_text(json.dumps(encode(snapshot)))
            argv = [
                proxy,
                "--snapshot",
                file,
                "--identity",
                self.identities[service],
                "--bind",
                "edge=127.0.0.1",
            ]
            argv += ["--mesh-bind", f"127.0.0.1:{mesh_port}", "--admin", f"127.0.0.1:{free_port()}"]
            return self.start([*argv, "--access-log", os.devnull], port)

        callee = sidecar("backend", meshpy_side.callee(backend, ingress), ingress, mesh)
        caller = sidecar("caller", meshpy_side.caller(outbound, mesh, ingress), outbound, free_port())
        return [
            Candidate("meshpy", "plain", ingress, [callee]),
            Candidate("meshpy", "pair", outbound, [caller, callee]),
        ]

    def envoy(self, backend):
        plain, mesh, outbound = free_port(), free_port(), free_port()
        side = envoy_side

        def run(name, port, listeners, clusters, base_id):
            file = self.folder / f"envoy-{name}.json"
            file.write_text(json.dumps(side.bootstrap(listeners, clusters)))
            return self.start(
                [ENVOY, "-c", file, "--concurrency", 1, "--base-id", base_id, "-l", "error"], port
            )

        base_id = os.getpid() % 10_000
        callee = run(
            "callee",
            plain,
            [
                side.listener("plain", plain, "app"),
                side.listener("mesh", mesh, "app", tls=self.identities["backend"]),
            ],
            [side.cluster("app", backend)],
            base_id,
        )
        caller = run(
            "caller",
            outbound,
            [side.listener("outbound", outbound, "peer", rbac=False)],
            [side.cluster("peer", mesh, tls=self.identities["caller"])],
            base_id + 1,
        )
        return [
            Candidate("envoy", "plain", plain, [callee]),
            Candidate("envoy", "pair", outbound, [caller, callee]),
        ]


def ratios(figures):
    """meshpy ÷ Envoy, by scenario and by figure; below 1 is cheaper than Envoy."""
    by_name = {(row["candidate"], row["scenario"]): row["figures"] for row in figures}
    return {
        scenario: {
            key: round(by_name["meshpy", scenario][key] / value, 2)
            for key, value in by_name["envoy", scenario].items()
        }
        for scenario in SCENARIOS
        if ("envoy", scenario) in by_name
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--requests", type=int, default=20_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="meshpy-bench-") as folder:
        bench = Bench(Path(folder))
        try:
            backend = bench.backend()
            candidates = bench.meshpy(backend)
            if ENVOY.exists():
                candidates += bench.envoy(backend)
            else:
                print("Envoy is not here: no ratios", file=sys.stderr)
            for number in range(options.rounds + 1):  # the first round warms up and is forgotten
                for candidate in candidates:
                    candidate.round(options.requests if number else options.requests // 4)
                    if not number:
                        candidate.cpu_us.clear(), candidate.p50_ms.clear(), candidate.p99_ms.clear()
            figures = [
                {"candidate": c.name, "scenario": c.scenario, "figures": c.figures()} for c in candidates
            ]
        finally:
            bench.stop()
    print(f"{'':8}{'scenario':10}{'CPU µs/req':>12}{'p50 ms':>9}{'p99 ms':>9}{'RSS MiB':>9}")
    for row in figures:
        cells = row["figures"].values()
        widths = (12, 9, 9, 9)
        print(
            f"{row['candidate']:8}{row['scenario']:10}"
            + "".join(f"{c:>{w}}" for c, w in zip(cells, widths, strict=True))
        )
    found = ratios(figures)
    for scenario, row in found.items():
        print(f"ratio to Envoy, {scenario}: " + "  ".join(f"{key} {value:.2f}" for key, value in row.items()))
    (ROOT / "build").mkdir(exist_ok=True)
    report = {"at": datetime.now(UTC).isoformat(), "figures": figures, "ratios": found}
    (ROOT / "build/bench.json").write_text(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
