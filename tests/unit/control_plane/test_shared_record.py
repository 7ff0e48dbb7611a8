"""What replicas share is never put back by a reading that was slower than a change."""

import asyncio

from control_plane.denylist import DenyList
from control_plane.store.sqlite import SqliteStore
from meshpy.model.names import ServiceName

API = ServiceName("shop", "api")


class SlowReader:
    """A store of which one reading comes back late: it has read already, and waits until it may say so."""

    def __init__(self, store):
        self._store = store
        self.append = store.append
        self.has_read, self.may_answer = asyncio.Event(), asyncio.Event()
        self.is_slow = False

    async def newest(self):
        found = await self._store.newest()
        if self.is_slow:
            self.is_slow = False
            self.has_read.set()
            await self.may_answer.wait()
        return found


async def test_a_reading_that_began_before_a_change_does_not_undo_it(tmp_path):
    store = SqliteStore(tmp_path / "denied.sqlite")
    slow, told = SlowReader(store), []
    denied = DenyList(slow, told.append)
    await denied.start()
    slow.is_slow = True
    async with asyncio.TaskGroup() as group:
        group.create_task(denied.refresh())
        await slow.has_read.wait()
        revoking = group.create_task(denied.deny(API, author="a", message=""))
        await asyncio.sleep(0.05)
        slow.may_answer.set()
        await revoking
    assert denied.services == {API}
    assert told == [{API}]
    await store.close()


async def test_a_replica_takes_what_another_one_stored(tmp_path):
    stores = [SqliteStore(tmp_path / "denied.sqlite") for _ in range(2)]
    here, there = (DenyList(store, lambda _services: None) for store in stores)
    await here.start()
    await there.deny(API, author="a", message="")
    assert here.services == set()
    await here.refresh()
    assert here.services == {API}
    for store in stores:
        await store.close()
