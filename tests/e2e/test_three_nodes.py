"""A Swarm of three nodes: calls between them and their wire, updates, a node drained, a node lost."""

import json
import time

import pytest

from tests.e2e.node import Node
from tests.helpers.mesh import INJECT, Counted, Mesh, capture

pytestmark = pytest.mark.docker

FAR = "far"
SLOW_S = 150
NOTICED_S = 30.0
MARKER = "a-secret-that-one-would-find"
HEALTHY = """
    healthcheck:
      test: [CMD, python, -c, "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/healthz')"]
      interval: 2s
      timeout: 20s
      retries: 5
"""
STACK = f"""
version: "3.8"
services:
  caller:
    image: meshpy-shop:dev
    command: [sleep, infinity]
    init: true
    deploy:
      labels: {{meshpy.ports: ""}}
      placement: {{constraints: [node.hostname == node-1]}}
  api:
    image: meshpy-shop:dev
    command: [python, -m, meshpy.demo.shop, api]
    environment: {{CATALOG_URL: "http://api:8080", REDIS: "redis:6379"}}
{HEALTHY}
    deploy:
      replicas: 2
      labels: {{meshpy.ports: 8080/http}}
      placement: {{constraints: [node.role == worker]}}
  near:
    image: meshpy-shop:dev
    command: [python, -m, meshpy.demo.shop, web]
    environment: {{API_URL: "http://127.0.0.1:9"}}
    deploy:
      labels: {{meshpy.ports: 8080/http}}
      placement: {{constraints: [node.hostname == node-2]}}
  redis:
    image: redis:7
    command: [redis-server, --save, ""]
    deploy:
      placement: {{constraints: [node.hostname == node-1]}}
"""
PLAIN = """
version: "3.8"
services:
  caller:
    image: meshpy-shop:dev
    command: [sleep, infinity]
    init: true
    deploy: {endpoint_mode: dnsrr, placement: {constraints: [node.hostname == node-1]}}
  server:
    image: meshpy-shop:dev
    command: [python, -m, http.server, "8080"]
    deploy: {endpoint_mode: dnsrr, placement: {constraints: [node.hostname == node-2]}}
"""
CALLER, API, SIDECAR, REDIS = f"{FAR}_caller", f"{FAR}_api", f"{FAR}_api-sidecar", f"{FAR}_redis"
CONTROL_PLANE = "mesh-system_control-plane"
ORDER = ("POST", "http://api:8080/orders", '{"id": 3}')


def is_served(mesh: Mesh) -> bool:
    """Two seconds without a failure: names reach other nodes by gossip, seconds after an app is healthy."""
    with mesh.load(mesh.engine.task(CALLER), *ORDER, rate=20) as load:
        time.sleep(2)
        counted = load.result()
    return counted.counts == {"201": counted.total}


@pytest.fixture(scope="module")
def far(mesh: Mesh, nodes: dict[str, Node]):
    """Caller and Redis on the manager, two replicas of `api` on the workers, `near` on node-2; all meshed."""
    mesh.ok("deploy", *INJECT, "-c", "-", FAR, stdin=STACK, timeout_s=400)
    assert set(nodes) <= {task.node for task in mesh.engine.running(API)}

    mesh.engine.wait("orders are taken on both nodes", lambda: is_served(mesh), 90)
    yield mesh
    mesh.engine.remove(FAR)


def orders(mesh: Mesh) -> int:
    """How many orders Redis holds."""
    return int(mesh.engine.exec(mesh.engine.task(REDIS), "redis-cli", "LLEN", "orders").out)


