"""The dashboard over a whole mesh in a real Chromium: `python -m tests.bench.dashboard [--services 1000]`.

A real control plane with so many services in stacks of ten, each calling three others, their sidecars in sync
over streams in memory, with traces, events and last requests. Every page is opened in both themes: the time
until its data is there, the tasks that held the page up for more than 50 ms, what axe finds, what the console
says, whom the page asked. `--shots DIR` keeps a picture of each.
"""

import argparse
import asyncio
import json
import tempfile
import time
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from control_plane.streams import Stream
from meshpy.model.inventory import Inventory
from meshpy.model.names import ServiceName
from tests.helpers.browser import browser
from tests.helpers.control_plane import plane, service, write_inventory
from tests.helpers.dashboard_link import bridged, in_a_thread

AXE = Path(__file__).parents[2] / "control_plane/dashboard/web/node_modules/axe-core/axe.min.js"
WORDS = ("web", "api", "orders", "catalog", "payments", "users", "search", "mailer", "audit-log", "db")
TRACE = "0af7651916cd43dd8448eb211c8031%02x"
POLICY = """\
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: only-web, namespace: team-%03d}
spec:
  selector: {matchLabels: {app: api}}
  rules:
  - from: [{source: {principals: [cluster.local/ns/team-%03d/sa/web]}}]
"""
PAGES = {
    "overview": "Who calls whom",
    "graph": "Calls",
    "graph?at=team-000%2Fapi": "Calls of team-000/api",
    "services": "meshed",
    "services/team-000/api": "Policies in force",
    "requests": "/items/",
    "events": "for the first time",
    "traces?service=web.team-000": "0af7651916cd",
    f"traces/{TRACE % 0}": "GET /checkout",
    "policies": "Revisions",
    "policies/1": "added",
    "policies?tool=explain&source=team-000%2Fweb&destination=team-000%2Fapi&method=GET&path=%2F": "allowed",
    "sync": "SYNCED",
    "ca": "Trust domain",
}
TASKS = """
if (!window.__long) {
  window.__long = [];
  new PerformanceObserver((l) => l.getEntries().forEach((e) => window.__long.push(Math.round(e.duration))))
    .observe({type: 'longtask', buffered: true});
}
const found = window.__long; window.__long = []; return found;
"""


def names_of(number):
    return [ServiceName(f"team-{n // 10:03d}", WORDS[n % 10]) for n in range(number)]


def mesh_of(names):
    """All services; every hundredth is not meshed, every 150th has no endpoint."""
    found = {}
    for index, name in enumerate(names):
        fields = {"exempt": "it mounts the Docker socket"} if index % 100 == 9 else {}
        addresses = () if index % 150 == 8 else (f"10.{index >> 8}.{index & 255}.2",)
        found[name] = service(name, *addresses, **fields)
    return Inventory(found)


class Sidecar:
    """One end of a stream in memory: in sync at once, and asked for its last requests it has some."""

    def __init__(self, name, peers):
        self.name, self.peers = name, peers
        self.incoming = asyncio.Queue()
        self.incoming.put_nowait(
            json.dumps({"type": "hello", "held": "", "task": f"{name}.1", "node": "node-1"})
        )

    async def frames(self):
        while True:
            yield await self.incoming.get()

    async def send(self, text):
        frame = json.loads(text)
        if frame["type"] == "snapshot":
            said = {"type": "ack", "version": frame["delta"]["version"]}
        elif frame["type"] == "look":
            said = {"type": "looked", "id": frame["id"], "records": [self.record(n) for n in range(3)]}
        else:
            return
        self.incoming.put_nowait(json.dumps(said))

    def record(self, number):
        return {
            "at": round(time.time() - number, 3), "direction": "out", "source": str(self.name),
            "destination": str(self.peers[number % len(self.peers)]), "protocol": "http", "mtls": True,
            "method": "GET", "authority": "api", "path": f"/items/{number}", "route": "", "status": 200,
            "flags": "-", "verdict": "FORWARDED", "duration_ms": 2.5, "bytes_sent": 10, "bytes_received": 0,
            "attempts": 1, "policy": "", "rule": "", "trace_id": "",
        }  # fmt: skip


def figures(index, name, peers, second):
    """What a sidecar counted in five seconds."""
    return [
        {
            "direction": "outbound", "source": str(name), "destination": str(peer), "protocol": "http",
            "mtls": True, "requests": 100 + index % 70, "success": 100 + index % 70 - (12 if failing else 0),
            "responses": {"200": 88, "503": 12 if failing else 0}, "denied": {},
            "latency_ms": {"bounds": [1, 5, 25, 100], "counts": [60, 30, 8, 2, second % 2]},
        }
        for number, peer in enumerate(peers)
        for failing in [index % 37 == 0 and not number]
    ]  # fmt: skip


