"""Revisions as Docker configs of a real Swarm."""

import asyncio
import os
import random
from datetime import UTC, datetime

import pytest

from control_plane.discovery.docker_client import DockerClient
from control_plane.errors import Conflict
from control_plane.store.revisions import Document
from control_plane.store.swarm import SwarmStore

pytestmark = pytest.mark.docker
NOW = datetime(2026, 11, 26, tzinfo=UTC)


@pytest.fixture
async def stores(engine):
    """Eight replicas on one Swarm, which holds no revisions before and after."""
    clients = [DockerClient(os.environ["MESHPY_E2E_DOCKER_HOST"]) for _ in range(8)]
    yield [SwarmStore(client, keep=3) for client in clients]
    for name in engine.docker(
        "config", "ls", "--filter", "label=meshpy.revision", "--format", "{{.Name}}"
    ).split():
        engine.docker("config", "rm", name)
    for client in clients:
        await client.close()


@pytest.mark.filterwarnings("ignore:Sending a large body")  # aiodocker hands aiohttp the bytes as they are
async def test_of_eight_replicas_one_stores_the_revision_and_all_read_it(stores):
    noise = "".join(random.Random(3).choices("0123456789abcdef", k=1_500_000))
    writes = [
        store.append([Document(f"{i}.yaml", noise)], author=f"r{i}", expected=0, now=NOW, message="größe")
        for i, store in enumerate(stores)
    ]
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    made = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
    assert len(made) == 1, [str(outcome)[:300] for outcome in outcomes]
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 7
    assert [await store.newest() for store in stores] == made * 8


async def test_old_revisions_are_pruned_on_the_swarm(stores):
    store = stores[0]
    for number in range(5):
        await store.append([Document("a.yaml", "a: 1")], author="x", expected=number, now=NOW)
    assert [revision.number for revision in await store.history(9)] == [5, 4, 3]
    assert (await stores[1].newest()).number == 5


@pytest.mark.filterwarnings("ignore:Sending a large body")
async def test_a_pinned_revision_outlives_the_others_on_the_swarm(stores):
    """A pin is a label of the config; setting it leaves the content as it is."""
    ours, theirs = stores[:2]
    noise = "".join(random.Random(5).choices("0123456789abcdef", k=1_500_000))
    made = [
        await ours.append([Document("a.yaml", noise)], author="x", expected=number, now=NOW)
        for number in range(2)
    ]
    await theirs.pin(1)
    for number in range(2, 6):
        await ours.append([Document("a.yaml", "a: 1")], author="x", expected=number, now=NOW)
    assert [revision.number for revision in await theirs.history(9)] == [6, 5, 4, 1]
    assert (await ours.pinned(), await ours.get(1)) == ({1}, made[0])
    await ours.unpin(1)
    assert await theirs.pinned() == frozenset()
