"""CPU per request, latency and memory of meshpy's sidecar and of Envoy, interleaved in one run.

Every round gives each candidate one slice of each scenario; figures are medians over the rounds. Machines are
shared: only the ratios of one run count. `make bench` prints them and writes build/bench.json.
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from tests.bench import envoy_side, features, meshpy_side, other_sides, scale
from tests.bench import report as reports
from tests.bench.h2_load import closed as h2_closed
from tests.bench.interpreter import interpreter
from tests.bench.load import Target, closed, fresh, get, post, rate
from tests.bench.processes import ROOT, Processes, cpu_of, rss_mib
from tests.bench.world import make_world

CLOSED = ("plain", "mtls_in", "mtls_out", "pair", "body_64k", "upload_64k", "h2", "h2_8x16", "tcp")
RATE_PER_S = 300
_WAY_OF = {"body_64k": "plain", "upload_64k": "plain", "h2_8x16": "h2"}
_STREAMS = {"h2": (64, 1), "h2_8x16": (8, 16)}
"""Connections, and streams on each."""


@dataclass(frozen=True)
class Budget:
    """How long the parts of a run take."""

    rounds: int
    slice_s: float
    rate_rounds: int
    rate_s: float
    handshake_s: float

    @classmethod
    def of(cls, options):
        made = cls(3, 0.25, 1, 1.0, 0.4) if options.quick else cls(5, 0.7, 2, 2.0, 1.0)
        return replace(made, rounds=options.rounds or made.rounds)


@dataclass
class Cell:
    """What one candidate showed in one scenario, a value for each round."""

    cpu_us: list[float] = field(default_factory=list)
    user_s: float = 0.0
    kernel_s: float = 0.0
    per_second: list[float] = field(default_factory=list)

    def take(self, seen, seconds):
        self.cpu_us.append(seen.used.total_s / max(1, seen.answered) * 1e6)
        self.user_s += seen.used.user_s
        self.kernel_s += seen.used.kernel_s
        self.per_second.append(seen.answered / seconds)

    def figures(self):
        ticks = self.user_s + self.kernel_s
        return {
            "cpu_us": round(median(self.cpu_us), 1),
            "kernel_share": round(self.kernel_s / ticks, 2) if ticks else None,
            "per_second": round(median(self.per_second)),
        }


class Candidate:
    """A proxy with its ways, and what was seen of it."""

    def __init__(self, name, ways):
        self.name, self.ways = name, ways
        self.cells = {}
        self.handshake_us = []
        self.latencies_ms = {}

    def way(self, scenario):
        return self.ways.get(_WAY_OF.get(scenario, scenario))

    def figures(self):
        made = {scenario: cell.figures() for scenario, cell in self.cells.items()}
        callee = self.ways["plain"].pids
        made["rss_mib"] = round(sum(map(rss_mib, callee)), 1)
        made["rss_pair_mib"] = round(sum(map(rss_mib, self.ways["pair"].pids)), 1)
        if self.handshake_us:
            made["handshake_us"] = round(median(self.handshake_us))
        for name, values in self.latencies_ms.items():
            made[f"{name}_p50_ms"] = round(median(p50 for p50, _ in values), 3)
            made[f"{name}_p99_ms"] = round(median(p99 for _, p99 in values), 3)
        return made


class Bench:
    """One run."""

    def __init__(self, folder, budget, only):
        self.budget = budget
        self.processes = Processes(folder)
        self.only = only
        self.backend = None
        self.candidates = []
        self.requests = {}

    def start(self):
        world = make_world(self.processes)
        self.backend = world.backend
        self.tls = world.client_tls()
        ways, self.server_name = meshpy_side.start(world)
        self.candidates.append(Candidate("meshpy", ways))
        others = {
            "envoy": envoy_side.start,
            "nginx": other_sides.start_nginx,
            "haproxy": other_sides.start_haproxy,
            "relay": other_sides.start_relay,
        }
        for name, start in others.items():
            if self.only and name not in self.only:
                continue
            found = start(world)
            if found is None:
                print(f"{name} is not installed here", file=sys.stderr)
            else:
                self.candidates.append(Candidate(name, found))

    def target(self, candidate, scenario, connections=64):
        request = get("backend")
        if scenario == "body_64k":
            request = get("backend", "/api/v1/big")
        elif scenario == "upload_64k":
            request = post("backend", 64 * 1024)
        tls = self.tls if scenario == "mtls_in" else None
        return Target(candidate.way(scenario).port, request, tls, self.server_name, connections)

    def rounds(self, scenarios):
        for number in range(self.budget.rounds):
            for scenario in scenarios:
                for candidate in self._in_turn(number):
                    way = candidate.way(scenario)
                    if way is None:
                        continue
                    seen = self._slice(candidate, scenario, lambda way=way: cpu_of(way.pids))
                    _check(candidate, scenario, seen)
                    candidate.cells.setdefault(scenario, Cell()).take(seen, self.budget.slice_s)

    def _slice(self, candidate, scenario, meter):
        if scenario in _STREAMS:
            port = candidate.way(scenario).port
            return h2_closed(port, *_STREAMS[scenario], self.budget.slice_s, meter)
        return closed(self.target(candidate, scenario), self.budget.slice_s, meter)

    def _in_turn(self, number):
        """Another order each round, so that nobody always runs after the same neighbour."""
        shift = number % len(self.candidates)
        return self.candidates[shift:] + self.candidates[:shift]

    def handshakes(self):
        """CPU of a fresh mTLS connection at the accepting side, without its one request."""
        for number in range(self.budget.rounds):
            for candidate in self._in_turn(number):
                way = candidate.way("mtls_in")
                target = self.target(candidate, "mtls_in")
                seen = fresh(target, self.budget.handshake_s, lambda way=way: cpu_of(way.pids))
                _check(candidate, "handshake", seen)
                request_us = median(candidate.cells["mtls_in"].cpu_us)
                candidate.handshake_us.append(seen.used.total_s / seen.answered * 1e6 - request_us)

    def latencies(self):
        """At a fixed rate, far from saturation; what the direct way takes is told apart."""
        for number in range(self.budget.rate_rounds):
            direct = rate(
                Target(self.backend, get("backend"), connections=16), self.budget.rate_s, RATE_PER_S
            )
            for candidate in self._in_turn(number):
                for scenario in ("plain", "pair"):
                    seen = rate(self.target(candidate, scenario, 16), self.budget.rate_s, RATE_PER_S)
                    _check(candidate, scenario, seen)
                    added = tuple(seen.quantile_ms(q) - direct.quantile_ms(q) for q in (0.5, 0.99))
                    candidate.latencies_ms.setdefault(f"added_{scenario}", []).append(added)


def _check(candidate, scenario, seen):
    if seen.failed or not seen.answered:
        raise SystemExit(f"{candidate.name} {scenario}: {seen.failed} failed, {seen.answered} answered")


def run(options):
    """A whole run; the report."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="meshpy-bench-") as folder:
        bench = Bench(Path(folder), Budget.of(options), options.only)
        try:
            bench.start()
            scenarios = options.scenarios or CLOSED
            bench.rounds(scenarios)
            if "mtls_in" in scenarios and not options.scenarios:
                bench.handshakes()
            if not options.scenarios:
                bench.latencies()
            figures = {candidate.name: candidate.figures() for candidate in bench.candidates}
        finally:
            bench.processes.stop()
    return {
        "at": datetime.now(UTC).isoformat(),
        "seconds": round(time.monotonic() - began, 1),
        "python": interpreter()[1],
        "figures": figures,
        **reports.compare(figures),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter slices, fewer rounds")
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--scenarios", nargs="*", choices=CLOSED, default=[])
    parser.add_argument("--only", nargs="*", default=[], help="candidates beside meshpy")
    options = parser.parse_args()
    began = time.monotonic()
    report = run(options)
    reports.show(report)
    if not options.scenarios:
        report["features_us"] = features.measure(quick=options.quick)
        features.show(report["features_us"])
        report["scale"] = scale.measure(quick=options.quick)
        scale.show(report["scale"])
        report["seconds"] = round(time.monotonic() - began, 1)
    (ROOT / "build").mkdir(exist_ok=True)
    (ROOT / "build/bench.json").write_text(json.dumps(report, indent=2))
    print(f"written: build/bench.json, after {report['seconds']:.0f} s")


if __name__ == "__main__":
    main()
