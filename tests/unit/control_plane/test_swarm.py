"""Discovery from a Swarm survives everything an engine can do: it keeps what it knew, and says so."""

import asyncio
from dataclasses import replace

import pytest

from control_plane.discovery.swarm import SwarmDiscovery
from control_plane.errors import DiscoveryError
from meshpy.model.names import ServiceName
from tests.helpers.docker_answers import answers, task

API = ServiceName("shop", "api")


class Engine:
    """An engine that answers what the test says."""

    def __init__(self):
        self.now = answers()
        self.broken = None
        self.changed = None
        self.lists = 0

    def _answer(self, what):
        if self.broken:
            raise DiscoveryError(self.broken)
        return what

    async def everything(self):
        self.lists += 1
        return self._answer(self.now)

    async def tasks(self):
        return self._answer(self.now.tasks)

    async def watch(self, changed):
        self.changed = changed
        await asyncio.Event().wait()


class World:
    def __init__(self, **timing):
        self.engine = Engine()
        self.views = []
        self.discovery = SwarmDiscovery(self.engine, **timing)
        self.seen = asyncio.Event()

    def publish(self, view):
        self.views.append(view)
        self.seen.set()

    def addresses(self):
        return [e.address for e in self.views[-1].inventory.services[API].endpoints]

    async def until(self, is_so):
        async with asyncio.timeout(5):
            while not is_so():  # noqa: ASYNC110 - what is watched has no event
                await asyncio.sleep(0.005)

    async def __aenter__(self):
        self.running = asyncio.get_running_loop().create_task(self.discovery.run(self.publish))
        await self.until(lambda: self.views)
        return self

    async def __aexit__(self, *_):
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)


async def test_a_new_task_appears_with_the_next_poll():
    async with World(poll_s=0.01) as world:
        world.engine.now = replace(world.engine.now, tasks=[task(1), task(2, mesh="10.0.1.8")])
        await world.until(lambda: world.addresses() == ["10.0.1.7", "10.0.1.8"])


async def test_a_task_that_shuts_down_leaves_with_the_next_poll():
    async with World(poll_s=0.01) as world:
        world.engine.now = replace(
            world.engine.now, tasks=[task(1, desired="shutdown"), task(2, mesh="10.0.1.8")]
        )
        await world.until(lambda: world.addresses() == ["10.0.1.8"])


async def test_an_event_brings_a_full_list_at_once():
    async with World(poll_s=60, relist_s=60) as world:
        before = world.engine.lists
        await world.until(lambda: world.engine.changed)
        world.engine.changed()
        await world.until(lambda: world.engine.lists > before)


async def test_without_any_event_the_list_is_read_again():
    async with World(poll_s=60, relist_s=0.01) as world:
        await world.until(lambda: world.engine.lists >= 3)


@pytest.mark.parametrize("lost", ["services", "tasks", "nodes"])
async def test_a_suddenly_empty_list_changes_nothing_and_is_reported(lost):
    async with World(poll_s=0.01, relist_s=0.01) as world:
        world.engine.now = replace(world.engine.now, **{lost: []})
        await world.until(lambda: world.discovery.health.failures > 2)
        assert (world.addresses(), len(world.views)) == (["10.0.1.7"], 1)
        assert lost in world.discovery.health.problem


@pytest.mark.parametrize("broken", ["refused", "HTTP 500", "timed out"])
async def test_a_failed_read_changes_nothing_and_is_reported(broken):
    async with World(poll_s=0.01, relist_s=0.01) as world:
        world.engine.broken = broken
        await world.until(lambda: world.discovery.health.failures > 2)
        assert (world.addresses(), len(world.views)) == (["10.0.1.7"], 1)
        assert world.discovery.health.problem == broken
        world.engine.broken = None
        await world.until(lambda: not world.discovery.health.problem)


async def test_half_an_answer_changes_nothing():
    async with World(poll_s=0.01, relist_s=0.01) as world:
        world.engine.now = replace(world.engine.now, tasks=[{"ID": "x"}])
        await world.until(lambda: world.discovery.health.failures > 2)
        assert world.addresses() == ["10.0.1.7"]


async def test_the_same_answer_is_published_once():
    async with World(poll_s=0.01, relist_s=0.01) as world:
        await world.until(lambda: world.engine.lists >= 4)
        assert len(world.views) == 1
