"""Discovery on a Swarm of three managers whose leader is killed: no endpoint is lost, the return is believed.

A Swarm of its own beside the one of the other tests. Discovery reads one of the managers that stay.
"""

import asyncio

import pytest

from tests.e2e.managers import Watch, kill_leader, three_managers
from tests.helpers.swarm import Engine

pytestmark = pytest.mark.docker

BACK_S = 30.0


@pytest.fixture(scope="module")
def managers(engine: Engine):
    """node-12, the leader, node-13 and node-14."""
    with three_managers(engine, (12, 13, 14), ("base:dev",)) as nodes:
        yield nodes


async def test_a_killed_leader_costs_no_endpoint_and_the_next_one_is_believed(managers):
    leader, watched, other = managers
    watch = Watch(watched.socket)
    running = asyncio.get_running_loop().create_task(watch.discovery.run(watch.publish))
    try:
        await watch.until(lambda: watch.counts and watch.counts[-1][1] == 2, 60)
        seen = len(watch.counts)
        elected = await kill_leader(leader, other)
        took = await watch.until(lambda: watch.counts[-1][1] == 3, BACK_S)
        print(
            f"a new leader after {elected:.1f} s, believed {took:.1f} s later,"
            f" reported meanwhile: {watch.problems}"
        )
        assert min(count for _, count in watch.counts[seen - 1 :]) == 2
        await watch.until(lambda: not watch.discovery.health.problem, BACK_S)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await watch.client.close()
