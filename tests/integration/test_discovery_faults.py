"""An engine that fails in every way it can, in front of real discovery: no endpoint is lost, it is told.

Times are a twentieth of the real ones: an engine that is back is believed within 1 s here, 20 s there.
"""

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from control_plane.discovery import docker_client, swarm
from control_plane.discovery.docker_client import DockerClient
from control_plane.discovery.swarm import SwarmDiscovery
from meshpy.model.names import ServiceName
from tests.helpers.docker_answers import answers, task
from tests.helpers.docker_engine import FAULTS, Engine, listening

API = ServiceName("shop", "api")
BACK_S = 2.0


@dataclass
class Watched:
    engine: Engine
    discovery: SwarmDiscovery
    views: list
    socket: Path

    def addresses(self):
        return [each.address for each in self.views[-1].inventory.services[API].endpoints]

    async def until(self, is_so, within_s=5.0):
        async with asyncio.timeout(within_s):
            while not is_so():  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    def add_task(self):
        self.engine.said = replace(self.engine.said, tasks=[task(1), task(2, mesh="10.0.1.8")])


@asynccontextmanager
async def watched(tmp_path, monkeypatch, relist_s=1.0):
    monkeypatch.setattr(docker_client, "READ_S", 0.3)
    monkeypatch.setattr(swarm, "RECONNECT_S", 0.1)
    engine, views, socket = Engine(answers()), [], tmp_path / "engine.sock"
    async with AsyncExitStack() as stack:
        host = await stack.enter_async_context(listening(engine, socket))
        client = DockerClient(host)
        stack.push_async_callback(client.close)
        discovery = SwarmDiscovery(client, poll_s=0.05, relist_s=relist_s, retry_s=0.1)
        running = asyncio.get_running_loop().create_task(discovery.run(views.append))
        seen = Watched(engine, discovery, views, socket)
        try:
            await seen.until(lambda: views and not discovery.health.problem)
            yield seen
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("fault", FAULTS)
async def test_no_endpoint_is_lost_while_an_engine_fails_and_it_is_believed_when_it_is_back(
    tmp_path, monkeypatch, fault
):
    async with watched(tmp_path, monkeypatch) as seen:
        seen.engine.fault = fault
        failures = seen.discovery.health.failures
        await seen.until(lambda: seen.discovery.health.failures >= failures + 2)
        assert (seen.addresses(), len(seen.views)) == (["10.0.1.7"], 1)
        assert seen.discovery.health.problem
        seen.add_task()
        seen.engine.fault = ""
        await seen.until(lambda: seen.addresses() == ["10.0.1.7", "10.0.1.8"], BACK_S)
        await seen.until(lambda: not seen.discovery.health.problem, BACK_S)


async def test_a_socket_that_is_gone_and_comes_back(tmp_path, monkeypatch):
    async with watched(tmp_path, monkeypatch) as seen:
        hidden = seen.socket.rename(tmp_path / "hidden.sock")
        seen.engine.fault = "closed"  # what is connected is cut
        await seen.until(lambda: seen.discovery.health.failures >= 1, 8.0)
        assert (seen.addresses(), len(seen.views)) == (["10.0.1.7"], 1)
        assert seen.discovery.health.problem
        seen.add_task()
        seen.engine.fault = ""
        hidden.rename(seen.socket)
        await seen.until(lambda: len(seen.addresses()) == 2, BACK_S)


async def test_an_engine_of_another_version_in_the_same_place_is_spoken_to_anew(tmp_path, monkeypatch):
    """A manager upgraded in place drops the version that was spoken before."""
    async with watched(tmp_path, monkeypatch) as seen:
        seen.engine.versions = ("1.44", "1.52")
        seen.add_task()
        await seen.until(lambda: len(seen.addresses()) == 2, BACK_S)
        assert any(path.startswith("/v1.52/") for _, path, _ in seen.engine.asked)


async def test_a_silent_event_stream_is_made_good_by_the_list(tmp_path, monkeypatch):
    async with watched(tmp_path, monkeypatch) as seen:
        seen.engine.is_silent = True
        said = seen.engine.said
        labels = {"meshpy.workload": "late", "meshpy.ports": "80/http"}
        late = {**said.services[1], "ID": "id-late"}
        spec = {**late["Spec"], "Name": "shop_late-sidecar", "Labels": {**late["Spec"]["Labels"], **labels}}
        seen.engine.said = replace(said, services=[*said.services, {**late, "Spec": spec}])
        name = ServiceName("shop", "late")
        await seen.until(lambda: name in seen.views[-1].inventory.services, BACK_S)


async def test_one_list_that_is_suddenly_empty_among_good_ones_changes_nothing(tmp_path, monkeypatch):
    async with watched(tmp_path, monkeypatch, relist_s=0.1) as seen:
        for what in ("services", "nodes", "networks", "tasks"):
            good = seen.engine.said
            seen.engine.said = replace(good, **{what: []})
            await seen.until(lambda what=what: what in seen.discovery.health.problem)
            assert (seen.addresses(), len(seen.views)) == (["10.0.1.7"], 1)
            seen.engine.said = good
            await seen.until(lambda: not seen.discovery.health.problem)
