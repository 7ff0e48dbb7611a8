"""The quick start and the examples, followed word by word on a Swarm; what they promise is seen.

Last of all files, by its name: the stack of the other tests makes room for the one of the docs. The examples
`two-stacks` and `job` are followed in test_shapes, whose stacks they are.
"""

import re
from collections.abc import Iterator

import pytest

from tests.e2e import images, test_shapes
from tests.e2e.reader import Reader
from tests.helpers.mesh import ROOT, STACK, Mesh
from tests.helpers.walk import WALKED, steps_of

pytestmark = pytest.mark.docker

ON_THE_SHOP = ("canary", "blue-green", "mirror", "fault", "rate-limit", "jwt", "tcp")
ON_THE_WORKSHOP = ("ext-authz", "websocket", "egress", "grpc")
ON_THEIR_OWN = ("traefik", "migration")


@pytest.fixture(scope="module")
def shop(reader: Reader, mesh: Mesh) -> Iterator[Reader]:
    """After the quick start; no other stack is in its way, and it is in nobody's way afterwards."""
    engine = mesh.engine
    engine.docker("stack", "rm", STACK)
    containers = ("ps", "-q", "-f", f"name={STACK}_")
    engine.wait("the other stack has left", lambda: not engine.docker(*containers).strip())
    pages = steps_of((ROOT / "docs/quick-start.md").read_text())
    elsewhere = tuple(
        {step.name for step in pages if not step.name.startswith("swarm: ")} | {"swarm: deploy"}
    )
    reader.follow("docs/quick-start.md", leave_out=elsewhere)
    yield reader
    engine.docker("stack", "rm", "shop")


@pytest.fixture(scope="module")
def workshop(shop: Reader, mesh: Mesh) -> Iterator[Reader]:
    """The second stack of the examples."""
    images.build_workshop(mesh.engine.host)
    mesh.ok(
        "deploy",
        "--endpoint-mode",
        "dnsrr",
        "--no-encrypt",
        "-c",
        "stacks/examples/workshop/stack.yml",
        "workshop",
    )
    yield shop
    mesh.engine.docker("stack", "rm", "workshop")


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


@pytest.mark.usefixtures("traefik")
@pytest.mark.parametrize("name", ON_THEIR_OWN)
def test_an_example_with_its_own_stacks_shows_what_it_says(reader: Reader, mesh: Mesh, name: str):
    mesh.set_policies()
    reader.follow(f"stacks/examples/{name}/README.md")


@pytest.mark.parametrize("page", WALKED)
def test_the_commands_of_operators_work_word_by_word(shop: Reader, mesh: Mesh, page: str):
    """On the shop under its own policies, which lie in `policies/` as an operator would keep them."""
    policies = shop.folder / "policies"
    policies.mkdir(exist_ok=True)
    for file in (ROOT / "stacks/shop-policies").iterdir():
        named = re.sub(r"^(metadata:\n)", r"\1  namespace: shop\n", file.read_text(), flags=re.MULTILINE)
        (policies / file.name).write_text(named)
    (shop.folder / "phrase").write_text("a phrase of an operator\n")
    mesh.ok("apply", "--prune", "-f", str(policies))
    shop.follow(page, only=("swarm",))


def test_no_example_is_left_out():
    folders = {path.parent.name for path in (ROOT / "stacks/examples").glob("*/README.md")}
    assert folders == {*ON_THE_SHOP, *ON_THE_WORKSHOP, *ON_THEIR_OWN, *test_shapes.EXAMPLES}
