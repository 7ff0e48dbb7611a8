"""Does the control plane's cost grow with the mesh, or with what changed? `-m tests.bench.scale_control`.

Discovery, store, registry, compiler and distribution in this process; the engine's lists are in memory, and
so are the streams (a descriptor each would end at the system's limit): a sidecar here takes a frame, reads
the version out of it and acknowledges. `--services 10,100,1000` with 10 tasks each are 100 to 10,000 streams.
Stacks of ten services share a network; the first of each is on `shared` too.
"""

import asyncio
import gc
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import uvloop

from control_plane.discovery.docker_json import Answers
from control_plane.discovery.swarm import SwarmDiscovery
from control_plane.distribution import Distribution, Trust
from control_plane.language import MeshLanguage
from control_plane.registry import Change, Registry
from control_plane.reports import Reports
from control_plane.store.sqlite import SqliteStore
from control_plane.streams import Stream
from meshpy.model.names import ServiceName
from tests.bench.processes import rss_mib

TASKS, PER_STACK = 10, 10
POLICY = """\
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: %s, namespace: stack0}
spec:
  selector: app == 's1'
  types: [Ingress]
  ingress: [{action: Allow, source: {selector: "app == 's2'"}}]
"""


class Swarm:
    """A manager's lists in memory, changed by the bench, and its event stream."""

    def __init__(self, services):
        self.names = [
            ServiceName(f"stack{number // PER_STACK}", f"s{number % PER_STACK}") for number in range(services)
        ]
        self.networks = [{"Id": "n-mesh", "Name": "mesh"}, {"Id": "n-shared", "Name": "shared"}]
        self.nodes = [{"ID": f"n{i}", "Description": {"Hostname": f"node-{i}"}} for i in range(10)]
        self.services, self.tasks_ = [], {}
        for name in self.names:
            self.add(name)
        self.changed = lambda: None

    def add(self, name):
        index = len(self.services)
        shared = ",shared" if name.name == "s0" or index < 2 else ""
        labels = {
            "com.docker.stack.namespace": name.namespace,
            "meshpy.workload": name.name,
            "meshpy.ports": "8080/http",
            "meshpy.networks": f"{name.namespace}_default{shared}",
            "meshpy.pod": f"{name.namespace}_{name.name}-pod",
        }
        spec = {"Name": f"{name.namespace}_{name.name}-sidecar", "Labels": labels}
        spec["TaskTemplate"] = {"ContainerSpec": {"Image": "x", "Env": ["A=b"] * 10}, "Networks": []}
        self.services.append({"ID": f"id-{index}", "Spec": spec})
        for slot in range(TASKS):
            self.set_task(index, slot, f"10.{index >> 8}.{index & 255}.{slot + 1}")

    def set_task(self, index, slot, address):
        self.tasks_[index, slot] = {
            "ID": f"t-{index}-{slot}",
            "ServiceID": f"id-{index}",
            "NodeID": f"n{slot}",
            "Slot": slot + 1,
            "DesiredState": "running",
            "Status": {"State": "running"},
            "NetworksAttachments": [{"Network": {"Spec": {"Name": "mesh"}}, "Addresses": [f"{address}/20"]}],
        }

    @property
    def answers(self):
        return Answers(self.services, list(self.tasks_.values()), self.nodes, self.networks)

    async def everything(self):
        return self.answers

    async def tasks(self):
        return list(self.tasks_.values())

    async def watch(self, changed):
        self.changed = changed
        await asyncio.Event().wait()


class Sidecar:
    """One end of an in-memory stream: acknowledges what it is sent."""

    def __init__(self, bench, service, task):
        self.bench, self.service, self.task = bench, service, task
        self.incoming = asyncio.Queue()
        hello = {"type": "hello", "held": "", "task": task, "node": "n"}
        self.incoming.put_nowait(json.dumps(hello))

    async def frames(self):
        while True:
            yield await self.incoming.get()

    async def send(self, text):
        if text.startswith('{"type":"snapshot"'):
            at = text.index('"version":"') + 11
            version = text[at : text.index('"', at)]
            self.incoming.put_nowait(f'{{"type":"ack","version":"{version}"}}')
            self.bench.pushes += 1
            self.bench.bytes += len(text)
            self.bench.last = time.perf_counter()


