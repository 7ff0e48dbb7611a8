"""The quick start and the examples, followed word by word on a Swarm; what they promise is seen.

Last of all files, by its name: the stack of the other tests makes room for the one of the docs.
"""

import os
import sys
from pathlib import Path

import pytest

from tests.helpers.mesh import ROOT, STACK, Mesh
from tests.helpers.walk import follow, missing, steps_of

pytestmark = pytest.mark.docker

IMAGES = ("meshpy-proxy", "meshpy-control-plane")
VERSION = "0.1.0"
ON_THE_SHOP = ("canary", "blue-green", "mirror", "fault", "rate-limit", "jwt", "tcp")
ON_THE_WORKSHOP = ("ext-authz", "websocket", "egress")
PLAIN = "swarm: deploy-plain"  # this kernel has neither IP_VS nor ESP


class Reader:
    """Somebody who has this checkout, a shell, and `meshpy` on the path."""

    def __init__(self, mesh: Mesh, folder: Path) -> None:
        self.folder = folder
        (folder / "stacks").symlink_to(ROOT / "stacks")
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.env = mesh.env | {"PATH": path, "LC_ALL": "C.UTF-8"}

    def follow(self, page: str, *, leave_out: tuple[str, ...] = ()) -> None:
        """Do what the page says, and look for what it says is seen."""
        for step in steps_of((ROOT / page).read_text()):
            if step.name in leave_out:
                continue
            printed = follow(step, self.folder, self.env)
            assert not (lost := missing(step.seen, printed)), f"not seen: {lost}\n{step.commands}\n{printed}"


@pytest.fixture(scope="module")
def reader(mesh: Mesh, tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """The images under the names of a release, and no other stack in the way."""
    engine = mesh.engine
    for image in IMAGES:
        engine.docker("tag", f"{image}:dev", f"{image}:{VERSION}")
    engine.docker("stack", "rm", STACK)
    containers = ("ps", "-q", "-f", f"name={STACK}_")
    engine.wait("the other stack has left", lambda: not engine.docker(*containers).strip())
    return Reader(mesh, tmp_path_factory.mktemp("reader"))


@pytest.fixture(scope="module")
def shop(reader: Reader) -> Reader:
    """After the quick start."""
    pages = steps_of((ROOT / "docs/quick-start.md").read_text())
    elsewhere = tuple(
        {step.name for step in pages if not step.name.startswith("swarm: ")} | {"swarm: deploy"}
    )
    reader.follow("docs/quick-start.md", leave_out=elsewhere)
    return reader


@pytest.fixture(scope="module")
def workshop(shop: Reader, mesh: Mesh) -> Reader:
    """The second stack of the examples."""
    mesh.ok(
        "deploy",
        "--endpoint-mode",
        "dnsrr",
        "--no-encrypt",
        "-c",
        "stacks/examples/workshop/stack.yml",
        "workshop",
    )
    return shop


def test_the_quick_start_works_word_by_word(shop: Reader):
    """From `meshpy install` to a rollback; what it wrote is there."""
    assert (shop.folder / "shop.mesh.yml").read_text() != (ROOT / "stacks/shop.yml").read_text()


@pytest.mark.parametrize("name", ON_THE_SHOP)
def test_an_example_on_the_shop_shows_what_it_says(shop: Reader, mesh: Mesh, name: str):
    mesh.set_policies(namespace="shop")
    shop.follow(f"stacks/examples/{name}/README.md")


@pytest.mark.parametrize("name", ON_THE_WORKSHOP)
def test_an_example_on_the_workshop_shows_what_it_says(workshop: Reader, mesh: Mesh, name: str):
    mesh.set_policies(namespace="workshop")
    workshop.follow(f"stacks/examples/{name}/README.md")


def test_no_example_is_left_out():
    folders = {path.parent.name for path in (ROOT / "stacks/examples").glob("*/README.md")}
    assert folders == {*ON_THE_SHOP, *ON_THE_WORKSHOP}
