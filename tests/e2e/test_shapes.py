"""Shapes that real stacks have: an external network of several stacks, two databases on one port, a job, a
service on every node.

`legacy` is not meshed, `market` and `mall` are; all three sit on the network `shared`, as stacks do that call
one another.
"""

import json
from uuid import uuid4

import pytest

from tests.helpers.mesh import INJECT, Answer, Mesh
from tests.helpers.swarm import EngineError, Task

pytestmark = pytest.mark.docker

SLOW_S = 120
LEGACY = """
version: "3.8"
services:
  visitor:
    image: meshpy-shop:dev
    command: [sleep, infinity]
    init: true
    networks: [shared]
    deploy: {endpoint_mode: dnsrr}
networks:
  shared: {external: true}
"""
MARKET = """
version: "3.8"
services:
  stock:
    image: meshpy-shop:dev
    command: [python, -m, meshpy.demo.shop, catalog]
    networks: [shared]
    deploy:
      labels: {meshpy.ports: 8080/http}
networks:
  shared: {external: true}
"""
SAY = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = os.environ["NODE"].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("", 9000), Handler).serve_forever()
"""
WORK = """
import os, socket, urllib.request
items = urllib.request.urlopen("http://stock:8080/items", timeout=5).read()
with socket.create_connection(("queue", 6379), 5) as queue:
    queue.sendall(b"RPUSH %s %d\\r\\n" % (os.environ["LIST"].encode(), len(items)))
    assert queue.recv(100).startswith(b":")
"""
MALL = f"""
version: "3.8"
services:
  buyer:
    image: meshpy-shop:dev
    command: [sleep, infinity]
    init: true
    environment:
      STOCK_URL: http://stock:8080
      CACHE_URL: redis://cache:6379
      QUEUE_URL: redis://queue:6379
    networks: [default, shared]
    deploy:
      labels: {{meshpy.ports: ""}}
  cache:
    image: redis:7
    command: [redis-server, --save, "", --databases, "3"]
  queue:
    image: redis:7
    command: [redis-server, --save, "", --databases, "7"]
  agent:
    image: meshpy-shop:dev
    command: [python, -c, {json.dumps(SAY)}]
    environment: {{NODE: "{{{{.Node.Hostname}}}}"}}
    deploy:
      mode: global
      labels: {{meshpy.ports: 9000/http}}
  job:
    image: meshpy-shop:dev
    command: [python, -c, {json.dumps(WORK)}]
    environment:
      STOCK_URL: http://stock:8080
      QUEUE_URL: redis://queue:6379
      LIST: done
    networks: [default, shared]
    deploy:
      labels: {{meshpy.ports: ""}}
      restart_policy: {{condition: on-failure, delay: 1s}}
  batch:
    image: meshpy-shop:dev
    command: [python, -c, {json.dumps(WORK)}]
    environment:
      STOCK_URL: http://stock:8080
      QUEUE_URL: redis://queue:6379
      LIST: batched
    networks: [default, shared]
    deploy:
      labels: {{meshpy.ports: ""}}
      mode: replicated-job
      restart_policy: {{condition: on-failure, delay: 1s}}
networks:
  default: {{}}
  shared: {{external: true}}
"""
DATABASES = """
import socket, sys
with socket.create_connection((sys.argv[1], 6379), 5) as redis:
    redis.sendall(b"CONFIG GET databases\\r\\n")
    print(redis.recv(1000).split()[-1].decode())
"""


@pytest.fixture(scope="module")
def stacks(mesh: Mesh):
    """All three, the unmeshed one first."""
    engine = mesh.engine
    engine.docker("network", "create", "--driver", "overlay", "shared")
    engine.deploy("legacy", LEGACY)
    mesh.ok("deploy", *INJECT, "-c", "-", "market", stdin=MARKET)
    mesh.ok("deploy", *INJECT, "-c", "-", "--no-wait", "mall", stdin=MALL)
    for service in ("buyer", "cache", "queue", "agent"):
        engine.wait_running(f"mall_{service}", 1, SLOW_S)
        engine.wait_running(f"mall_{service}-sidecar", 1, SLOW_S)
    # Gossip tells a caller without a sidecar of the name a moment after the task runs.
    visitor = engine.task("legacy_visitor")
    engine.wait("the unmeshed caller finds stock", lambda: found_by(mesh, visitor), SLOW_S)
    yield mesh
    engine.docker("stack", "rm", "legacy", "market", "mall")


def found_by(mesh: Mesh, caller: Task) -> bool:
    """Whether it gets stock's answer by its plain name now."""
    try:
        return mesh.fetch(caller, "http://stock:8080/items").status == 200
    except EngineError:
        return False


