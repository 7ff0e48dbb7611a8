"""The sidecar's own work for a request, without kernel, loop and TLS: nanoseconds in this process.

A real Sidecar with a real snapshot; only the transports at both ends are stand-ins that take bytes. What is
left is the interpreter's and ours, so small differences show that a loaded machine hides otherwise.

`python -m tests.bench.inproc [--profile] [SECONDS]`
"""

import gc
import os
import sys
import time

import uvloop

from certs.identity import Identity
from proxy.access_log import AccessLog
from proxy.net.addresses import Addresses
from proxy.net.connection import UpstreamConnection
from proxy.sidecar import Sidecar
from tests.bench import meshpy_side
from tests.bench.load import get
from tests.helpers.pki import mesh_pki
from tests.helpers.ports import free_port

_BATCH = 100
"""Short enough to fall whole into a moment in which nobody else is on the CPU."""
RESPONSE = (
    b"HTTP/1.1 200 OK\r\nDate: Tue, 24 Nov 2026 04:00:00 GMT\r\nServer: app\r\n"
    b"Content-Type: application/json\r\nContent-Length: 1024\r\n\r\n" + b"x" * 1024
)


class Wire:
    """A transport that takes what is written."""

    def __init__(self, peer=("127.0.0.1", 40000), local=("127.0.0.1", 8080)):
        self.sent = b""
        self.extra = {"peername": peer, "sockname": local}

    def get_extra_info(self, name, default=None):
        return self.extra.get(name, default)

    def write(self, data):
        self.sent = data

    def set_write_buffer_limits(self, high=None, low=None):
        pass

    def get_write_buffer_size(self):
        return 0

    def is_closing(self):
        return False

    def pause_reading(self):
        pass

    resume_reading = close = abort = pause_reading

    def can_write_eof(self):
        return True


class Road:
    """One accepted connection and one pooled upstream connection of a sidecar."""

    def __init__(self, sidecar, factory, cluster, request=None, response=RESPONSE):
        self.down = factory()
        self.client, self.server = Wire(), Wire()
        self.down.connection_made(self.client)
        host = sidecar.clusters.live[cluster].hosts[0]
        self.upstream = UpstreamConnection(host, sidecar.loop)
        self.upstream.connection_made(self.server)
        host.open.add(self.upstream)
        host.upstream.connections += 1
        host.offer(self.upstream)
        self.request = request or get("backend")
        self.response = response

    def once(self):
        self.down.data_received(self.request)
        self.upstream.data_received(self.response)

    def check(self):
        """Prove that a request goes through, both ways."""
        self.client.sent = self.server.sent = b""
        self.once()
        assert self.server.sent.startswith(self.request[:12]), self.server.sent
        assert self.client.sent.startswith(b"HTTP/1.1 200"), self.client.sent

    def ns(self, seconds):
        """Nanoseconds of CPU per request: the best of some batches."""
        once, best = self.once, float("inf")
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            before = time.process_time_ns()
            for _ in range(_BATCH):
                once()
            best = min(best, (time.process_time_ns() - before) / _BATCH)
        return best


async def sidecar_of(snapshot, log):
    """A sidecar with a snapshot in force; it listens on loopback, and nobody calls."""
    made = Sidecar(
        access_log=log,
        addresses=Addresses({"edge": ("127.0.0.1",)}),
        mesh_bind=("127.0.0.1", free_port()),
    )
    pki = mesh_pki("cluster.local")
    identity: Identity = pki.identity(snapshot.workload.name.namespace, snapshot.workload.name.name)
    await made.set_identity(identity, pki.bundle)
    await made.apply(snapshot)
    return made


async def inbound_road(log, change=lambda snapshot: snapshot):
    """The callee's side: rules, log, metrics, trace context."""
    port = free_port()
    sidecar = await sidecar_of(change(meshpy_side.callee(9, port, 9, free_port())), log)
    return sidecar, Road(sidecar, sidecar.listeners.doors.for_edge(port), f"inbound|{port}||")


async def outbound_road(log, change=lambda snapshot: snapshot):
    """The caller's side: routes, egress, log, metrics, trace context."""
    port, opaque = free_port(), free_port()
    sidecar = await sidecar_of(change(meshpy_side.caller([(port, 9, 80)], (opaque, 9))), log)
    name = f"outbound|80|{port}|backend.bench"
    return sidecar, Road(sidecar, sidecar.listeners.doors.for_app(("127.0.0.1", port)), name)


async def main():
    seconds = float(sys.argv[-1]) if sys.argv[-1].replace(".", "").isdecimal() else 1.0
    for name, make in (("inbound", inbound_road), ("outbound", outbound_road)):
        sidecar, road = await make(AccessLog(os.open(os.devnull, os.O_WRONLY)))
        road.check()
        gc.collect()
        gc.freeze()
        if "--profile" in sys.argv:
            import cProfile
            import pstats

            profile = cProfile.Profile()
            profile.enable()
            for _ in range(20_000):
                road.once()
            profile.disable()
            pstats.Stats(profile).sort_stats("tottime").print_stats(45)
        print(f"{name:10}{road.ns(seconds) / 1000:8.2f} µs per request")
        await sidecar.close()


if __name__ == "__main__":
    uvloop.run(main())