def test_calls_between_nodes_go_through_the_mesh(far: Mesh):
    """From node-1 to api on two nodes and back to Redis on node-1: all served, by both replicas, all mTLS."""
    before = orders(far)
    with far.load(far.engine.task(CALLER), *ORDER, rate=20) as load:
        time.sleep(3)
        counted = load.result()
    assert counted.counts == {"201": counted.total}, counted.failures
    assert orders(far) == before + counted.total

    def edges() -> dict[tuple[str, str], float]:
        told = far.status()["edges"]
        return {(each["source"], each["destination"]): each["mtls_ratio"] for each in told}

    needed = {(f"{FAR}/caller", f"{FAR}/api"), (f"{FAR}/api", f"{FAR}/redis")}
    far.engine.wait("both edges are counted", lambda: needed <= set(edges()), 20)
    assert {edges()[each] for each in needed} == {1.0}


def marked_between_nodes(mesh: Mesh, caller: str, url: str) -> tuple[dict, list]:
    """A request with MARKER while the wire between the nodes is recorded."""
    with capture(["ip", "netns", "exec", "wire"], MARKER) as seen:
        answer = mesh.fetch(mesh.engine.task(caller), url, headers={"X-Marker": MARKER})
    assert answer.status in (200, 404), answer
    return seen, seen["marked"]


def test_without_a_mesh_the_wire_between_nodes_shows_everything(far: Mesh):
    """The positive control: over an ordinary overlay network the marker is read off the wire."""
    far.engine.deploy("plain", PLAIN)
    far.engine.wait_stack("plain")
    try:
        _, marked = marked_between_nodes(far, "plain_caller", "http://server:8080/")
    finally:
        far.engine.remove("plain")
    assert marked


def test_with_the_mesh_the_wire_between_nodes_shows_tls_alone(far: Mesh):
    """caller and near have their sidecars beside them: what goes between nodes is TLS, no marker."""
    tasks = [
        far.engine.task(f"{FAR}_{name}") for name in ("caller", "caller-sidecar", "near", "near-sidecar")
    ]
    assert [task.node for task in tasks] == ["node-1", "node-1", "node-2", "node-2"]
    seen, marked = marked_between_nodes(far, CALLER, "http://near:8080/healthz")
    near = tasks[3].addresses["mesh"]
    streams = [each for each in seen["streams"] if [near, 15443] in (each["from"], each["to"])]
    assert [each["interface"][:5] for each in streams if each["records"]], "nothing went over the wire"
    assert [each for each in streams if each["no_tls"]] == []
    assert marked == []


def update(mesh: Mesh, service: str, image: str) -> None:
    """`docker service update` to another tag of the same image; wait until no old task is left."""
    engine = mesh.engine
    now = engine.docker(
        "service", "inspect", "--format", "{{.Spec.TaskTemplate.ContainerSpec.Image}}", service
    )
    for host in (engine.host, *engine.further.values()):
        engine.run("docker", "-H", host, "tag", now.strip(), image)
    old = {task.id for task in engine.running(service)}
    engine.docker("service", "update", "--detach", "--no-resolve-image", "--image", image, service)

    def is_renewed() -> bool:
        alive = {task.id for task in engine.alive(service)}
        return len(engine.running(service)) == len(alive) == len(old) and not alive & old

    engine.wait(f"{service} is updated", is_renewed, SLOW_S)


def assert_none_lost(mesh: Mesh, before: int, counted: Counted) -> None:
    """Every order was taken, once."""
    print("sent:", counted.total, "answers:", counted.counts)
    assert counted.counts == {"201": counted.total}, counted.failures
    assert orders(mesh) == before + counted.total


def is_in_sync(mesh: Mesh) -> bool:
    """Every sidecar of the stack is connected and holds the newest."""
    done = mesh.run("status", "-o", "json")
    return done.code == 0 and bool(json.loads(done.out)["sidecars"])


