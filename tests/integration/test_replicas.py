"""Three replicas behind one name: sidecars spread over them, and move over when one is gone."""

from collections import Counter
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pytest

from certs.store import CaStore
from control_plane.settings import Listen
from meshpy.model.inventory import Inventory
from proxy import replicas
from tests.helpers.control_plane import API, WEB, plane, service, write_inventory
from tests.helpers.lines import line, options, own_net, until

SIDECARS = 9
ALONE = Inventory(
    {name: replace(service(name), networks=frozenset({name.name}), bind={}) for name in (API, WEB)}
)
"""Nobody calls anybody, so that many sidecars can be in one process."""
NAME = "control-plane.mesh-system"


class Names:
    """A resolver that knows one name; the addresses come sorted, as the system's do."""

    def __init__(self, addresses):
        self.addresses = addresses

    async def resolve(self, host, port=0, _family=0):
        assert host == NAME
        return [
            {"hostname": host, "host": each, "port": port, "family": 2, "proto": 0, "flags": 0}
            for each in self.addresses
        ]

    async def close(self):
        pass


async def test_the_addresses_of_a_name_come_in_any_order():
    first = Counter()
    resolver = replicas.AnyReplica(Names(["127.0.0.1", "127.0.0.2", "127.0.0.3"]))
    for _ in range(300):
        found = await resolver.resolve(NAME, 1)
        assert len({each["host"] for each in found}) == 3
        first[found[0]["host"]] += 1
    assert min(first[f"127.0.0.{each}"] for each in (1, 2, 3)) > 50


@asynccontextmanager
async def three(tmp_path, monkeypatch):
    """Three planes with one CA and one join key on three addresses, behind NAME."""
    from datetime import UTC, datetime

    CaStore(tmp_path / "ca").load_or_create("cluster.local", datetime.now(UTC))
    net, planes, port = own_net(), [], 0
    async with AsyncExitStack() as stack:
        for number in (1, 2, 3):
            folder = tmp_path / f"plane{number}"
            folder.mkdir()
            write_inventory(folder / "inventory.json", ALONE)
            ends = AsyncExitStack()
            listen = Listen(f"{net}.{number}", port)
            mesh = await ends.enter_async_context(
                plane(folder, sidecar_listen=listen, ca_dir=tmp_path / "ca")
            )
            port = mesh.running.sidecar_port
            stack.push_async_callback(ends.aclose)
            planes.append((mesh, ends))
        names = Names([f"{net}.{number}" for number in (1, 2, 3)])
        monkeypatch.setattr(replicas.aiohttp, "ThreadedResolver", lambda: names)
        yield planes


def connected(mesh):
    return len(list(mesh.running.parts.distribution.states()))


@pytest.mark.filterwarnings("ignore::ResourceWarning")
async def test_sidecars_spread_and_move_over_when_a_replica_is_gone(tmp_path, monkeypatch):
    async with three(tmp_path, monkeypatch) as planes, AsyncExitStack() as lines:
        first = planes[0][0]
        how = [replace(await options(first, name), address=NAME) for name in (API, WEB)]
        sidecars = [
            (await lines.enter_async_context(line(replace(how[number % 2], task=f"t{number}"))))[0]
            for number in range(SIDECARS)
        ]
        await until(lambda: sum(connected(mesh) for mesh, _ in planes) == SIDECARS, 20)
        await until(lambda: all(each.snapshot.value is not None for each in sidecars), 20)
        held = [each.snapshot.value.version for each in sidecars]
        spread = [connected(mesh) for mesh, _ in planes]
        assert max(spread) < SIDECARS, "all asked the same replica"  # by chance once in 6,500 runs
        busiest = spread.index(max(spread))
        await planes[busiest][1].aclose()
        rest = [mesh for number, (mesh, _) in enumerate(planes) if number != busiest]
        await until(lambda: sum(connected(mesh) for mesh in rest) == SIDECARS, 20)
        assert [each.snapshot.value.version for each in sidecars] == held
        assert all(each.is_ready for each in sidecars)
