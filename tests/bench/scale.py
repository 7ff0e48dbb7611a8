"""Does cost grow with the mesh? `python -m tests.bench.scale [--quick]`.

A small snapshot against one with 1,000 routes, 500 upstream hosts and 5,000 endpoints: CPU per request in
this process (see `inproc`); how long the loop stands still when the large one is replaced; memory of idle
connections to a real sidecar; what 100,000 Hosts leave behind in the metrics.
"""

import asyncio
import contextlib
import gc
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import uvloop

from meshpy.model.authz import Authorization
from meshpy.model.endpoint import Cluster, Endpoint, Protocol, Transport
from meshpy.model.match import Prefix, RequestMatch
from meshpy.model.names import ServiceName
from meshpy.model.route import Destination, Forward, RouteRule, VirtualHost
from meshpy.model.snapshot import OutboundListener, Snapshot, Workload
from proxy.access_log import AccessLog
from proxy.app import calm_interpreter
from proxy.series import prometheus_text
from tests.bench import meshpy_side
from tests.bench.inproc import Road, sidecar_of
from tests.bench.load import get
from tests.bench.processes import Processes, rss_mib
from tests.bench.world import make_world
from tests.helpers.ports import free_port

ROUTES, HOSTS, ENDPOINTS = 1_000, 500, 5_000
LISTEN = free_port()