class Bench:
    """A control plane with its whole mesh."""

    def __init__(self, services):
        self.swarm = Swarm(services)
        self.pushes = self.bytes = 0
        self.last = 0.0

    async def start(self, folder, group):
        self.store = SqliteStore(Path(folder) / "revisions.sqlite")
        self.registry = Registry(self.store, MeshLanguage("cluster.local"))
        trust = Trust(id="roots", pem="pem", issuer="")
        self.distribution = Distribution(self.registry.shelf, Reports(), lambda: trust)
        self.registry.notify = self.distribution.notify
        await self.registry.start()
        self.discovery = SwarmDiscovery(self.swarm, poll_s=3600, relist_s=3600)
        self.running = [
            group.create_task(self.registry.run()),
            group.create_task(self.discovery.run(self.registry.set_view)),
        ]
        begin = time.perf_counter()
        while not self.registry.is_ready:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        self.first_compile_s = time.perf_counter() - begin
        gc.collect()
        before = rss_mib(os.getpid())
        end = datetime.now(UTC) + timedelta(hours=1)
        for name in self.swarm.names:
            for slot in range(TASKS):
                stream = Stream(name, "10.0.0.1", end)
                sidecar = Sidecar(self, name, f"{name}.{slot}")
                self.running.append(group.create_task(self.distribution.serve(stream, sidecar)))
        await self.synced()
        gc.collect()
        self.stream_kib = (rss_mib(os.getpid()) - before) * 1024 / (len(self.swarm.names) * TASKS)

    async def synced(self):
        """Until nothing is on its way; the moment of the last acknowledgement is that of the last push."""
        while True:
            pushes = self.pushes
            await asyncio.sleep(0.3)
            if pushes == self.pushes:
                return

    async def measured(self, change, is_done):
        """(ms from the change to the last acknowledgement, CPU ms, pushes, bytes) of one change."""
        self.pushes = self.bytes = 0
        cpu, begin = time.process_time(), time.perf_counter()
        await change()
        while not is_done():  # noqa: ASYNC110
            await asyncio.sleep(0.002)
        while self.pushes != (await self._settled()):
            pass
        return (self.last - begin) * 1000, (time.process_time() - cpu) * 1000, self.pushes, self.bytes

    async def _settled(self):
        before = self.pushes
        await asyncio.sleep(0.15)
        return before

    async def task_changes(self, rounds):
        """A task comes back at another address; services that share a network with it are told."""
        found = []
        for number in range(rounds):
            index = 4 + PER_STACK * (number % max(1, len(self.swarm.names) // PER_STACK))
            index = min(index, len(self.swarm.names) - 1)

            async def change(index=index, number=number):
                self.swarm.set_task(index, 3, f"10.200.{number}.9")
                self.swarm.changed()

            found.append(await self.measured(change, lambda: self.pushes > 0))
        return found

    async def policy_changes(self, rounds):
        """A policy of one service of one stack is set: it decides otherwise, all have a new revision."""
        found = []
        for number in range(rounds):
            incoming = await self.registry.read(_documents(POLICY % f"p{number}"))

            async def change(incoming=incoming):
                await self.registry.change(Change(lambda _held: incoming, "bench"))

            done = self.registry.revision.number + 1
            found.append(await self.measured(change, lambda done=done: not self.distribution.behind(done)))
        return found

    async def deployments(self, rounds):
        """A stack of ten services with ten tasks each is deployed; nobody else shares its network."""
        found = []
        for number in range(rounds):
            names = [ServiceName(f"new{number}", f"s{each}") for each in range(1, PER_STACK + 1)]

            async def change(names=names):
                for name in names:
                    self.swarm.add(name)
                self.swarm.changed()

            found.append(
                await self.measured(change, lambda names=names: set(names) <= self.registry.services)
            )
        return {"cpu_ms": _row(found)["cpu_ms"]}

    async def relist(self, rounds):
        """CPU ms of a full re-list that found nothing new: the JSON of it, and all that is done with it."""
        text = json.dumps([self.swarm.services, list(self.swarm.tasks_.values())])
        found = []
        for _ in range(rounds):
            begin = time.process_time()
            json.loads(text)
            parsed = time.process_time()
            await self.discovery._read_everything()
            found.append((parsed - begin, time.process_time() - parsed))
        return [1000 * statistics.median(column) for column in zip(*found, strict=True)]


def _documents(text):
    from control_plane.store.revisions import Document

    return [Document("p.yaml", text)]


def _row(found):
    ms = sorted(each[0] for each in found)
    return {
        "p50_ms": round(statistics.median(ms), 1),
        "p99_ms": round(ms[min(len(ms) - 1, int(len(ms) * 0.99))], 1),
        "cpu_ms": round(statistics.median(each[1] for each in found), 1),
        "pushes": round(statistics.median(each[2] for each in found)),
        "bytes": round(statistics.median(each[3] for each in found)),
    }


async def measure(services, rounds):
    """Everything, for a mesh of so many services."""
    with tempfile.TemporaryDirectory() as folder:
        async with asyncio.TaskGroup() as group:
            bench = Bench(services)
            await bench.start(folder, group)
            result = {
                "services": services,
                "streams": services * TASKS,
                "first_compile_s": round(bench.first_compile_s, 2),
                "kib_per_stream": round(bench.stream_kib, 1),
                "rss_mib": round(rss_mib(os.getpid())),
                "task": _row(await bench.task_changes(rounds)),
                "policy": _row(await bench.policy_changes(max(2, rounds // 4))),
            }
            result["deployment"] = await bench.deployments(max(2, rounds // 4))
            parse, work = await bench.relist(3)
            result["relist_ms"] = {"json": round(parse, 1), "work": round(work, 1)}
            for task in bench.running:
                task.cancel()
        await bench.store.close()
    return result


def main():
    logging.disable(logging.WARNING)
    words = sys.argv[1:]
    sizes = words[words.index("--services") + 1] if "--services" in words else "10,100,1000"
    rounds = int(words[words.index("--rounds") + 1]) if "--rounds" in words else 20
    for services in map(int, sizes.split(",")):
        print(json.dumps(uvloop.run(measure(services, rounds))), flush=True)


if __name__ == "__main__":
    main()
