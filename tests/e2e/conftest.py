"""The engine that tests/e2e/run started, and one mesh with one shop on it for all tests."""

import json
import os
from pathlib import Path

import pytest

from tests.helpers.mesh import INJECT, ROOT, STACK, Mesh
from tests.helpers.swarm import Engine

SHOP_POLICIES = (ROOT / "stacks/shop-policies/access.yaml", ROOT / "stacks/shop-policies/routes.yaml")


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The running Swarm, or a skip that says how to get one."""
    host = os.environ.get("MESHPY_E2E_DOCKER_HOST")
    if host is None:
        pytest.skip("no engine: run `make e2e`")
    return Engine(host, Path(os.environ["MESHPY_E2E_SEEN"]))


@pytest.fixture(scope="session")
def mesh(engine: Engine) -> Mesh:
    """The mesh, as an operator installs it. It ends with the engine."""
    mesh = Mesh(engine, Path(os.environ["MESHPY_E2E_STATE"]) / "operator")
    mesh.ok("install", "--image", "meshpy-control-plane:dev")
    return mesh


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
