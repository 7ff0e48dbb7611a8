"""The mesh as a wall: what an app reaches is its own sidecar. Every probe that must fail succeeds elsewhere.

The probes run as root in the app's network namespace, with raw sockets and routes of their own choice: more
than an attacker has who took the app over.
"""

import ipaddress
import json
import socketserver
import sys
import threading

import pytest

from tests.e2e import world
from tests.helpers.mesh import ROOT, STACK, Mesh
from tests.helpers.stacks import on_this_kernel
from tests.helpers.swarm import Task

pytestmark = pytest.mark.docker

LISTEN_PORT = 7777
FORWARDING = "/proc/sys/net/ipv4/ip_forward"
CLOSED = {"no route", "silence"}  # `refused` would be an answer


def addresses(mesh: Mesh, service: str) -> tuple[str, str]:
    """A sidecar's address on the mesh, and on the network of its app."""
    found = mesh.sidecar(service).addresses
    return found["mesh"], found[f"{STACK}_{service}-pod"]


def bridge(mesh: Mesh) -> str:
    """The host's address on docker_gwbridge."""
    form = "{{(index .IPAM.Config 0).Gateway}}"
    return mesh.engine.docker("network", "inspect", "--format", form, "docker_gwbridge").strip()


@pytest.fixture(scope="module")
def host_listens():
    """A server on the node itself, at every address of it."""
    with socketserver.ThreadingTCPServer(("0.0.0.0", LISTEN_PORT), socketserver.BaseRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


@pytest.fixture(scope="module")
def targets(deployed: Mesh) -> dict[str, list]:
    """Everything that the app `web` has no business with, by what it is."""
    mesh = deployed
    api_mesh, api_pod = addresses(mesh, "api")
    web_mesh, _ = addresses(mesh, "web")
    plane = mesh.engine.task("mesh-system_control-plane").addresses["mesh"]
    return {
        "another app": ["tcp", mesh.app("api").addresses[f"{STACK}_api-pod"], 8080],
        "another app, ping": ["ping", mesh.app("api").addresses[f"{STACK}_api-pod"], 0],
        "redis": ["tcp", mesh.app("redis").addresses[f"{STACK}_redis-pod"], 6379],
        "another sidecar": ["tcp", api_mesh, 15443],
        "another sidecar, ping": ["ping", api_mesh, 0],
        "another sidecar behind its app": ["tcp", api_pod, 8080],
        "the own sidecar from the mesh's side": ["tcp", web_mesh, 15443],
        "the control plane": ["tcp", plane, 15012],
        "the operators' door": ["tcp", world.NODE, 15014],
        "the outside world": ["tcp", world.OUTSIDE, 80],
        "the outside world, UDP": ["udp", world.OUTSIDE, 9000],
        "the outside world, ping": ["ping", world.OUTSIDE, 0],
        "the outside world, farther": ["tcp", world.FARTHER, 80],
        "a name server": ["udp", world.OUTSIDE, 53],
        "the host": ["tcp", world.NODE, LISTEN_PORT],
        "the host on its bridge": ["tcp", bridge(mesh), LISTEN_PORT],
        "the host, ping": ["ping", bridge(mesh), 0],
        "a published port": ["tcp", world.NODE, 8000],
        "a published port on the bridge": ["tcp", bridge(mesh), 8000],
    }


@pytest.fixture(scope="module")
def reached(deployed: Mesh, targets: dict[str, list], host_listens: None) -> dict[str, dict[str, str]]:  # noqa: ARG001
    """What came of it, tried from the app, from sidecars, and from where each thing is at home."""
    places = {
        "the app": deployed.app("web"),
        "its sidecar": deployed.sidecar("web"),
        "the other sidecar": deployed.sidecar("api"),
        "redis's sidecar": deployed.sidecar("redis"),
    }
    return {name: deployed.probe(task, "reach", json.dumps(targets)) for name, task in places.items()}


NAMES = [
    "another app",
    "another app, ping",
    "redis",
    "another sidecar",
    "another sidecar, ping",
    "another sidecar behind its app",
    "the own sidecar from the mesh's side",
    "the control plane",
    "the operators' door",
    "the outside world",
    "the outside world, UDP",
    "the outside world, ping",
    "the outside world, farther",
    "a name server",
    "the host",
    "the host on its bridge",
    "the host, ping",
    "a published port",
    "a published port on the bridge",
]


@pytest.mark.parametrize("name", NAMES)
def test_an_app_does_not_reach(reached: dict, name: str):
    """From the app nothing of it answers, yet the same probe succeeds from some other place."""
    assert reached["the app"][name] in CLOSED
    assert "answered" in {results[name] for place, results in reached.items() if place != "the app"}


BARE = "bare"
OPEN_WITHOUT_A_MESH = [name for name in NAMES if "sidecar" not in name and name != "the control plane"]


@pytest.fixture(scope="module")
def unmeshed(deployed: Mesh, host_listens: None):  # noqa: ARG001
    """The same shop without a mesh, and the same probes from its `web`, at the same things."""
    engine = deployed.engine
    text = (ROOT / "stacks/shop.yml").read_text().replace("8000:8080", "8001:8080")
    engine.deploy(BARE, on_this_kernel(text, without=("loadgen",)))
    engine.wait_stack(BARE)
    web, api, redis = (engine.task(f"{BARE}_{name}") for name in ("web", "api", "redis"))
    network = f"{BARE}_default"
    there = {
        "another app": ["tcp", api.addresses[network], 8080],
        "another app, ping": ["ping", api.addresses[network], 0],
        "redis": ["tcp", redis.addresses[network], 6379],
        "the operators' door": ["tcp", world.NODE, 15014],
        "a published port": ["tcp", world.NODE, 8001],
        "a published port on the bridge": ["tcp", bridge(deployed), 8001],
    }
    yield deployed, web, there
    engine.remove(BARE)


@pytest.fixture(scope="module")
def reached_without(unmeshed: tuple, targets: dict[str, list]) -> dict[str, str]:
    """What came of it."""
    mesh, web, there = unmeshed
    asked = {name: there.get(name, targets[name]) for name in OPEN_WITHOUT_A_MESH}
    return mesh.probe(web, "reach", json.dumps(asked))


@pytest.mark.parametrize("name", OPEN_WITHOUT_A_MESH)
def test_without_a_mesh_the_same_app_reaches(reached_without: dict[str, str], name: str):
    """The positive control of each wall: on the stack's own networks the probe is answered."""
    assert reached_without[name] == "answered"


def test_all_of_the_targets_were_judged(targets: dict[str, list]):
    """The list of names above is the list of targets."""
    assert list(targets) == NAMES


@pytest.mark.parametrize("name", [name for name in NAMES if "outside" in name or "host" in name])
def test_a_sidecar_that_publishes_nothing_has_no_way_out_either(reached: dict, name: str):
    """api's sidecar is on the mesh and on its app's network, and both are internal."""
    assert reached["the other sidecar"][name] in CLOSED


def test_through_its_sidecar_an_app_reaches_what_the_stack_gave_it(shop: Mesh):
    """The same app that reaches nothing else calls `api` by name."""
    assert shop.fetch(shop.app("web"), "http://api:8080/healthz").status == 200


def test_an_app_has_one_neighbour(deployed: Mesh):
    """Of all addresses of its network its sidecar's alone answers, but for the engine's own two.

    Those are the first address and the network's load balancer.
    """
    app, own = deployed.app("web"), addresses(deployed, "web")[1]
    [network] = json.loads(deployed.engine.docker("network", "inspect", f"{STACK}_web-pod"))
    subnet = ipaddress.ip_network(network["IPAM"]["Config"][0]["Subnet"])
    balancer = network["Containers"][f"lb-{STACK}_web-pod"]["IPv4Address"].partition("/")[0]
    found = set(deployed.probe(app, "neighbours", str(subnet)))
    assert own in found
    assert found <= {own, str(subnet[1]), balancer}


def test_a_sidecar_offers_its_app_the_ports_of_callees_alone(deployed: Mesh):
    """Of 65,535 ports: what the stack's services listen on. No admin port, no mesh port."""
    assert deployed.probe(deployed.app("web"), "ports", addresses(deployed, "web")[1]) == [6379, 8080]


def test_a_sidecar_offers_the_mesh_one_port(deployed: Mesh):
    """Of 65,535 ports on the mesh: the one with mTLS."""
    assert deployed.probe(deployed.sidecar("api"), "ports", addresses(deployed, "web")[0]) == [15443]


class Forwarder:
    """web's sidecar, asked by its app to route packets on to api's."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh, self.app, self.sidecar = mesh, mesh.app("web"), mesh.sidecar("web")

    def set_forwarding(self, value: str) -> None:
        command = f"echo {value} > {FORWARDING}"
        assert self.mesh.engine.in_network_of(self.sidecar, "sh", "-c", command).code == 0

    def forwarding(self) -> str:
        return self.mesh.engine.in_network_of(self.sidecar, "cat", FORWARDING).out.strip()

    def arrives(self) -> bool:
        """Whether a packet of the app, sent to its sidecar's MAC, comes out at api's sidecar."""
        target, own = addresses(self.mesh, "api")[0], self.app.addresses[f"{STACK}_web-pod"]
        with self.mesh.capture(self.mesh.sidecar("api")) as seen:
            told = self.mesh.probe(self.app, "reach", json.dumps({"it": ["tcp", target, 15443]}))
        assert told["it"] == "silence", "the route was not used"
        return own in seen["sources"].get(target, [])


def test_a_sidecar_does_not_route(deployed: Mesh):
    """With a route through it, packets die in the sidecar (ip_forward=0); with forwarding on they pass."""
    forwarder = Forwarder(deployed)
    target, via = addresses(deployed, "api")[0], addresses(deployed, "web")[1]
    route = ("ip", "route", "add", f"{target}/32", "via", via)
    assert deployed.engine.in_network_of(forwarder.app, *route).code == 0
    try:
        assert forwarder.forwarding() == "0"
        assert not forwarder.arrives()
        forwarder.set_forwarding("1")
        assert forwarder.arrives(), "the positive control failed"
    finally:
        forwarder.set_forwarding("0")
        deployed.engine.in_network_of(forwarder.app, "ip", "route", "del", f"{target}/32")


@pytest.mark.parametrize("service", ["web", "api", "redis", "catalog-v1"])
def test_every_sidecar_has_forwarding_off_and_no_capability(deployed: Mesh, service: str):
    """The sysctl is in force, the process has no capabilities and is not root."""
    task = deployed.sidecar(service)
    status = deployed.engine.exec(task, "cat", FORWARDING, "/proc/1/status").out.splitlines()
    fields = dict(line.split(":\t", 1) for line in status[1:] if ":\t" in line)
    assert status[0] == "0"
    assert fields["CapEff"] == fields["CapPrm"] == fields["CapBnd"] == "0" * 16
    assert set(fields["Uid"].split()) == {"65532"}


ROGUE = """
version: "3.8"
services:
  rogue:
    image: base:dev
    command: [python3, -m, http.server, "8080"]
    init: true
    networks:
      mesh:
        aliases: [api, tasks.api, default_api, default_api-sidecar, tasks.default_api-sidecar, control-plane]
    deploy: {endpoint_mode: dnsrr}
networks:
  mesh: {external: true}
"""


@pytest.fixture
def rogue(shop: Mesh):
    """A stranger's service on the mesh network, under the names of others."""
    shop.engine.deploy("rogue", ROGUE)
    shop.engine.wait_stack("rogue")
    yield shop.engine.task("rogue_rogue")
    shop.engine.remove("rogue")


def test_names_on_the_mesh_take_no_traffic_away(shop: Mesh, rogue: Task):
    """A stranger there answers to `api` and `control-plane`; calls and streams go where they went before."""
    for _ in range(20):
        assert shop.fetch(shop.app("web"), "http://api:8080/healthz").text == "ok\n"
    assert shop.run("status").code == 0
    assert '"GET' not in shop.engine.logs("rogue_rogue")
    target = {"address": addresses(shop, "api")[0], "server_name": "p8080.api.default.mesh"}
    told = shop.probe(
        rogue, "speak", json.dumps({**target, "request": "GET /healthz HTTP/1.1\r\nHost: api\r\n\r\n"})
    )
    assert told.get("refused") or told["answer"] == "", told


def test_the_outside_world_reaches_published_ports_alone(deployed: Mesh):
    """The positive side: from outside, 8000 answers, the sidecars' other ports do not."""
    ports = {str(port): ["tcp", world.ENGINE, port] for port in (8000, 15443, 15012, 15000, 6379)}
    command = (sys.executable, "-m", "tests.e2e.probe", "reach", json.dumps(ports))
    done = deployed.engine.run("ip", "netns", "exec", "outside", *command)
    told = json.loads(done.out)
    assert told.pop("8000") == "answered"
    assert "answered" not in told.values()