@pytest.mark.parametrize(
    "service", [API, SIDECAR, f"{CALLER}-sidecar", CONTROL_PLANE], ids=["app", "sidecars", "client", "plane"]
)
def test_a_rolling_update_loses_no_request(far: Mesh, service: str):
    """A new image of the app, of its sidecars, of the caller's sidecar, of the control plane, under load."""
    before, plane = orders(far), service == CONTROL_PLANE
    with far.load(far.engine.task(CALLER), *ORDER, rate=30) as load:
        update(far, service, f"meshpy-{'plane' if plane else 'other'}:{len(service)}")
        far.engine.wait("all are in sync", lambda: is_in_sync(far), SLOW_S)
        counted = load.result()
    assert_none_lost(far, before, counted)


def place(mesh: Mesh, what: str) -> list[str]:
    """On which nodes the living tasks of a service are."""
    return sorted(task.node for task in mesh.engine.alive(what))


def spread(mesh: Mesh, service: str) -> None:
    """One of two replicas on each worker: updates may have put both on one, and with it both would go."""
    for _ in range(3):
        if place(mesh, service) == ["node-2", "node-3"]:
            return
        for count in (1, 2):
            mesh.engine.docker("service", "scale", "--detach", f"{service}={count}")
            mesh.engine.wait_running(service, count, SLOW_S)
            mesh.engine.wait(f"{count} are left", lambda n=count: len(place(mesh, service)) == n, SLOW_S)
    raise AssertionError(f"{service} is on {place(mesh, service)}")


def test_draining_a_node_loses_no_request(far: Mesh):
    """node-3 is drained under load: api and its sidecar move to node-2; nothing fails, nothing is doubled."""
    for service in (API, SIDECAR):
        spread(far, service)
    far.engine.wait("orders are taken", lambda: is_served(far), 60)
    engine, before = far.engine, orders(far)

    def has_moved() -> bool:
        both = (API, SIDECAR)
        return all(
            place(far, each) == ["node-2"] * 2 == sorted(t.node for t in engine.running(each))
            for each in both
        )

    with far.load(engine.task(CALLER), *ORDER, rate=30) as load:
        engine.docker("node", "update", "--availability", "drain", "node-3")
        engine.wait("all moved to node-2", has_moved, SLOW_S)
        counted = load.result()
    engine.docker("node", "update", "--availability", "active", "node-3")
    assert_none_lost(far, before, counted)


def test_a_lost_node_is_left_behind(far: Mesh, nodes: dict[str, Node]):
    """node-3's cable is pulled under load: what was sent to it is lost, what was not goes elsewhere.

    Swarm itself needs ten seconds and more to see it; the sidecars see it by their connections. An order that
    may have reached the app is not sent again, so it fails; the client of this test waits 30 s for it.
    """
    engine = far.engine
    engine.docker("service", "scale", "--detach", f"{API}=3", f"{SIDECAR}=3")

    def is_spread() -> bool:
        return all("node-3" in place(far, each) for each in (API, SIDECAR))

    def is_down() -> bool:
        return (
            "Down" in engine.docker("node", "ls", "--format", "{{.Hostname}} {{.Status}}").split("node-3")[1]
        )

    engine.wait("both nodes have a replica", is_spread, SLOW_S)
    engine.wait_running(API, 3, SLOW_S)
    engine.wait_running(SIDECAR, 3, SLOW_S)
    with far.load(engine.task(CALLER), *ORDER, rate=30) as load:
        time.sleep(3)
        cut = time.time()
        nodes["node-3"].set_link("down")
        try:
            engine.wait("the manager sees it", is_down, SLOW_S)
            engine.wait("the tasks are elsewhere", lambda: place(far, SIDECAR).count("node-2") == 3, SLOW_S)
            time.sleep(5)
            counted = load.result()
        finally:
            nodes["node-3"].set_link("up")
    failed = [(begin - cut, status) for begin, _, status in counted.moments if status != 201]
    print(
        "sent:",
        counted.total,
        "answers:",
        counted.counts,
        "failed after, s:",
        [round(s, 1) for s, _ in failed],
    )
    assert len(failed) < counted.total * 0.05, counted.failures
    assert all(begun_s < NOTICED_S for begun_s, _ in failed), "requests fail long after the node was lost"
