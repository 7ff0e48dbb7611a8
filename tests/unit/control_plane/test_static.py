"""Discovery from files: a change is seen, a mistake is reported and changes nothing."""

import asyncio
import json

import pytest

from control_plane.discovery.stack_file import read_stack
from control_plane.discovery.static import StaticDiscovery, read_inventory
from control_plane.errors import DiscoveryError
from meshpy.model.names import ServiceName
from tests.helpers.control_plane import shop, write_inventory

STACK = """\
services:
  web:
    image: x
    ports: ["80:80"]
    environment: {API: "http://api:8080"}
  api:
    image: x
"""


async def test_a_file_is_published_once_and_again_when_it_changes(tmp_path):
    path, views = tmp_path / "inventory.json", []
    write_inventory(path, shop())
    discovery = StaticDiscovery(path, lambda: read_inventory(path), poll_s=0.01)
    running = asyncio.get_running_loop().create_task(discovery.run(views.append))

    async def until(is_so):
        async with asyncio.timeout(5):
            while not is_so():  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    await until(lambda: views)
    await asyncio.sleep(0.05)
    assert [view.inventory for view in views] == [shop()]
    path.write_text("{")
    await until(lambda: discovery.health.problem)
    path.unlink()
    await until(lambda: "No such file" in discovery.health.problem)
    write_inventory(path, shop(("127.0.0.8",)))
    await until(lambda: len(views) == 2)
    assert views[1].inventory == shop(("127.0.0.8",))
    assert discovery.health.problem == ""
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"services": 1}', "[" * 100_000, json.dumps({"servces": {}}), "\ud800"]
)
def test_what_is_no_inventory_is_named(tmp_path, text):
    (tmp_path / "f.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(DiscoveryError, match=r"f\.json"):
        read_inventory(tmp_path / "f.json")


def test_a_stack_file_is_read_as_if_it_were_deployed(tmp_path):
    (tmp_path / "stack.yml").write_text(STACK)
    services = read_stack(tmp_path / "stack.yml", "shop").services
    assert [port.number for port in services[ServiceName("shop", "api")].ports] == [8080]


def test_a_bad_stack_file_is_named(tmp_path):
    (tmp_path / "stack.yml").write_text(STACK.replace("image", "imge"))
    with pytest.raises(DiscoveryError, match=r"stack\.yml"):
        read_stack(tmp_path / "stack.yml", "shop")
    with pytest.raises(DiscoveryError, match="absent"):
        read_stack(tmp_path / "absent.yml", "shop")
