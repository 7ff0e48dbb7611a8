"""A Swarm changes its root under load; a sidecar that keeps a cache starts while the control plane is away.

What sidecars hold is asked of themselves (their admin server, in their own network namespace).
"""

import json
import sys
import threading
from contextlib import contextmanager

import pytest

from tests.helpers.mesh import INJECT, Mesh
from tests.helpers.swarm import Task

pytestmark = pytest.mark.docker

CONTROL_PLANE = "mesh-system_control-plane"
HELD = """
import json, sys, urllib.request
print(urllib.request.urlopen("http://127.0.0.1:15000/server_info", timeout=5).read().decode())
"""
KEPT = "kept"
KEEPING = """
version: "3.8"
services:
  caller:
    image: meshpy-shop:dev
    command: [sleep, infinity]
    init: true
    deploy: {labels: {meshpy.ports: "", meshpy.cache: "true"}}
  forgetful:
    image: meshpy-shop:dev
    command: [sleep, infinity]
    init: true
    deploy: {labels: {meshpy.ports: ""}}
  server:
    image: meshpy-shop:dev
    command: [python, -m, http.server, "8080"]
    deploy: {labels: {meshpy.ports: 8080/http}}
"""
BACK_S = 10.0
SLOW_S = 120


def held(mesh: Mesh, task: Task) -> tuple[str, frozenset[str]]:
    """Under which root a sidecar's certificate is, and the roots that it believes in."""
    done = mesh.engine.in_network_of(task, sys.executable, "-c", HELD)
    assert done.code == 0, done.err
    told = json.loads(done.out)
    return told["root"], frozenset(told["roots"])


@contextmanager
def watching(mesh: Mesh, tasks: list[Task]):
    """What each sidecar holds, time and again; the steps that each of them made, in order."""
    steps = {task.id: [held(mesh, task)] for task in tasks}
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.1):
            for task in tasks:
                if (now := held(mesh, task)) != steps[task.id][-1]:
                    steps[task.id].append(now)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield steps
    finally:
        ended.set()
        looking.join()


def test_a_root_is_replaced_under_load_and_waits_for_the_sidecar_that_lags(shop: Mesh):
    """A, A+B, B in every sidecar, and no request fails; while one does not answer the old root stays."""
    engine = shop.engine
    everybody = [task for task in engine.tasks() if task.is_running and task.service.endswith("-sidecar")]
    lagging = shop.sidecar("loadgen")
    others = [task for task in everybody if task.id != lagging.id]
    old = shop.operator.call("GET", "/v1/ca/rotation")["root"]
    with (
        shop.load(shop.app("web"), "GET", "http://api:8080/products", rate=40) as load,
        watching(shop, others) as steps,
    ):
        engine.docker("pause", lagging.container)
        try:
            stopped = shop.run("ca", "rotate", "--wait", "6")
            assert stopped.code != 0
            assert f"default/loadgen/{lagging.id}" in stopped.err
            now = shop.operator.call("GET", "/v1/ca/rotation")
            assert (now["phase"], now["root"]) == ("trusting", old)
        finally:
            engine.docker("unpause", lagging.container)
        assert "done: root" in shop.ok("ca", "rotate", "--wait", "60")
        counted = load.result()
    new = shop.operator.call("GET", "/v1/ca/rotation")["root"]
    print("requests:", counted.counts, "steps of each:", [len(each) for each in steps.values()])
    assert new != old
    assert counted.counts == {"200": counted.total}, counted.failures
    both = frozenset({old, new})
    wanted = [(old, frozenset({old})), (old, both), (new, both), (new, frozenset({new}))]
    assert list(steps.values()) == [wanted] * len(others)
    assert held(shop, lagging) == wanted[-1]
    assert shop.fetch(shop.app("web"), "http://api:8080/products").status == 200


def replaced(mesh: Mesh, service: str) -> Task:
    """Kill a sidecar; the task that the Swarm starts in its place."""
    [old] = mesh.engine.running(service)
    mesh.engine.docker("kill", "--signal", "KILL", old.container)

    def successor() -> list[Task]:
        return [task for task in mesh.engine.alive(service) if task.id != old.id and task.container]

    return mesh.engine.wait(f"another {service}", successor, SLOW_S)[0]


@pytest.fixture
def kept(mesh: Mesh):
    mesh.ok("deploy", *INJECT, "-c", "-", KEPT, stdin=KEEPING)
    engine = mesh.engine
    for name in ("caller", "forgetful"):
        task = engine.task(f"{KEPT}_{name}")
        engine.wait("it is served", lambda task=task: mesh.fetch(task, "http://server:8080/").status == 200)
    yield mesh
    engine.docker("service", "scale", "--detach", f"{CONTROL_PLANE}=1")
    engine.wait_running(CONTROL_PLANE, 1, SLOW_S)
    engine.remove(KEPT)


def test_a_sidecar_that_keeps_a_cache_starts_without_a_control_plane(kept: Mesh):
    """The one with a volume serves again, the one without lets nothing pass and says so; both come back."""
    engine = kept.engine
    engine.docker("service", "scale", "--detach", f"{CONTROL_PLANE}=0")
    engine.wait("the control plane is gone", lambda: not engine.alive(CONTROL_PLANE), SLOW_S)
    new, bare = replaced(kept, f"{KEPT}_caller-sidecar"), replaced(kept, f"{KEPT}_forgetful-sidecar")
    engine.wait("it is healthy", lambda: engine.running(f"{KEPT}_caller-sidecar"), SLOW_S)
    with kept.load(engine.task(f"{KEPT}_caller"), "GET", "http://server:8080/", rate=40) as load:
        engine.wait(
            "the other says what it lacks",
            lambda: "no cache is kept (MESHPY_CACHE)" in engine.run("docker", "logs", bare.container).err,
            SLOW_S,
        )
        assert (
            kept.probe(engine.task(f"{KEPT}_forgetful"), "ports", bare.addresses[f"{KEPT}_forgetful-pod"])
            == []
        )
        engine.docker("service", "scale", "--detach", f"{CONTROL_PLANE}=1")
        engine.wait_running(CONTROL_PLANE, 1, SLOW_S)

        def states() -> dict[str, str]:
            page = kept.operator.call("GET", "/v1/sidecars?limit=1000")
            return {row["task"]: row["state"] for row in page["sidecars"]}

        engine.wait(
            "both are in sync", lambda: {states().get(t.id) for t in (new, bare)} == {"SYNCED"}, BACK_S
        )
        counted = load.result()
    print("requests:", counted.counts)
    assert counted.counts == {"200": counted.total}, counted.failures
    assert "serving by the cache" in engine.run("docker", "logs", new.container).err
