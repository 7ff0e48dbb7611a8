"""Three replicas behind one name: sidecars spread over them, and move over when one is gone."""

import asyncio
import socket
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


async def test_the_addresses_of_a_name_are_asked_in_any_order(monkeypatch):
    """And the next one, where the first takes no connection."""
    first = Counter()

    async def serve(_reader, writer):
        first[writer.get_extra_info("sockname")[0]] += 1
        writer.close()

    addresses = [f"{own_net()}.{number}" for number in (11, 12, 13)]
    servers = [await asyncio.start_server(serve, addresses[0], 0)]
    port = servers[0].sockets[0].getsockname()[1]
    servers.append(await asyncio.start_server(serve, addresses[1], port))
    called(monkeypatch, addresses)
    for _ in range(60):
        _, writer = await replicas.dial(NAME, port, None)
        writer.transport.abort()
    await until(lambda: first.total() == 60)
    assert min(first[each] for each in addresses[:2]) > 10  # by chance not once in 100,000 runs
    for server in servers:
        server.close()
    with pytest.raises(ConnectionRefusedError):
        await replicas.dial(NAME, port, None)


def called(monkeypatch, addresses):
    """NAME has these addresses, always in this order."""
    known = socket.getaddrinfo

    def look_up(host, port, *rest, **more):
        if host != NAME:
            return known(host, port, *rest, **more)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)


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
        called(monkeypatch, [f"{net}.{number}" for number in (1, 2, 3)])
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
