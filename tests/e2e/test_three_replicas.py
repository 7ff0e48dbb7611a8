"""Three managers: what they answer fails in every way; a replica of the control plane dies, and the leader.

A Swarm of its own beside the one of the other tests. No endpoint is lost, no request fails, the return is
believed.
"""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import pytest

from tests.e2e.managers import SIDECAR, Watch, kill_leader, three_managers
from tests.e2e.node import OWN_SOCKET
from tests.helpers.docker_engine import listening
from tests.helpers.faulty_engine import InFront
from tests.helpers.mesh import INJECT, Load, Mesh
from tests.helpers.swarm import Engine

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif("MESHPY_E2E_LONG" not in os.environ, reason="three more engines: MESHPY_E2E_LONG=1"),
]

BACK_S, IN_SYNC_S, SLOW_S = 30.0, 10.0, 150.0
IMAGES = ("base:dev", "meshpy-proxy:dev", "meshpy-control-plane:dev", "meshpy-shop:dev")
CONTROL_PLANE = "mesh-system_control-plane"
NUMBERS = (15, 16, 17)
FAULTS = ("gone", "hung", "500", "truncated", "empty", "silent")
STACK = """
version: "3.8"
x-none: &none
  image: meshpy-shop:dev
  command: [sleep, infinity]
  init: true
  deploy: {labels: {meshpy.ports: ""}, placement: {constraints: [node.hostname == node-17]}}
services:
  caller:
    <<: *none
    deploy: {labels: {meshpy.ports: ""}, placement: {constraints: [node.hostname == node-16]}}
  server:
    image: meshpy-shop:dev
    command: [python, -m, http.server, "8080"]
    deploy:
      replicas: 2
      labels: {meshpy.ports: 8080/http}
      placement: {constraints: [node.hostname != node-15]}
  more:
    <<: *none
    deploy:
      replicas: 5
      labels: {meshpy.ports: ""}
      placement: {constraints: [node.hostname != node-15]}
"""
SIDECARS = 8


@pytest.fixture(scope="module")
def managers(engine: Engine):
    """node-15, the leader, node-16 and node-17."""
    subnet = ("--subnet", "10.201.0.0/20")
    with three_managers(engine, NUMBERS, IMAGES, *subnet, socket=OWN_SOCKET) as nodes:
        yield nodes


async def faulty(stack: AsyncExitStack, fault: str, host: str, folder: Path) -> tuple[InFront, Watch]:
    """A discovery that reads a manager by a socket that can fail."""
    front = InFront(host)
    watch = Watch(await stack.enter_async_context(listening(front, folder / f"{fault}.sock")))
    stack.push_async_callback(watch.client.close)
    running = asyncio.get_running_loop().create_task(watch.discovery.run(watch.publish))

    async def end() -> None:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    stack.push_async_callback(end)
    return front, watch


def begin(front: InFront, fault: str, socket: Path) -> None:
    """Have it fail from now on."""
    front.is_silent = fault == "silent"
    front.fault = {"gone": "closed", "silent": ""}.get(fault, fault)
    if fault == "gone":
        socket.rename(socket.with_suffix(".hidden"))


def end(front: InFront, fault: str, socket: Path) -> None:
    """Have it answer again; a stream that is silent stays so."""
    front.fault = ""
    if fault == "gone":
        socket.with_suffix(".hidden").rename(socket)


async def test_managers_that_fail_in_any_way_cost_no_endpoint(managers, tmp_path):
    """Each fault at a manager's socket, while a third task starts: two stay known, the third comes after."""
    async with AsyncExitStack() as stack:
        seen = {
            fault: await faulty(stack, fault, managers[number % 3].socket, tmp_path)
            for number, fault in enumerate(FAULTS)
        }
        for _, watch in seen.values():
            await watch.until(lambda w=watch: w.counts and w.counts[-1][1] == 2, 60)
        before = {fault: len(watch.counts) for fault, (_, watch) in seen.items()}
        for fault, (front, _) in seen.items():
            begin(front, fault, tmp_path / f"{fault}.sock")
        loud = [watch for fault, (_, watch) in seen.items() if fault != "silent"]
        await asyncio.to_thread(managers[0].docker, "service", "scale", "--detach", f"{SIDECAR}=3")
        silent = await seen["silent"][1].until(lambda: seen["silent"][1].counts[-1][1] == 3, BACK_S)
        for watch in loud:
            await watch.until(lambda w=watch: w.discovery.health.problem, BACK_S)
        assert [watch.counts[-1][1] for watch in loud] == [2] * len(loud)
        for fault, (front, _) in seen.items():
            end(front, fault, tmp_path / f"{fault}.sock")
        took = {"silent": silent}
        for fault, (_, watch) in seen.items():
            took[fault] = took.get(fault, 0.0) + await watch.until(
                lambda w=watch: w.counts[-1][1] == 3 and not w.discovery.health.problem, BACK_S
            )
            assert min(count for _, count in watch.counts[before[fault] - 1 :]) == 2, fault
            print(f"{fault}: {took[fault]:.1f} s, reported: {watch.problems}")
    await asyncio.to_thread(managers[0].docker, "service", "scale", "--detach", f"{SIDECAR}=2")