def spans():
    """Twenty traces of web → api → orders."""
    for number in range(20):
        start = int((time.time() - number) * 1e6)
        for depth, (kind, who, name) in enumerate(
            [("CLIENT", "web", "GET /checkout"), ("SERVER", "api", "GET /checkout"),
             ("CLIENT", "api", "GET /orders"), ("SERVER", "orders", "GET /orders")]
        ):  # fmt: skip
            yield ServiceName("team-000", who), {
                "trace": TRACE % number, "span": f"{depth + 1:016x}",
                "parent": f"{depth:016x}" if depth else "",
                "kind": kind, "name": name, "start_us": start + depth * 700,
                "duration_us": 9000 - depth * 2000, "error": number % 7 == 0 and depth > 1,
                "attributes": {"http.request.method": "GET", "http.response.status_code": 200},
            }  # fmt: skip


async def serve(folder, number, ready, stop):
    names = names_of(number)
    write_inventory(folder / "inventory.json", mesh_of(names))
    async with (
        plane(folder, learning_s=0.001) as mesh,
        asyncio.TaskGroup() as group,
        AsyncExitStack() as ends,
    ):
        parts = mesh.running.parts
        await mesh.put(*(POLICY % (n, n) for n in range(3)))
        peers = {}
        for index, name in enumerate(names):
            stack = names[index // 10 * 10 : index // 10 * 10 + 10]
            peers[name] = [stack[(index + step) % 10] for step in (1, 2, 5)]
            stream = Stream(name, "127.0.0.1", datetime.now(UTC) + timedelta(hours=1))
            if index % 100 != 9:
                group.create_task(parts.distribution.serve(stream, Sidecar(name, peers[name])))
        for name, span in spans():
            parts.reports.take(Stream(name, "", datetime.now(UTC)), {"type": "spans", "spans": [span]}, 0.0)
        for index, name in enumerate(names[:60]):
            parts.watch.take_paths(name, {"classes": [["GET", f"/new-{index}/{{*}}", str(names[0]), 404]]})
        link = ends.enter_context(bridged(mesh.operator))
        second = 0
        while not stop.is_set():
            if second % 50 == 0:
                for index, name in enumerate(names):
                    records = figures(index, name, peers[name], second // 50)
                    parts.reports.telemetry.record(name, records, time.monotonic())
                    if index % 50 == 0:
                        await asyncio.sleep(0)
                if not ready:
                    ready.append(link)
            second += 1
            await asyncio.sleep(0.1)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()


@contextmanager
def served(number):
    with (
        tempfile.TemporaryDirectory() as text,
        in_a_thread(partial(serve, Path(text), number)) as link,
    ):
        yield link


def look(window, base, address, text, theme, shots):
    """One page, once it has its data: (ms, long tasks, what is wrong)."""
    window.run(TASKS)
    begin = time.monotonic()
    window.open(f"{base}#/{address}")
    window.wait(address, f"return document.body.innerText.includes({text!r})", 30)
    took_ms = round((time.monotonic() - begin) * 1000)
    time.sleep(2.5)
    tasks = window.run(TASKS)
    if shots:
        window.screenshot(shots / f"{theme}-{''.join(c if c.isalnum() else '-' for c in address)[:60]}.png")
    window.run(AXE.read_text())
    wrong = window.run_later(
        "const done = arguments[arguments.length - 1];"
        "axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']}).then((r) => done("
        "r.violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.html).slice(0, 2).join(' ')}`)))"
    )
    asked = window.run("return performance.getEntriesByType('resource').map((e) => e.name)")
    foreign = [url for url in asked if not url.startswith((base.removesuffix("dashboard/"), "data:"))]
    size = window.run("return document.querySelectorAll('*').length")
    window.run(TASKS)
    return took_ms, tasks, size, [*wrong, *foreign, *window.complaints()]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--shots", type=Path)
    parser.add_argument("--themes", nargs="+", default=["light", "dark"])
    parser.add_argument("--pages", nargs="+", default=list(PAGES))
    asked = parser.parse_args()
    if asked.shots:
        asked.shots.mkdir(parents=True, exist_ok=True)
    with served(asked.services) as (base, token):
        for theme in asked.themes:
            with browser(is_dark=theme == "dark") as window:
                window.open(f"{base}#token={token}")
                window.wait("signed in", "return document.querySelector('.tile') && true", 60)
                for address in asked.pages:
                    seen = look(window, base, address, PAGES[address], theme, asked.shots)
                    ms, tasks, size, wrong = seen
                    print(
                        f"{theme:6}{address[:56]:58}{ms:6} ms  {size:6} elements, long {tasks} {wrong or ''}",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
