"""Shapes that real stacks have: an external network of several stacks, two databases on one port, a job, a
service on every node.

`legacy` is not meshed; `market` and `mall`, the stacks of two examples, are. All three sit on the network
`shared`, as stacks do that call one another.
"""

import json
from uuid import uuid4

import pytest

from tests.e2e.reader import Reader
from tests.helpers.mesh import Answer, Mesh
from tests.helpers.swarm import EngineError, Task

pytestmark = pytest.mark.docker

SLOW_S = 120
EXAMPLES = ("two-stacks", "job")
TWO_STACKS = "stacks/examples/two-stacks/README.md"
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
DATABASES = """
import socket, sys
with socket.create_connection((sys.argv[1], 6379), 5) as redis:
    redis.sendall(b"CONFIG GET databases\\r\\n")
    print(redis.recv(1000).split()[-1].decode())
"""


@pytest.fixture(scope="module")
def stacks(reader: Reader, mesh: Mesh):
    """All three, deployed as the example says."""
    engine = mesh.engine
    mesh.set_policies()
    reader.follow(TWO_STACKS, only=("deploy",))
    engine.deploy("legacy", LEGACY)
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
    answer = stacks.fetch(stacks.engine.task("mall_buyer"), "http://agent:8080/items")
    assert (answer.status, json.loads(answer.text)["version"]) == (200, "node-1")


@pytest.mark.parametrize(("name", "what"), [("job", "done"), ("batch", "batched")])
def test_a_job_calls_through_the_mesh_and_ends(stacks: Mesh, name: str, what: str):
    """A one-off task and a `replicated-job` end with success and stay ended; their sidecars outlive them."""
    engine, service = stacks.engine, f"mall_{name}"
    engine.wait("the job is done", lambda: "complete" in {t.state for t in engine.tasks(service)}, SLOW_S)
    done = engine.exec(engine.task("mall_queue"), "redis-cli", "LLEN", what)
    assert done.out.strip() == "1"
    assert engine.running(f"{service}-sidecar")


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_on_these_stacks_shows_what_it_says(stacks: Mesh, reader: Reader, name: str):
    """Last: they set policies, and `job` has its work done again."""
    stacks.set_policies()
    reader.follow(f"stacks/examples/{name}/README.md", leave_out=("deploy",))
    stacks.set_policies()
