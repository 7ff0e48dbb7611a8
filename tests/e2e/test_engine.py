"""The ground that the mesh stands on: what this engine does with names, networks and routes, unmeshed."""

import json

import pytest

from tests.helpers.swarm import Engine, Task

pytestmark = pytest.mark.docker

STACK = """
version: "3.8"
services:
  caller:
    image: base:dev
    command: [sleep, infinity]
    init: true
    networks: [pod]
    deploy: {endpoint_mode: dnsrr}
  open:
    image: base:dev
    command: [sleep, infinity]
    init: true
    networks: [pod, world]
    deploy: {endpoint_mode: dnsrr}
  server:
    image: base:dev
    command: [python3, -m, http.server, "80"]
    init: true
    user: "65532:65532"
    read_only: true
    cap_drop: [ALL]
    sysctls: {net.ipv4.ip_forward: "0"}
    environment: {TASK: "{{.Task.ID}}", STACK: '{{index .Service.Labels "com.docker.stack.namespace"}}'}
    networks:
      pod:
        aliases: [api, tasks.api, api.stripe.com, ground_api]
    deploy: {endpoint_mode: dnsrr}
networks:
  pod: {internal: true}
  world: {}
"""

RESOLVE = (
    "import socket, sys; print(*sorted({a[4][0] for a in socket.getaddrinfo(sys.argv[1], 80, proto=6)}))"
)
FETCH = "import urllib.request, sys; print(urllib.request.urlopen(sys.argv[1], timeout=3).read().decode())"


@pytest.fixture(scope="module")
def ground(engine: Engine):
    """A stack without a mesh."""
    engine.deploy("ground", STACK)
    engine.wait_stack("ground")
    yield engine
    engine.remove("ground")


@pytest.fixture(scope="module")
def caller(ground: Engine) -> Task:
    """A task on the internal network alone."""
    return ground.task("ground_caller")


@pytest.mark.parametrize(
    "name",
    [
        "server",
        "api",
        "tasks.api",
        "api.stripe.com",
        "ground_api",
        "tasks.server.ground_pod",
        "API.Stripe.com",
    ],
)
def test_an_alias_on_an_internal_network_resolves_to_its_holder(ground: Engine, caller: Task, name: str):
    """Dotted, `tasks.` and network-qualified names lead to the task that carries them: the interception."""
    expected = ground.task("ground_server").addresses["ground_pod"]
    done = ground.python(caller, RESOLVE, name)
    assert (done.out.strip(), done.code) == (expected, 0), done.err


def test_a_task_without_any_capability_serves_port_80(ground: Engine, caller: Task):
    """cap_drop ALL, read-only and uid 65532 do not keep a sidecar from low ports."""
    assert "Directory listing" in ground.python(caller, FETCH, "http://api.stripe.com/").out


def test_templates_in_the_environment_are_filled(ground: Engine):
    """A task learns its id and its stack without asking the engine."""
    server = ground.task("ground_server")
    environment = ground.exec(server, "cat", "/proc/1/environ").out.split("\0")
    assert {f"TASK={server.id}", "STACK=ground"} <= set(environment)


def test_ip_forwarding_is_off_where_the_stack_says_so(ground: Engine):
    """The sysctl of a stack file reaches the container, so a sidecar is no router."""
    server = ground.task("ground_server")
    assert ground.exec(server, "cat", "/proc/sys/net/ipv4/ip_forward").out.strip() == "0"


def test_a_task_on_an_ordinary_network_reaches_the_outside_world(ground: Engine):
    """The positive control: without a mesh, nothing keeps an application from the outside."""
    done = ground.python(ground.task("ground_open"), FETCH, "http://203.0.113.10/hello")
    assert json.loads(done.out)["head"][0] == "GET /hello HTTP/1.1"
    assert "GET /hello HTTP/1.1" in {event.get("line") for event in ground.outside_saw()}


@pytest.mark.parametrize(
    "address", ["203.0.113.10", "198.51.100.10", "203.0.113.1", "192.0.2.1", "172.17.0.1"]
)
def test_a_task_on_an_internal_network_alone_has_no_way_out(ground: Engine, caller: Task, address: str):
    """No default route: outside world, node and bridge are unreachable, and nothing of it arrives."""
    before = len(ground.outside_saw())
    done = ground.python(caller, FETCH, f"http://{address}/")
    assert "Network is unreachable" in done.err
    assert "default" not in ground.in_network_of(caller, "ip", "route").out
    assert len(ground.outside_saw()) == before
