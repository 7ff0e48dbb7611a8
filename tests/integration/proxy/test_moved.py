"""A callee that moved while no control plane tells: the engine's DNS leads there, the handshake proves it."""

from __future__ import annotations

import asyncio
import ipaddress
from dataclasses import replace

from meshpy.model.endpoint import Endpoint
from meshpy.model.names import ServiceName
from proxy.moved import Moved
from tests.helpers.backends import backend
from tests.helpers.ports import free_port
from tests.helpers.sidecars import (
    API,
    LOOPBACK,
    Client,
    inbound_snapshot,
    mesh_cluster,
    outbound_snapshot,
    running,
)

GONE = "127.0.0.9"
AT = "tasks.shop_api-sidecar"


async def test_a_callee_that_moved_is_found_by_its_name_and_nobody_else_can_stand_there(pki):
    port, mesh_port, thief_port = free_port(), free_port(), free_port()
    places = {AT: [LOOPBACK]}
    asked: list[str] = []

    async def look_up(name: str) -> list[str]:
        asked.append(name)
        return places.get(name, [])

    def caller(at: int):
        cluster = mesh_cluster(at)
        cluster = replace(cluster, endpoints=(Endpoint(GONE, at, API),))
        return outbound_snapshot(port, {cluster.name: cluster})

    thief = replace(inbound_snapshot(80, (Endpoint(LOOPBACK, 1),)))
    thief = replace(thief, workload=replace(thief.workload, name=ServiceName("shop", "thief")))
    async with (
        backend() as app,
        running(inbound_snapshot(80, (Endpoint(LOOPBACK, app.port),)), pki, mesh_port=mesh_port),
        running(thief, pki, mesh_port=thief_port),
        running(caller(mesh_port), pki) as web,
    ):
        clusters = web.clusters
        clusters._moved, clusters.pods = Moved(look_up), (ipaddress.ip_network("10.0.7.0/24"),)

        async def answered() -> int:
            async with await Client.connect(port) as client:
                return (await client.get("/")).status

        async def becomes(status: int) -> bool:
            for _ in range(40):
                if await answered() == status:
                    return True
                await asyncio.sleep(0.1)
            return False

        assert await answered() == 503
        await asyncio.sleep(1.1)
        assert asked == []  # while the control plane tells, nobody else is asked
        clusters.is_alone = True
        assert await becomes(200)
        assert set(asked) == {AT}
        await web.apply(caller(thief_port))  # what the control plane says is what counts
        assert await answered() == 503
        await asyncio.sleep(1.5)
        assert await answered() == 503  # another identity answers there
        assert len(app.requests) == 1
