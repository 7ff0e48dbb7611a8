"""Three managers in a Swarm of their own beside the one of the other tests, and discovery that reads one."""

import asyncio
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from control_plane.discovery.docker_client import DockerClient
from control_plane.discovery.swarm import SwarmDiscovery
from meshpy.model.names import ServiceName
from tests.e2e.node import Node, wait_until_answers
from tests.helpers.swarm import Engine

__all__ = ["API", "SIDECAR", "Watch", "kill_leader", "three_managers"]

API = ServiceName("three", "api")
SIDECAR = "three_api-sidecar"
ELECTED_S = 120.0  # an election takes 10 to 20 s; an undecided one begins anew


@contextmanager
def three_managers(
    engine: Engine, numbers: Sequence[int], images: Sequence[str], *mesh: str, socket: str | None = None
) -> Iterator[list[Node]]:
    """The leader and two more, and two tasks of SIDECAR on the latter.

    Args:
        images: what every node has.
        mesh: further words of `docker network create`.
        socket: of each engine; None: one outside of its node.
    """
    state, log = Path(os.environ["MESHPY_E2E_STATE"]), os.environ["MESHPY_E2E_LOG"]
    tarball = state / f"managers-{numbers[0]}.tar"
    engine.docker("save", "--output", str(tarball), *images, timeout_s=300)
    where = () if socket is None else (socket,)
    nodes = [Node(number, state, Path(f"{log}.node-{number}"), *where) for number in numbers]
    try:

        def load(node: Node) -> None:
            wait_until_answers(node._process, node.socket)
            node.docker("load", "--quiet", "--input", str(tarball))

        with ThreadPoolExecutor() as pool:
            list(pool.map(load, nodes))
        tarball.unlink()
        first = nodes[0]
        first.docker("swarm", "init", "--advertise-addr", first.address)
        token = first.docker("swarm", "join-token", "--quiet", "manager").strip()
        for node in nodes[1:]:
            target = f"{first.address}:2377"
            node.docker("swarm", "join", "--token", token, "--advertise-addr", node.address, target)
        first.docker("network", "create", "--driver", "overlay", "--internal", *mesh, "mesh")
        labels = ["com.docker.stack.namespace=three", "meshpy.workload=api", "meshpy.ports=80/http"]
        words = [word for label in labels for word in ("--label", label)]
        create = ["service", "create", "--detach", "--name", SIDECAR, "--replicas", "2", *words]
        create += ["--network", "mesh", "--endpoint-mode", "dnsrr", "--no-resolve-image"]
        create += ["--constraint", f"node.hostname!=node-{numbers[0]}", "base:dev", "sleep", "infinity"]
        first.docker(*create)
        yield nodes
    finally:
        for node in nodes:
            node.end()


async def kill_leader(leader: Node, other: Node) -> float:
    """Kill the leader's engine, and have a third task of SIDECAR from the next one.

    Returns:
        Seconds until there was a next one.
    """
    leader._process.kill()
    killed = time.monotonic()
    while True:  # what is asked for before fails, or hangs
        try:
            await asyncio.to_thread(
                other.docker, "service", "scale", "--detach", f"{SIDECAR}=3", timeout_s=20
            )
        except (RuntimeError, subprocess.TimeoutExpired):
            if time.monotonic() - killed > ELECTED_S:
                raise
            await asyncio.sleep(0.5)
        else:
            return time.monotonic() - killed


class Watch:
    """Real discovery on one engine, and every view that it published."""

    def __init__(self, host: str) -> None:
        self.client = DockerClient(host)
        self.discovery = SwarmDiscovery(self.client)
        self.counts: list[tuple[float, int]] = []
        self.problems: list[str] = []

    def publish(self, view) -> None:
        service = view.inventory.services.get(API)
        self.counts.append((time.monotonic(), len(service.endpoints) if service else 0))

    async def until(self, is_so, within_s: float) -> float:
        begun = time.monotonic()
        async with asyncio.timeout(within_s):
            while not is_so():
                if (problem := self.discovery.health.problem) and problem not in self.problems:
                    self.problems.append(problem)
                await asyncio.sleep(0.1)
        return time.monotonic() - begun
