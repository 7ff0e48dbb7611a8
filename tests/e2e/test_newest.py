"""On the newest engine that can be had: one application before and within the mesh, and a sidecar's cost.

Run by `make e2e-newest`; the whole of the e2e runs on the machine's own engine.
"""

import json
import os
import re
import time
from datetime import datetime

import pytest

from tests.helpers.mesh import INJECT, Mesh
from tests.helpers.stacks import on_this_kernel
from tests.helpers.swarm import EngineError, Task

pytestmark = [
    pytest.mark.docker,
    pytest.mark.skipif("MESHPY_E2E_ENGINE" not in os.environ, reason="make e2e-newest runs it"),
]

STACK = "newest"
FILE = """
version: "3.8"
services:
  caller:
    image: meshpy-shop:dev
    command: [sleep, infinity]
    init: true
    deploy: {labels: {meshpy.ports: ""}}
  api:
    image: meshpy-shop:dev
    command: [python, -m, meshpy.demo.shop, api]
    environment: {CATALOG_URL: "http://api:8080", REDIS: "redis:6379"}
    deploy: {labels: {meshpy.ports: 8080/http}}
  redis:
    image: redis:7
    command: [redis-server, --save, ""]
"""
LARGE = (
    "services:\n"
    + "".join(
        f"  s{number}:\n    image: acme/s{number}\n    networks: [n{number % 4}]\n"
        f"    environment: {{UPSTREAM: 'http://s{(number + 4) % 34}:8080', DB: 'postgres://s{number}:5432/a'}}\n"
        f"    deploy: {{labels: {{meshpy.ports: 8080/http}}}}\n"
        for number in range(34)
    )
    + "networks: {n0: {}, n1: {}, n2: {}, n3: {}}\n"
)
REACH = "import socket, sys; socket.create_connection((sys.argv[1], 8080), 3); print('open')"


def moment(text: str) -> float:
    """Docker's, with nanoseconds."""
    second, fraction = re.match(r"(.{19})(\.\d+)?", text).groups()
    return datetime.fromisoformat(second).timestamp() + float(fraction or 0)


def costs(mesh: Mesh, sidecar: Task) -> list[str]:
    """The engine's version, and what a sidecar takes on it."""
    docker = mesh.engine.docker
    state = json.loads(docker("inspect", "--format", "{{json .State}}", sidecar.container))
    healthy = next(each["End"] for each in state["Health"]["Log"] if each["ExitCode"] == 0)
    begun_s = moment(healthy) - moment(state["StartedAt"])
    memory = docker("stats", "--no-stream", "--format", "{{.MemUsage}}", sidecar.container).strip()
    names = ("meshpy-proxy:dev", "base:dev")
    own, base = (
        int(each) / 1e6 for each in docker("image", "inspect", "--format", "{{.Size}}", *names).split()
    )
    return [
        f"engine {docker('version', '--format', '{{.Server.Version}}').strip()}",
        f"a sidecar is healthy {begun_s:.1f} s after its start and takes {memory}",
        f"its image: {own:.0f} MB, of which Debian with Python is {base:.0f} MB",
    ]


def test_an_application_works_before_and_within_the_mesh(mesh: Mesh):
    """Orders go through two hops, HTTP and Redis, all of it mTLS; past the sidecar there is no way."""
    engine = mesh.engine
    order = ("http://api:8080/orders", "POST")
    engine.deploy(STACK, on_this_kernel(FILE))
    engine.wait_stack(STACK)
    caller, api = engine.task(f"{STACK}_caller"), engine.task(f"{STACK}_api")

    def is_served() -> bool:
        try:
            return mesh.fetch(caller, *order, body='{"id": 1}').status == 201
        except EngineError:
            return False  # it does not listen yet

    engine.wait("it is served", is_served, 40)
    direct = api.addresses[f"{STACK}_default"]
    assert engine.python(caller, REACH, direct).out.strip() == "open"
    mesh.ok("deploy", *INJECT, "-c", "-", STACK, stdin=FILE)
    try:
        caller = engine.task(f"{STACK}_caller")
        assert mesh.fetch(caller, *order, body='{"id": 2}').status == 201
        with mesh.load(caller, "POST", order[0], '{"id": 3}', rate=20) as load:
            time.sleep(3)
            counted = load.result()
        assert counted.counts == {"201": counted.total}, counted.failures
        api = engine.task(f"{STACK}_api")
        assert engine.python(caller, REACH, api.addresses[f"{STACK}_api-pod"]).code != 0

        def shares() -> set[float]:
            inside = [each for each in mesh.status()["edges"] if each["source"].startswith(f"{STACK}/")]
            return {each["mtls_ratio"] for each in inside} if len(inside) >= 2 else set()

        assert engine.wait("both hops are counted", shares, 20) == {1.0}
        print(counted.counts, *costs(mesh, engine.task(f"{STACK}_api-sidecar")), sep="\n")
    finally:
        engine.remove(STACK)


def test_a_stack_of_34_services_is_injected(mesh: Mesh):
    """The command as a person runs it, interpreter included."""
    begun = time.monotonic()
    done = mesh.run("inject", *INJECT, "--stack", "large", "-", stdin=LARGE)
    print(f"34 services injected in {time.monotonic() - begun:.2f} s")
    assert done.code == 0, done.err
    assert done.out.count("meshpy.workload:") == 34
