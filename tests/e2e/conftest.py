"""The engine that tests/e2e/run started, and one mesh with one shop on it for all tests."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.node import Node
from tests.e2e.reader import Reader
from tests.helpers.mesh import INJECT, ROOT, STACK, Mesh
from tests.helpers.swarm import Engine

NODE_IMAGES = ("base:dev", "meshpy-proxy:dev", "meshpy-shop:dev", "redis:7")
VERSION = "0.1.0"
MESH = pytest.StashKey[Mesh]()
ON_THE_SHOP = {"deployed", "reader"}  # fixtures of half the time
SHOP_POLICIES = (ROOT / "stacks/shop-policies/access.yaml", ROOT / "stacks/shop-policies/routes.yaml")


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The running Swarm, or a skip that says how to get one."""
    host = os.environ.get("MESHPY_E2E_DOCKER_HOST")
    if host is None:
        pytest.skip("no engine: run `make e2e`")
    return Engine(host, Path(os.environ["MESHPY_E2E_SEEN"]))


@pytest.fixture(scope="session")
def mesh(engine: Engine, pytestconfig: pytest.Config) -> Mesh:
    """The mesh, as an operator installs it. It ends with the engine."""
    mesh = pytestconfig.stash[MESH] = Mesh(engine, Path(os.environ["MESHPY_E2E_STATE"]) / "operator")
    mesh.ok("install", "--image", "meshpy-control-plane:dev")
    return mesh


@pytest.fixture(scope="session")
def reader(mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """A reader of the docs, who finds the images under the names of a release."""
    for image in ("meshpy-proxy", "meshpy-control-plane"):
        mesh.engine.docker("tag", f"{image}:dev", f"{image}:{VERSION}")
    return Reader(mesh, tmp_path_factory.mktemp("reader"))


@pytest.fixture(scope="session")
def traefik(engine: Engine) -> None:
    """A real Traefik as the image `traefik:v3`."""
    change = ("--change", 'ENTRYPOINT ["/traefik"]')
    engine.docker("import", *change, os.environ["MESHPY_E2E_TRAEFIK"], "traefik:v3", timeout_s=300)


@pytest.fixture(scope="session")
def deployed(mesh: Mesh) -> Mesh:
    """stacks/shop.yml, deployed as the stack `default`; its own customers are served, then sent home."""
    mesh.ok("deploy", *INJECT, "-c", "stacks/shop.yml", STACK)
    loadgen = f"{STACK}_loadgen"
    mesh.engine.wait_running(loadgen)

    def served() -> dict:
        lines = [json.loads(line) for line in mesh.engine.logs(loadgen).splitlines()]
        last = max(lines, key=lambda line: line["seconds"], default={})
        return last if last.get("GET / 200", 0) > 20 and last.get("POST /orders 201", 0) > 2 else {}

    mesh.customers = mesh.engine.wait("the shop's own customers are served", served, 90)
    mesh.engine.docker("service", "scale", "--detach", f"{loadgen}=0")
    mesh.engine.wait("the customers have left", lambda: not mesh.engine.alive(loadgen))
    return mesh


@pytest.fixture
def shop(deployed: Mesh) -> Mesh:
    """The shop under its own policies alone."""
    deployed.set_policies(*SHOP_POLICIES)
    return deployed


@pytest.fixture(scope="session")
def nodes(mesh: Mesh):
    """node-2 and node-3 as workers, until the end: tests that use them come last. The shop makes room."""
    state, log = Path(os.environ["MESHPY_E2E_STATE"]), os.environ["MESHPY_E2E_LOG"]
    engine, tarball = mesh.engine, state / "images.tar"
    engine.run("docker", "stack", "rm", STACK)
    joined = [Node(number, state, Path(f"{log}.node-{number}")) for number in (2, 3)]
    try:
        engine.docker("save", "--output", str(tarball), *NODE_IMAGES, timeout_s=300)
        token = engine.docker("swarm", "join-token", "--quiet", "worker").strip()
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda node: node.join(token, tarball), joined))
        tarball.unlink()
        engine.further |= {node.name: node.socket for node in joined}
        yield {node.name: node for node in joined}
    finally:
        for node in joined:
            node.end()
        for node in joined:
            engine.run("docker", "node", "rm", "--force", node.name)
        engine.further.clear()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--half",
        choices=("shop", "others"),
        help="tests on the shop of all and those of the docs, or those of nodes, managers and applications",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """One node first, three nodes after: a joined node would draw tasks of the others to itself."""
    if (half := config.getoption("--half", None)) is not None:
        on_the_shop = {item.path for item in items if ON_THE_SHOP & set(getattr(item, "fixturenames", ()))}
        left_out = [item for item in items if (item.path in on_the_shop) != (half == "shop")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
    items.sort(key=lambda item: "nodes" in getattr(item, "fixturenames", ()))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item):
    """A failure says what was to be seen: who is not in sync, and what the logs say."""
    report = yield
    seen = item.config.stash.get(MESH, None)
    if report.failed and seen is not None:
        try:
            report.sections.append(("the mesh", seen.describe()))
        except Exception as error:  # noqa: BLE001 (a failure is being told, whatever the state of the engine)
            report.sections.append(("the mesh", f"cannot be asked: {error!r}"))
    return report
