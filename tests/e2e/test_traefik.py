"""A real Traefik in front of a stack, found by its labels: before, while and after the stack is meshed."""

import json
import os
import sys

import pytest

from tests.e2e import world
from tests.helpers.mesh import INJECT, Mesh

pytestmark = pytest.mark.docker

SLOW_S = 120
PORT = 8088
EDGE = f"""
version: "3.8"
services:
  traefik:
    image: traefik:v3
    command:
      - --providers.swarm=true
      - --providers.swarm.exposedbydefault=false
      - --providers.swarm.refreshseconds=2
      - --entrypoints.web.address=:80
      - --accesslog=true
    ports:
      - {{target: 80, published: {PORT}, mode: host}}
    volumes:
      - /var/run/docker.sock:/var/run/docker.sock:ro
    networks: [traefik_public]
    deploy:
      endpoint_mode: dnsrr
      placement: {{constraints: [node.role == manager]}}
networks:
  traefik_public: {{external: true}}
"""
BLOG = """
version: "3.8"
services:
  blog:
    image: meshpy-shop:dev
    command: [python, -m, meshpy.demo.shop, catalog]
    networks: [default, traefik_public]
    healthcheck:
      test: [CMD, python, -c, "import urllib.request as r; r.urlopen('http://127.0.0.1:8080/healthz')"]
      interval: 2s
      timeout: 20s
      retries: 5
    deploy:
      replicas: 2
      endpoint_mode: dnsrr
      labels:
        - traefik.enable=true
        - traefik.swarm.network=traefik_public
        - traefik.http.routers.blog.rule=Host(`blog.example`)
        - traefik.http.routers.blog.entrypoints=web
        - traefik.http.services.blog.loadbalancer.server.port=8080
networks:
  default: {}
  traefik_public: {external: true}
"""
ASK = """
import http.client, sys
connection = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=10)
connection.request("GET", "/items", headers={"Host": "blog.example"})
print(connection.getresponse().status)
"""


def asked(mesh: Mesh) -> str:
    """What the outside world gets for a request to the blog."""
    command = ("ip", "netns", "exec", "outside", sys.executable, "-c", ASK, world.ENGINE, str(PORT))
    done = mesh.engine.run(*command)
    return done.out.strip() or done.err.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def edge(mesh: Mesh):
    """Traefik with the Docker socket, as many Swarms run it, and the blog without a mesh."""
    engine = mesh.engine
    change = ("--change", 'ENTRYPOINT ["/traefik"]')
    engine.docker("import", *change, os.environ["MESHPY_E2E_TRAEFIK"], "traefik:v3", timeout_s=300)
    engine.docker("network", "create", "--driver", "overlay", "traefik_public")
    engine.deploy("edge", EDGE)
    engine.deploy("blog", BLOG)
    engine.wait_running("edge_traefik", 1, SLOW_S)
    engine.wait_running("blog_blog", 2, SLOW_S)
    yield mesh
    engine.docker("stack", "rm", "edge", "blog")


def test_traefik_finds_the_sidecars_in_place_of_the_app(edge: Mesh):
    """The labels and the network have moved: requests from outside are served before and after `deploy`."""
    engine = edge.engine
    engine.wait("Traefik serves the blog", lambda: asked(edge) == "200", SLOW_S)
    edge.ok("deploy", *INJECT, "-c", "-", "blog", stdin=BLOG)
    apps, sidecars = engine.running("blog_blog"), engine.running("blog_blog-sidecar")
    assert len(apps) == len(sidecars) == 2
    assert all(set(task.addresses) == {"blog_blog-pod"} for task in apps)
    targets = {f"{task.addresses['traefik_public']}:8080" for task in sidecars}

    def called() -> set[str]:
        assert asked(edge) == "200"
        lines = [line for line in engine.logs("edge_traefik").splitlines() if " 200 " in line]
        return {address for address in targets if any(address in line for line in lines)}

    engine.wait("both sidecars are called", lambda: called() == targets, SLOW_S)
    lines = [line for line in engine.logs("blog_blog-sidecar").splitlines() if line.startswith("{")]
    served = [line for line in map(json.loads, lines) if line["path"] == "/items"]
    assert served
    assert {line["principal"] for line in served} == {""}