def snapshot(hosts, routes, endpoints, version):
    """One HTTP listener for `hosts` virtual hosts that share `routes` rules and `endpoints` endpoints.

    The last host has half of the rules.
    """
    clusters, virtual_hosts = {}, []
    for number in range(hosts):
        service = ServiceName("bench", f"s{number}")
        name = f"outbound|80||s{number}.bench"
        ends = tuple(
            Endpoint(f"10.{number >> 8}.{number & 255}.{each + 1}", 80, service)
            for each in range(endpoints // hosts)
        )
        clusters[name] = Cluster(name, Protocol.HTTP, Transport.MTLS, ends)
        to = Forward((Destination(name, host=f"s{number}", services=(service,)),))
        rules = [
            RouteRule(to, matches=(RequestMatch(path=Prefix(f"/v{version}/r{each}/")),), name=f"r{each}")
            for each in range(routes // 2 if number == hosts - 1 else routes // 2 // hosts)
        ]
        virtual_hosts.append(VirtualHost(f"s{number}.bench", (f"s{number}",), (*rules, RouteRule(to))))
    listener = OutboundListener("127.0.0.1", LISTEN, Protocol.HTTP, tuple(virtual_hosts))
    workload = Workload(ServiceName("bench", "caller"), "cluster.local")
    return Snapshot(f"v{version}", version, workload, Authorization(), (), (listener,), clusters)


def big(version=1):
    return snapshot(HOSTS, ROUTES, ENDPOINTS, version)


def moved(made):
    """The same with every endpoint at another port."""
    ends = {
        name: tuple(replace(each, port=80 + made.revision) for each in cluster.endpoints)
        for name, cluster in made.clusters.items()
    }
    changed = {name: replace(each, endpoints=ends[name]) for name, each in made.clusters.items()}
    return replace(made, clusters=changed)


async def cost(seconds):
    """Nanoseconds per request with the small and with the large snapshot, the last host and route asked."""
    found = {}
    for name, made, host in (("small", snapshot(1, 6, 1, 1), "s0"), ("large", big(), f"s{HOSTS - 1}")):
        sidecar = await sidecar_of(made, AccessLog(os.open(os.devnull, os.O_WRONLY)))
        door = sidecar.listeners.doors.for_app(("127.0.0.1", LISTEN))
        cluster = f"outbound|80||{host}.bench"
        road = Road(sidecar, door, cluster, get(host, "/api/v1/items?page=2"))
        # Every try takes this host: it is the one with a connection.
        upstream = sidecar.clusters.live[cluster]
        upstream.hosts = upstream.hosts[:1]
        road.check()
        gc.collect()
        gc.freeze()
        found[name] = road.ns(seconds)
        await sidecar.close()
    return found


async def swaps(rounds):
    """Milliseconds for which the loop stood still while snapshots of the large size took each other's place.

    Every cluster has other endpoints in each. `work` is the longest turn by the loop's own CPU time.
    `alone` is the same loop with nothing to do, as long: what the machine takes from everybody.
    """
    sidecar = await sidecar_of(big(1), AccessLog(-1))
    calm_interpreter()
    longest, whole, alone, work = [], [], [], []
    for version in range(2, rounds + 2):
        made = moved(big(version))
        gc.collect()
        stop = asyncio.Event()
        ticks, cpu = [time.perf_counter()], [time.thread_time()]

        async def tick(stop=stop, ticks=ticks, cpu=cpu):
            while not stop.is_set():
                ticks.append(time.perf_counter())
                cpu.append(time.thread_time())
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as group:
            group.create_task(tick())
            await asyncio.sleep(0)
            began = time.perf_counter()
            await sidecar.apply(made)
            whole.append((time.perf_counter() - began) * 1000)
            await asyncio.sleep(0)
            stop.set()
        ticks.append(time.perf_counter())
        cpu.append(time.thread_time())
        longest.append(max(b - a for a, b in pairwise(ticks)) * 1000)
        work.append(max(b - a for a, b in pairwise(cpu)) * 1000)
        alone.append(await _longest_tick(whole[-1] / 1000))
    await sidecar.close()
    return {
        "stall_ms": statistics.median(longest),
        "worst_ms": max(longest),
        "work_ms": max(work),
        "alone_ms": statistics.median(alone),
        "apply_ms": statistics.median(whole),
    }


async def _longest_tick(seconds):
    last = time.perf_counter()
    end, longest = last + seconds, 0.0
    while last < end:
        await asyncio.sleep(0)
        now = time.perf_counter()
        longest, last = max(longest, now - last), now
    return longest * 1000


async def _hold(port, count, tls=None, server_name=None):
    loop = asyncio.get_running_loop()
    transports = []
    for start in range(0, count, 50):
        made = await asyncio.gather(
            *(
                loop.create_connection(
                    asyncio.Protocol,
                    "127.0.0.1",
                    port,
                    ssl=tls,
                    server_hostname=server_name,
                    ssl_handshake_timeout=60 if tls else None,
                )
                for _ in range(min(50, count - start))
            )
        )
        transports += [transport for transport, _ in made]
    await asyncio.sleep(0.5)
    return transports


def idle(count, tls_count):
    """KiB of the sidecar's memory per idle connection, in plaintext and over mTLS.

    Two fifths of its descriptors are what a process accepts on (proxy/net/listener.py): where the machine
    allows fewer than that takes, workers share the connections.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(hard, count * 3)
    workers = -(-count * 5 // 2 // (wanted - 200))
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    with tempfile.TemporaryDirectory() as folder:
        processes = Processes(Path(folder))
        try:
            world = make_world(processes)
            ways, server_name = meshpy_side.start(world, workers)
            pid = ways["plain"].pids[0]
            found = {}
            for name, way, number, tls in (
                ("plain", "plain", count, None),
                ("mtls", "mtls_in", tls_count, world.client_tls()),
            ):
                before = rss_mib(pid)

                async def run(way=way, number=number, tls=tls, before=before):
                    transports = await _hold(ways[way].port, number, tls, server_name if tls else None)
                    grown = rss_mib(pid) - before
                    for transport in transports:
                        transport.abort()
                    await asyncio.sleep(0.3)
                    return {
                        "connections": len(transports),
                        "kib_each": round(grown * 1024 / number, 1),
                        "workers": workers,
                    }

                found[name] = uvloop.run(run())
        finally:
            processes.stop()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return found


async def cardinality(hosts):
    """Lines and bytes of the metrics after requests that each named another Host, and another path."""
    port = free_port()
    sidecar = await sidecar_of(meshpy_side.callee(9, port, 9, free_port()), AccessLog(-1))
    road = Road(sidecar, sidecar.listeners.doors.for_edge(port), f"inbound|{port}||")
    road.check()
    before = len(prometheus_text(sidecar.telemetry).splitlines())
    for number in range(hosts):
        road.request = get(f"h{number}.example", f"/api/{number}")
        road.once()
    text = prometheus_text(sidecar.telemetry)
    await sidecar.close()
    return {"hosts": hosts, "lines_before": before, "lines": len(text.splitlines()), "bytes": len(text)}


def measure(*, quick):
    """Everything, as numbers."""
    costs = uvloop.run(cost(1.0 if quick else 3.0))
    with contextlib.suppress(ValueError):
        gc.unfreeze()
    return {
        "cost_ns": {name: round(value) for name, value in costs.items()},
        "cost_ratio": round(costs["large"] / costs["small"], 2),
        "swap": {k: round(v, 1) for k, v in uvloop.run(swaps(3 if quick else 8)).items()},
        "idle": idle(2_000 if quick else 10_000, 200 if quick else 10_000),
        "cardinality": uvloop.run(cardinality(10_000 if quick else 100_000)),
    }


def show(found):
    """Print them."""
    cost_ns, swap, card, ratio = found["cost_ns"], found["swap"], found["cardinality"], found["cost_ratio"]
    small, large = cost_ns["small"], cost_ns["large"]
    others = f"worst {swap['worst_ms']}; as long with nothing to do {swap['alone_ms']}"
    lines = f"{card['lines_before']} → {card['lines']} lines of metrics, {card['bytes']} bytes"
    print(f"\nscale: {ROUTES} routes, {HOSTS} upstream hosts, {ENDPOINTS} endpoints")
    print(f"  a request's own work    {small} ns small, {large} ns large: × {ratio}  (≤ 1.3)")
    print(f"  snapshot swap           {swap['apply_ms']} ms; the loop stands still for {swap['stall_ms']} ms")
    print(f"                          (< 5; {others}; the longest turn took {swap['work_ms']} of CPU)")
    for name, row in found["idle"].items():
        held = f"{row['connections']} {name}, {row['kib_each']} KiB each"
        print(f"  idle connections        {held} ({row['workers']} workers)")
    print(f"  {card['hosts']} Hosts seen{'':8}{lines}")


if __name__ == "__main__":
    result = measure(quick="--quick" in sys.argv)
    show(result)
    if "--json" in sys.argv:
        print(json.dumps(result))
