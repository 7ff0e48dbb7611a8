"""How often is the watch wrong? `python -m tests.bench.anomalies [--minutes 30]`.

Runs the demo, lets the watch learn for a minute, and counts the events of so many minutes in which nothing
unusual happens. Then unusual things happen one after the other, and it is told which were found, and when.
"""

import argparse
import http.client
import json
import sys
import time
from collections import Counter
from pathlib import Path

from meshpy.demo.runner import LEARNING_S, run_demo
from meshpy.model.names import ServiceName
from tests.bench.processes import rss_mib

ROOT = Path(__file__).parents[2]
STACK = ROOT / "stacks/shop.yml"
WITHIN_S = 120
RSS_AT_MIN = (1, 5, 15, 30, 60)
FAULT = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: bench-fault, namespace: shop}
spec:
  hosts: [api]
  http:
  - fault: {abort: {percentage: {value: 40}, httpStatus: 500}}
    route: [{destination: {host: api}}]
"""


def events(demo, after=0):
    return demo.operator.call("GET", f"/v1/events?after={after}")["events"]


def found_within(demo, kind, after):
    """Seconds until an event of that kind came; None when none did."""
    begin = time.monotonic()
    while time.monotonic() - begin < WITHIN_S:
        if any(event["kind"] == kind for event in events(demo, after)):
            return round(time.monotonic() - begin, 1)
        time.sleep(1)
    return None


def scan(demo):
    connection = http.client.HTTPConnection(demo.door.address, demo.door.port, timeout=5)
    for number in range(40):
        connection.request("GET", f"/scan/{'abcdefghij'[number % 10]}{'klmn'[number // 10]}.php")
        connection.getresponse().read()
    connection.close()


def stop(demo, name):
    for member, process in demo.crew._members:
        if member == name:
            process.terminate()


def apply(demo, text):
    body = {"documents": [{"name": "bench.yaml", "text": text}], "default_namespace": "shop"}
    demo.operator.call("PATCH", "/v1/policies", body)


def memory_of(pid, minutes):
    """MiB of a process, by minute, while so many minutes pass."""
    begin, found = time.monotonic(), {}
    for mark in sorted({*(each for each in RSS_AT_MIN if each < minutes), minutes}):
        time.sleep(max(0.0, begin + mark * 60 - time.monotonic()))
        found[f"{mark:g}"] = round(rss_mib(pid), 1)
        print(f"minute {mark:g}: {found[f'{mark:g}']} MiB", file=sys.stderr)
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=30)
    minutes = parser.parse_args().minutes
    policies = {path.name: path.read_text() for path in (ROOT / "stacks/shop-policies").glob("*.y*ml")}
    with run_demo(STACK, "shop", policies, lambda line: print(line, file=sys.stderr)) as demo:
        control_plane = next(p.pid for name, p in demo.crew._members if name == "control-plane")
        time.sleep(LEARNING_S + 15)
        before = events(demo)
        memory = memory_of(control_plane, minutes)
        wrong = events(demo, max((event["id"] for event in before), default=0))
        told = {
            "minutes": minutes,
            "edges": demo.operator.call("GET", "/v1/events")["baseline"]["edges"],
            "events_in_learning": len(before),
            "false_alarms": dict(Counter(event["kind"] for event in wrong)),
            "false_alarms_per_hour": round(len(wrong) * 60 / minutes, 2),
            "texts": [event["text"] for event in wrong],
            "control_plane_mib_at_minute": memory,
        }
        after = max((event["id"] for event in events(demo)), default=0)
        found = {}
        scan(demo)
        found["new_path_class"] = found_within(demo, "new_path_class", after)
        apply(demo, FAULT)
        found["error_shift"] = found_within(demo, "error_shift", after)
        demo.operator.call("DELETE", f"/v1/policies/VirtualService/{ServiceName('shop', 'bench-fault')}")
        stop(demo, "loadgen")
        found["silent_service"] = found_within(demo, "silent_service", after)
        print(json.dumps({**told, "found_after_s": found}, indent=1))


if __name__ == "__main__":
    main()
