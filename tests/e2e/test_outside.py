"""Outside hosts: by their own names, through an app's forward proxy, through an egress gateway."""

import json

import pytest

from tests.e2e.world import FARTHER, OUTSIDE
from tests.helpers.mesh import INJECT, Mesh

pytestmark = pytest.mark.docker

STACK, GATEWAY = "abroad", "mesh-egress"
FILE = """
version: "3.8"
x-idle: &idle {image: "meshpy-shop:dev", command: [sleep, infinity], init: true}
services:
  tourist:
    <<: *idle
    deploy: {labels: {meshpy.ports: "", meshpy.dependencies: shop}}
  homebody:
    <<: *idle
    deploy:
      labels:
        meshpy.ports: ""
        meshpy.dependencies: shop
        meshpy.outbound: REGISTRY_ONLY
        meshpy.egress: "outside.example.com:80/http,*.farther.example.com:80"
  named:
    <<: *idle
    deploy:
      labels:
        meshpy.ports: ""
        meshpy.dependencies: shop
        meshpy.outbound: CLOSED
        meshpy.egress: "outside.example.com:80/http,farther.example.com:9000/tcp"
  inland:
    <<: *idle
    deploy:
      labels:
        meshpy.ports: ""
        meshpy.dependencies: shop
        meshpy.outbound: CLOSED
        meshpy.egress: "outside.example.com:80/http"
        meshpy.egress_gateway: mesh-egress/gateway
  asking:
    <<: *idle
    deploy:
      labels: {meshpy.ports: "", meshpy.dependencies: shop, meshpy.egress_gateway: mesh-egress/gateway}
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


ECHO = """
import json, socket
with socket.create_connection(("farther.example.com", 9000), timeout=10) as sock:
    sock.sendall(b"hello")
    print(json.dumps([sock.getpeername()[0], sock.recv(100).decode()]))
"""
CLOSED = """
import socket, sys
for where in ("example.com", sys.argv[1]):
    try:
        socket.create_connection((where, 80), timeout=3).close()
        print("open", where)
    except OSError:
        pass
"""
POLICY = f"""
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: not-farther, namespace: {GATEWAY}}}
spec:
  action: DENY
  rules:
    - from: [{{source: {{principals: ["cluster.local/ns/{STACK}/sa/asking"]}}}}]
      when: [{{key: connection.sni, values: [farther.example.com]}}]
"""


def told(mesh: Mesh, app: str, script: str, what: str) -> tuple[int, str]:
    done = mesh.engine.python(mesh.engine.task(f"{STACK}_{app}"), script, what, timeout_s=40)
    assert done.code == 0, done.err
    status, text = json.loads(done.out)
    return status, text


@pytest.fixture(scope="module")
def abroad(mesh: Mesh):
    """A gateway, and one stack whose apps each have another way out."""
    images = ("--image", "meshpy-control-plane:dev", "--proxy-image", "meshpy-proxy:dev")
    mesh.ok("install", *images, "--egress-gateway", "1", timeout_s=300)
    mesh.ok("deploy", *INJECT, "-c", "-", STACK, stdin=FILE, timeout_s=400)
    yield mesh
    mesh.engine.remove(STACK)
    mesh.engine.remove(GATEWAY)


def answered(mesh: Mesh, app: str, url: str) -> dict:
    """What the host heard, once its name is known to the mesh."""

    def heard() -> dict:
        status, text = told(mesh, app, GET, url)
        return json.loads(text) if status == 200 else {}

    return mesh.engine.wait(f"{app} gets {url}", heard, 60)


def logged(mesh: Mesh, service: str, *words: str) -> bool:
    return any(all(word in line for word in words) for line in mesh.engine.logs(service).splitlines())


def test_outside_hosts_are_reached_through_the_sidecar_and_the_mesh_is_not(abroad: Mesh):
    """ALLOW_ANY by the proxy's variables alone; REGISTRY_ONLY what is named; never a network of the mesh."""
    mesh = abroad
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
    log = [line for line in mesh.engine.logs(f"{STACK}_tourist-sidecar").splitlines() if '"outbound"' in line]
    assert any('"PassthroughCluster"' in line and "farther.example.com:80" in line for line in log)


def test_named_hosts_are_reached_by_name_alone_and_no_other_host_is(abroad: Mesh):
    """No variable, no proxy: HTTP and bytes; what is not named stays closed, by name and by address."""
    mesh, sidecar = abroad, f"{STACK}_named-sidecar"
    heard = answered(mesh, "named", "http://outside.example.com/by-name")
    assert heard["local"] == OUTSIDE
    assert "Host: outside.example.com" in heard["head"]
    app = mesh.engine.task(f"{STACK}_named")
    peer, said = json.loads(mesh.engine.python(app, ECHO, timeout_s=40).out)
    assert said == "hello"
    assert peer == mesh.engine.task(sidecar).addresses[f"{STACK}_named-pod"]
    assert mesh.engine.python(app, CLOSED, OUTSIDE, timeout_s=60).out == ""
    assert logged(mesh, sidecar, '"/by-name"', f'"{OUTSIDE}:80"')
    assert logged(mesh, sidecar, f'"{FARTHER}:9000"')


def test_what_goes_outside_goes_through_the_gateway_and_is_judged_there(abroad: Mesh, tmp_path):
    """A named host by its alias, any host by the forward proxy; the sidecars themselves have no way out."""
    mesh = abroad
    assert answered(mesh, "inland", "http://outside.example.com/through")["local"] == OUTSIDE
    assert answered(mesh, "asking", "http://farther.example.com/x")["local"] == FARTHER
    for service in ("inland-sidecar", "asking-sidecar"):
        sidecar = mesh.engine.task(f"{STACK}_{service}")
        routes = mesh.engine.in_network_of(sidecar, "ip", "route", "show", "default")
        assert routes.out == "", "a sidecar has a way out of its own"
    assert told(mesh, "inland", GET, "http://example.com/")[0] == 0
    caller = f'"cluster.local/ns/{STACK}/sa/inland"'
    words = ('"outside.example.com"', caller, f'"{OUTSIDE}:80"')
    mesh.engine.wait("it is logged there", lambda: logged(mesh, f"{GATEWAY}_gateway-sidecar", *words))
    policy = tmp_path / "policy.yaml"
    policy.write_text(POLICY)
    try:
        mesh.ok("apply", "-f", str(policy))
        mesh.engine.wait(
            "the gateway refuses",
            lambda: told(mesh, "asking", GET, "http://farther.example.com/y")[0] == 0,
            40,
        )
        assert told(mesh, "asking", GET, "http://outside.example.com/")[0] == 200
    finally:
        mesh.set_policies()