@pytest.fixture(scope="module")
def three(managers, tmp_path_factory):
    """Three replicas of the control plane, and eight sidecars on node-16 and node-17."""
    _, second, third = managers
    engine = Engine(second.socket, Path("/dev/null"))
    engine.further |= {node.name: node.socket for node in (second, third)}
    mesh = Mesh(engine, tmp_path_factory.mktemp("operator"))
    address = ("--address", second.address, "--image", "meshpy-control-plane:dev")
    mesh.ok("install", "--replicas", "3", *address, timeout_s=400)
    mesh.ok("deploy", *INJECT, "-c", "-", "real", stdin=STACK, timeout_s=400)
    ask = (engine.task("real_caller"), "http://server:8080/")
    engine.wait("the caller is served", lambda: mesh.fetch(*ask).status == 200, SLOW_S)
    return mesh


def synced(mesh: Mesh) -> dict[str, str]:
    """Which replica holds the sidecars that decide by the newest, by task."""
    page = mesh.operator.call("GET", "/v1/sidecars?limit=1000&state=SYNCED")
    return {row["task"]: row["replica"] for row in page["sidecars"]}


@contextmanager
def asked(mesh: Mesh) -> Iterator[Load]:
    """The caller asks all the time."""
    with mesh.load(mesh.engine.task("real_caller"), "GET", "http://server:8080/", rate=30) as load:
        yield load


def back_in_sync(mesh: Mesh, since: float, within_s: float) -> float:
    """Wait until all sidecars are in sync; seconds since then."""
    mesh.engine.wait("all sidecars are in sync", lambda: len(synced(mesh)) == SIDECARS, within_s)
    return time.monotonic() - since


def test_a_killed_replica_costs_no_request_and_its_sidecars_go_to_the_others(three: Mesh):
    """Eight streams over three replicas; one dies by SIGKILL: all are in sync with the others in seconds."""
    engine = three.engine
    engine.wait("all are in sync", lambda: len(synced(three)) == SIDECARS, SLOW_S)
    spread = Counter(synced(three).values())
    assert max(spread.values()) < SIDECARS, "all asked the same replica"  # by chance once in 2,187 runs
    [victim] = [task for task in engine.running(CONTROL_PLANE) if task.node == "node-17"]
    with asked(three) as load:
        time.sleep(1)
        engine.run(*engine.docker_at(victim), "kill", "--signal", "KILL", victim.container)
        took = back_in_sync(three, time.monotonic(), IN_SYNC_S)
        time.sleep(2)
        counted = load.result()
    after = Counter(synced(three).values())
    print(f"{dict(spread)}, then {dict(after)} after {took:.1f} s; requests: {counted.counts}")
    assert counted.counts == {"200": counted.total}, counted.failures


async def test_a_killed_leader_costs_no_endpoint_and_no_request_and_the_next_one_is_believed(
    three, managers, tmp_path
):
    """The engine of the leader's node dies: two answer, the others elect, and eight sidecars are in sync."""
    leader, watched, other = managers
    async with AsyncExitStack() as stack:
        _, watch = await faulty(stack, "none", watched.socket, tmp_path)
        load = stack.enter_context(asked(three))
        await watch.until(lambda: watch.counts and watch.counts[-1][1] == 2, 60)
        seen = len(watch.counts)
        elected = await kill_leader(leader, other)
        back = time.monotonic()
        took = await watch.until(lambda: watch.counts[-1][1] == 3, BACK_S)
        in_sync = await asyncio.to_thread(back_in_sync, three, back, BACK_S)
        counted = await asyncio.to_thread(load.result)
        print(
            f"a new leader after {elected:.1f} s, believed {took:.1f} s later,"
            f" reported meanwhile: {watch.problems}; all in sync {in_sync:.1f} s after; {counted.counts}"
        )
        assert min(count for _, count in watch.counts[seen - 1 :]) == 2
        assert counted.counts == {"200": counted.total}, counted.failures
        await watch.until(lambda: not watch.discovery.health.problem, BACK_S)
