"""A sidecar without certificate or snapshot lets no byte through, and the others do not notice."""

import json

import pytest

from tests.helpers.mesh import STACK, Mesh
from tests.helpers.swarm import Task

pytestmark = pytest.mark.docker

CONTROL_PLANE = "mesh-system_control-plane"
SIDECAR = f"{STACK}_api-sidecar"
PRODUCTS = "http://api:8080/products"
SLOW_S = 120
PING = """
import socket, sys
with socket.create_connection((sys.argv[1], 6379), 5) as redis:
    redis.sendall(b"PING\\r\\n")
    print(redis.recv(100))
"""


@pytest.fixture
def lone(shop: Mesh):
    """A new sidecar of api that has never met a control plane: there is none."""
    engine, old = shop.engine, shop.sidecar("api")
    engine.docker("service", "scale", "--detach", f"{CONTROL_PLANE}=0")
    engine.wait("the control plane is gone", lambda: not engine.alive(CONTROL_PLANE), SLOW_S)
    engine.docker("kill", "--signal", "KILL", old.container)

    def successor() -> list[Task]:
        return [task for task in engine.alive(SIDECAR) if task.id != old.id and task.container]

    [new] = engine.wait("another sidecar", successor, SLOW_S)
    engine.wait(
        "it runs and says what it lacks",
        lambda: "no certificate yet, no byte passes" in engine.run("docker", "logs", new.container).err,
        SLOW_S,
    )
    yield new
    engine.docker("service", "scale", "--detach", f"{CONTROL_PLANE}=1")
    engine.wait_running(CONTROL_PLANE, 1, SLOW_S)
    engine.wait_running(SIDECAR, 1, SLOW_S)
    engine.wait("all are in sync", lambda: shop.run("status").code == 0, SLOW_S)
    # api's own connection to Redis went through the killed sidecar; it takes one request to notice.
    engine.wait("api is well", lambda: shop.fetch(shop.app("web"), PRODUCTS).status == 200, SLOW_S)


def test_without_a_certificate_no_byte_passes_either_way(shop: Mesh, lone: Task):
    """No port is open to the app or the mesh, calls to and from api fail, calls between others do not."""
    web, api = shop.app("web"), shop.app("api")
    mesh, pod = lone.addresses["mesh"], lone.addresses[f"{STACK}_api-pod"]
    assert shop.probe(shop.sidecar("web"), "ports", mesh) == []
    assert shop.probe(api, "ports", pod) == []
    answer = shop.fetch(web, "http://api:8080/healthz", timeout_s=20)
    assert answer.status == 503, answer
    assert "ConnectionRefusedError" in shop.engine.python(api, PING, pod).err
    assert shop.fetch(web, "http://catalog-v1:8080/items").status == 200
    assert shop.engine.exec(lone, "meshpy-proxy", "healthcheck").code == 1


def test_with_its_certificate_the_same_sidecar_serves(shop: Mesh):
    """The positive control: with a control plane the same ports are open and the same calls succeed."""
    sidecar = shop.sidecar("api")
    targets = {"mesh": ["tcp", sidecar.addresses["mesh"], 15443]}
    assert shop.probe(shop.sidecar("web"), "reach", json.dumps(targets)) == {"mesh": "answered"}
    assert shop.fetch(shop.app("web"), "http://api:8080/healthz").status == 200
    pod = sidecar.addresses[f"{STACK}_api-pod"]
    assert shop.engine.python(shop.app("api"), PING, pod).out == "b'+PONG\\r\\n'\n"
