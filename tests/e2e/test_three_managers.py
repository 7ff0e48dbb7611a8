"""Discovery on a Swarm of three managers whose leader is killed: no endpoint is lost, the return is believed.

A Swarm of its own beside the one of the other tests. Discovery reads one of the managers that stay.
"""

import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from control_plane.discovery.docker_client import DockerClient
from control_plane.discovery.swarm import SwarmDiscovery
from meshpy.model.names import ServiceName
from tests.e2e.node import Node, wait_until_answers
from tests.helpers.swarm import Engine

pytestmark = pytest.mark.docker

BACK_S = 30.0
API = ServiceName("three", "api")
SIDECAR = "three_api-sidecar"


@pytest.fixture(scope="module")
def managers(engine: Engine):
    """node-12, the leader, node-13 and node-14: three managers, and two tasks of a service on the latter."""
    state, log = Path(os.environ["MESHPY_E2E_STATE"]), os.environ["MESHPY_E2E_LOG"]
    tarball = state / "three.tar"
    engine.docker("save", "--output", str(tarball), "base:dev", timeout_s=120)
    nodes = [Node(number, state, Path(f"{log}.node-{number}")) for number in (12, 13, 14)]
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
        first.docker("network", "create", "--driver", "overlay", "--internal", "mesh")
        labels = ["com.docker.stack.namespace=three", "meshpy.workload=api", "meshpy.ports=80/http"]
        words = [word for label in labels for word in ("--label", label)]
        create = ["service", "create", "--detach", "--name", SIDECAR, "--replicas", "2", *words]
        create += ["--network", "mesh", "--endpoint-mode", "dnsrr", "--no-resolve-image"]
        create += ["--constraint", "node.hostname!=node-12", "base:dev", "sleep", "infinity"]
        first.docker(*create)
        yield nodes
    finally:
        for node in nodes:
            node.end()


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


async def test_a_killed_leader_costs_no_endpoint_and_the_next_one_is_believed(managers):
    leader, watched, other = managers
    watch = Watch(watched.socket)
    running = asyncio.get_running_loop().create_task(watch.discovery.run(watch.publish))
    try:
        await watch.until(lambda: watch.counts and watch.counts[-1][1] == 2, 60)
        seen = len(watch.counts)
        leader._process.kill()  # the engine itself: SIGKILL
        killed = time.monotonic()
        # The others elect a leader; what is asked for meanwhile fails, or is old.
        scale = ["service", "scale", "--detach", f"{SIDECAR}=3"]
        while True:
            try:
                await asyncio.to_thread(other.docker, *scale, timeout_s=20)
                break
            except RuntimeError:
                assert time.monotonic() - killed < 60
                await asyncio.sleep(0.5)
        back = time.monotonic()
        took = await watch.until(lambda: watch.counts[-1][1] == 3, BACK_S)
        print(
            f"a new leader after {back - killed:.1f} s, believed {took:.1f} s later,"
            f" reported meanwhile: {watch.problems}"
        )
        assert min(count for _, count in watch.counts[seen - 1 :]) == 2
        await watch.until(lambda: not watch.discovery.health.problem, BACK_S)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await watch.client.close()
