"""The control plane is told whether the app was found, when that may have changed."""

import asyncio
import socket
from types import SimpleNamespace

from meshpy.model.endpoint import Cluster, Protocol, Transport
from proxy.access_log import NO_LOG
from proxy.control_stream import ControlStream
from proxy.net.addresses import Addresses
from proxy.sidecar import Sidecar


def app(name: str) -> Cluster:
    return Cluster(f"inbound|8080||{name}", Protocol.HTTP, Transport.PLAIN, dns=name, dns_port=8080)


async def test_each_change_of_whether_the_app_is_found_is_told_once(monkeypatch):
    sidecar = Sidecar(access_log=NO_LOG, addresses=Addresses({}))
    clusters, told = sidecar.clusters, asyncio.Queue()
    sidecar.snapshot.value = object()

    async def answer(name, *_args, **_kwargs):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.7.9", 8080))] if name == "api" else []

    async def put(*names: str) -> None:
        clusters.commit(await clusters.prepare({app(name).name: app(name) for name in names}))

    async def look() -> None:
        for upstream in clusters.live.values():
            await clusters._resolve(upstream)

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", answer)
    stream = ControlStream(SimpleNamespace(send_json=told.put), sidecar, None, None)
    await put("api")
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        telling = group.create_task(stream._tell_app())
        assert await told.get() == {"type": "app", "found": False}
        await look()
        assert await told.get() == {"type": "app", "found": True}
        await look()
        await put("api")
        await put("api", "gone")
        assert await told.get() == {"type": "app", "found": False}
        await put("api")
        assert await told.get() == {"type": "app", "found": True}
        assert told.empty()
        telling.cancel()
    sidecar.snapshot.value = None
    await sidecar.close()
