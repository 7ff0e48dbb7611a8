"""From an ordinary stack over a permissive to a strict one, under the load of a caller without a sidecar.

`page` has two replicas with healthchecks; `guest` stays outside of the mesh, `reader` moves with the stack.
Each of their requests looks the name up and connects anew.
"""

import time

import pytest

from tests.helpers.mesh import INJECT, Mesh
from tests.helpers.swarm import EngineError

pytestmark = pytest.mark.docker

STACK = "moved"
GUEST, READER, PAGE = (f"{STACK}_{name}" for name in ("guest", "reader", "page"))
FILE = """
version: "3.8"
services:
  page:
    image: meshpy-shop:dev
    command: [python, -m, meshpy.demo.shop, web]
    environment: {API_URL: "http://127.0.0.1:9"}
    healthcheck:
      test: [CMD, python, -c, "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/healthz')"]
      interval: 1s
      timeout: 20s
      retries: 5
    deploy:
      replicas: 2
      endpoint_mode: dnsrr
      update_config: {order: start-first}
      labels: {meshpy.ports: 8080/http}
  reader:
    image: meshpy-shop:dev
    command: [sleep, infinity]
    init: true
    environment: {PAGE: "http://page:8080"}
    deploy: {endpoint_mode: dnsrr, labels: {meshpy.ports: ""}}
  guest:
    image: meshpy-shop:dev
    command: [sleep, infinity]
    init: true
    environment: {PAGE: "http://page:8080"}
    deploy: {endpoint_mode: dnsrr, labels: {meshpy.enable: "false", meshpy.ports: ""}}
"""
URL = "http://page:8080/healthz"
STRICT = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: moved}
spec: {mtls: {mode: STRICT}}
"""


def test_callers_lose_no_request_on_the_way_into_the_mesh(mesh: Mesh):
    """Before, permissive, strict: 0 failures; then mTLS STRICT refuses the guest and serves the reader."""
    engine = mesh.engine
    engine.deploy(STACK, FILE)
    engine.wait_stack(STACK)
    try:
        guest = engine.task(GUEST)
        with mesh.load(guest, "GET", URL, rate=20, is_fresh=True, at_most_s=400) as load:
            with mesh.load(engine.task(READER), "GET", URL, rate=20, is_fresh=True) as inside:
                time.sleep(2)
                counted_inside = inside.result()  # its own task is replaced in the next step
            moments = {"plain": time.time()}
            mesh.ok("deploy", *INJECT, "--permissive", "-c", "-", STACK, stdin=FILE, timeout_s=400)
            time.sleep(2)
            moments["permissive"] = time.time()
            mesh.ok("deploy", *INJECT, "-c", "-", STACK, stdin=FILE, timeout_s=400)
            time.sleep(2)
            counted = load.result()
        sent = [sum(begun < until for begun, _, _ in counted.moments) for until in moments.values()]
        print("guest sent:", counted.total, "before each step:", sent, "answers:", counted.counts)
        assert counted.counts == {"200": counted.total}, counted.failures
        assert counted_inside.counts == {"200": counted_inside.total}
        assert mesh.fetch(engine.task(READER), URL).status == 200
        mesh.apply(STRICT)
        assert mesh.fetch(engine.task(READER), URL).status == 200
        with pytest.raises(EngineError):
            mesh.fetch(guest, URL)
    finally:
        mesh.run("delete", "PeerAuthentication", "default", "-n", STACK)
        engine.remove(STACK)
