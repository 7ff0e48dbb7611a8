"""A dedicated egress gateway: the only way out, and who went it is known there by its own identity."""

import json

import pytest

from tests.e2e.world import FARTHER, OUTSIDE
from tests.helpers.mesh import INJECT, Mesh

pytestmark = pytest.mark.docker

STACK, GATEWAY = "inland", "mesh-egress"
FILE = """
version: "3.8"
services:
  named:
    image: meshpy-shop:dev
    command: [sleep, infinity]
    init: true
    deploy: {labels: {meshpy.ports: "", meshpy.egress: "outside.example.com:80/http"}}
  asking:
    image: meshpy-shop:dev
    command: [sleep, infinity]
    init: true
    deploy: {labels: {meshpy.ports: "", meshpy.outbound: ALLOW_ANY}}
x-mesh: {egress_gateway: mesh-egress/gateway}
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


def told(mesh: Mesh, app: str, url: str) -> tuple[int, str]:
    done = mesh.engine.python(mesh.engine.task(f"{STACK}_{app}"), GET, url, timeout_s=40)
    assert done.code == 0, done.err
    status, text = json.loads(done.out)
    return status, text


def test_what_goes_outside_goes_through_the_gateway_and_is_judged_there(mesh: Mesh, tmp_path):
    """A named host by its alias, any host by the forward proxy; the sidecars themselves have no way out."""
    flags = (
        "--image",
        "meshpy-control-plane:dev",
        "--egress-gateway",
        "1",
        "--proxy-image",
        "meshpy-proxy:dev",
    )
    mesh.ok("install", *flags, timeout_s=300)
    try:
        mesh.ok("deploy", *INJECT, "-c", "-", STACK, stdin=FILE, timeout_s=400)

        def answered() -> str:
            status, text = told(mesh, "named", "http://outside.example.com/through")
            return text if status == 200 else ""

        heard = json.loads(mesh.engine.wait("the named host answers", answered, 60))
        assert heard["local"] == OUTSIDE
        assert told(mesh, "asking", "http://farther.example.com/x")[0] == 200
        for service in ("named-sidecar", "asking-sidecar"):
            sidecar = mesh.engine.task(f"{STACK}_{service}")
            routes = mesh.engine.in_network_of(sidecar, "ip", "route", "show", "default")
            assert routes.out == "", "a sidecar has a way out of its own"
        assert told(mesh, "named", "http://example.com/")[0] == 0

        lines = mesh.engine.logs(f"{GATEWAY}_gateway-sidecar").splitlines()
        found = [json.loads(line) for line in lines if '"outside.example.com"' in line]
        principal = f"cluster.local/ns/{STACK}/sa/named"
        assert any(principal in json.dumps(each) and f"{OUTSIDE}:80" in json.dumps(each) for each in found)

        policy = tmp_path / "policy.yaml"
        policy.write_text(POLICY)
        mesh.ok("apply", "-f", str(policy))

        def refused() -> bool:
            return told(mesh, "asking", "http://farther.example.com/y")[0] == 0

        mesh.engine.wait("the gateway refuses", refused, 40)
        assert told(mesh, "asking", "http://outside.example.com/")[0] == 200
        assert FARTHER not in told(mesh, "asking", "http://farther.example.com/")[1]
    finally:
        mesh.set_policies()
        mesh.engine.remove(STACK)
        mesh.engine.remove(GATEWAY)
