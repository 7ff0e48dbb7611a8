"""Outside hosts through the forward proxy of an app's own sidecar, and what it does not lead to."""

import json

import pytest

from tests.e2e.world import FARTHER, OUTSIDE
from tests.helpers.mesh import INJECT, Mesh

pytestmark = pytest.mark.docker

STACK = "abroad"
FILE = """
version: "3.8"
services:
  tourist:
    image: meshpy-shop:dev
    command: [sleep, infinity]
    init: true
    deploy: {labels: {meshpy.ports: "", meshpy.dependencies: shop}}
  homebody:
    image: meshpy-shop:dev
    command: [sleep, infinity]
    init: true
    deploy:
      labels:
        meshpy.ports: ""
        meshpy.dependencies: shop
        meshpy.outbound: REGISTRY_ONLY
        meshpy.egress: "outside.example.com:80/http,*.farther.example.com:80"
  shop:
    image: meshpy-shop:dev
    command: [python, -m, meshpy.demo.shop, web]
    environment: {API_URL: "http://127.0.0.1:9"}
    deploy: {labels: {meshpy.ports: 8080/http}}
x-mesh: {outbound: ALLOW_ANY}
"""
GET = """
import json, sys, urllib.request, urllib.error
try:
    with urllib.request.urlopen(sys.argv[1], timeout=10) as answer:
        print(json.dumps([answer.status, answer.read().decode()]))
except urllib.error.HTTPError as error:
    print(json.dumps([error.code, error.read().decode()]))
except OSError as error:
    print(json.dumps([0, str(error)]))
"""
CONNECT = """
import json, socket, sys
with socket.create_connection(("meshpy-egress", 15001), timeout=10) as sock:
    sock.sendall(f"CONNECT {sys.argv[1]} HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n".encode())
    head = sock.recv(4096).decode()
    said = ""
    if head.split()[1] == "200":
        sock.sendall(b"hello")
        said = sock.recv(100).decode()
print(json.dumps([int(head.split()[1]), said or head.partition("\\r\\n\\r\\n")[2]]))
"""


def told(mesh: Mesh, app: str, script: str, what: str) -> tuple[int, str]:
    done = mesh.engine.python(mesh.engine.task(f"{STACK}_{app}"), script, what, timeout_s=40)
    assert done.code == 0, done.err
    status, text = json.loads(done.out)
    return status, text


def test_outside_hosts_are_reached_through_the_sidecar_and_the_mesh_is_not(mesh: Mesh):
    """ALLOW_ANY by the proxy's variables alone; REGISTRY_ONLY what is named; never a network of the mesh."""
    mesh.ok("deploy", *INJECT, "-c", "-", STACK, stdin=FILE, timeout_s=400)
    try:
        status, text = told(mesh, "tourist", GET, "http://farther.example.com/x")
        assert (status, json.loads(text)["local"]) == (200, FARTHER)
        assert json.loads(text)["head"][:2] == ["GET /x HTTP/1.1", "Host: farther.example.com"]
        assert told(mesh, "tourist", CONNECT, f"{OUTSIDE}:9000") == (200, "hello")
        assert told(mesh, "tourist", GET, "http://shop:8080/healthz")[0] == 200
        for service in ("shop-sidecar", "tourist-sidecar"):
            sidecar = mesh.engine.task(f"{STACK}_{service}")
            refused = told(mesh, "tourist", CONNECT, f"{sidecar.addresses['mesh']}:15443")
            assert refused[0] == 403
            assert "is not outside of the mesh" in refused[1]
        assert told(mesh, "tourist", CONNECT, "127.0.0.1:15000")[0] == 403
        assert told(mesh, "tourist", CONNECT, "169.254.169.254:80")[0] == 403
        assert told(mesh, "homebody", GET, "http://outside.example.com/")[0] == 200
        refused = told(mesh, "homebody", GET, "http://farther.example.com/")
        assert (refused[0], "REGISTRY_ONLY" in refused[1]) == (403, True)
        log = [
            line for line in mesh.engine.logs(f"{STACK}_tourist-sidecar").splitlines() if '"outbound"' in line
        ]
        assert any('"PassthroughCluster"' in line and "farther.example.com:80" in line for line in log)
    finally:
        mesh.engine.remove(STACK)