def inbound(mesh: Mesh, agent: str) -> list[dict]:
    """What arrived at stock's sidecar from this user agent."""
    lines = [line for line in mesh.engine.logs("market_stock-sidecar").splitlines() if line.startswith("{")]
    found = [json.loads(line) for line in lines]
    return [e for e in found if e.get("direction") == "inbound" and e["user_agent"] == agent]


def asked(mesh: Mesh, caller: Task, url: str) -> tuple[Answer, dict]:
    """An answer, and the line about it in the log of stock's sidecar; the batch job calls stock besides."""
    agent = f"asked/{uuid4()}"
    answer = mesh.fetch(caller, url, headers={"User-Agent": agent})
    [line] = mesh.engine.wait("it is logged", lambda: inbound(mesh, agent), 15)
    return answer, line


@pytest.mark.parametrize("name", ["stock", "market_stock", "tasks.stock"])
def test_a_stack_without_a_mesh_calls_a_meshed_one_as_before(stacks: Mesh, name: str):
    """The sidecar stands on the shared network under the app's names; such a caller has no identity."""
    answer, line = asked(stacks, stacks.engine.task("legacy_visitor"), f"http://{name}:8080/items")
    assert answer.status == 200
    assert line["principal"] == ""


def test_two_meshed_stacks_call_each_other_with_their_identities(stacks: Mesh):
    """mall/buyer calls market/stock by its plain name, with mTLS."""
    answer, line = asked(stacks, stacks.engine.task("mall_buyer"), "http://stock:8080/items")
    assert answer.status == 200
    assert line["principal"] == "cluster.local/ns/mall/sa/buyer"


ROGUE = """
version: "3.8"
services:
  rogue:
    image: base:dev
    command: [python3, -m, http.server, "8080"]
    init: true
    networks:
      shared:
        aliases: [stock, tasks.stock, market_stock]
    deploy: {endpoint_mode: dnsrr, replicas: 3}
networks:
  shared: {external: true}
"""
WHO = """
import collections, http.client, json, time
seen = collections.Counter()
for _ in range(60):
    connection = http.client.HTTPConnection("stock", 8080, timeout=5)
    connection.request("GET", "/items")
    seen[str(connection.getresponse().status)] += 1
    connection.close()
print(json.dumps(seen))
"""


@pytest.fixture
def rogue(stacks: Mesh):
    """A stranger's service on the shared network, under the names of `stock`."""
    stacks.engine.deploy("rogue", ROGUE)
    stacks.engine.wait_stack("rogue")
    yield stacks
    stacks.engine.remove("rogue")


def test_a_hijacked_name_gets_no_request_of_a_meshed_caller(rogue: Mesh):
    """A stranger without /items gets requests of the caller that has no mesh, and none of the other one."""
    engine = rogue.engine

    def answers(service: str) -> dict[str, int]:
        done = engine.python(engine.task(service), WHO, timeout_s=90)
        assert done.code == 0, done.err
        return json.loads(done.out)

    assert answers("legacy_visitor").get("404", 0) > 10, "the positive control failed"
    assert answers("mall_buyer") == {"200": 60}


@pytest.mark.parametrize(("name", "databases"), [("cache", "3"), ("queue", "7")])
def test_two_databases_on_one_port_are_told_apart(stacks: Mesh, name: str, databases: str):
    """Opaque TCP carries no name: each has a pod network of its own, and the right Redis answers."""
    done = stacks.engine.python(stacks.engine.task("mall_buyer"), DATABASES, name)
    assert done.out.strip() == databases, done.err


def test_a_service_on_every_node_is_called(stacks: Mesh):
    """A global service has a global sidecar."""
    answer = stacks.fetch(stacks.engine.task("mall_buyer"), "http://agent:9000/")
    assert (answer.status, answer.text) == (200, "node-1")


@pytest.mark.parametrize(("name", "what"), [("job", "done"), ("batch", "batched")])
def test_a_job_calls_through_the_mesh_and_ends(stacks: Mesh, name: str, what: str):
    """A one-off task and a `replicated-job` end with success and stay ended; their sidecars outlive them."""
    engine, service = stacks.engine, f"mall_{name}"
    engine.wait("the job is done", lambda: "complete" in {t.state for t in engine.tasks(service)}, SLOW_S)
    done = engine.exec(engine.task("mall_queue"), "redis-cli", "LLEN", what)
    assert done.out.strip() == "1"
    assert engine.running(f"{service}-sidecar")
