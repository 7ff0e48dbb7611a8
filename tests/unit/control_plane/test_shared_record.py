"""What replicas share is never put back by a reading that was slower than a change."""

import asyncio
from datetime import UTC, datetime

import pytest

from control_plane import shared_record
from control_plane.denylist import DenyList
from control_plane.errors import StoreError
from control_plane.store.revisions import Document
from control_plane.store.sqlite import SqliteStore
from control_plane.token_ledger import TokenLedger
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


NOW = datetime(2026, 11, 26, tzinfo=UTC)


async def test_what_a_newer_release_stored_stops_nobody(tmp_path, monkeypatch):
    """A revision that is not understood is told, what is held stays, and the next good one is taken."""
    monkeypatch.setattr(shared_record, "FOLLOW_S", 0.01)
    stores = [SqliteStore(tmp_path / "denied.sqlite") for _ in range(2)]
    here, there = (DenyList(store, lambda _services: None) for store in stores)
    await there.deny(API, author="a", message="")
    await here.start()
    following = asyncio.get_running_loop().create_task(here.follow())
    await stores[1].append((Document("spiffe://of/another/kind", ""),), author="b", expected=1, now=NOW)
    async with asyncio.timeout(5):
        while not here.problem:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert "the deny-list" in here.problem
    assert here.services == {API}
    with pytest.raises(StoreError, match="revision 2 is not understood by this release"):
        await there.refresh()
    await stores[1].append(
        (Document(str(API), ""), Document("shop/web", "")), author="b", expected=2, now=NOW
    )
    async with asyncio.timeout(5):
        while here.problem:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert here.services == {API, ServiceName("shop", "web")}
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    for store in stores:
        await store.close()


async def test_a_member_that_a_newer_release_adds_to_a_join_token_is_passed_over(tmp_path):
    store = SqliteStore(tmp_path / "tokens.sqlite")
    text = '["ab12", "shop/api", "2026-11-26T00:00:00+00:00", "me", "", true, "", "", "", "new"]'
    await store.append((Document("ab12", text),), author="b", expected=0, now=NOW)
    ledger = TokenLedger(store, frozenset())
    await ledger.start()
    assert [each.service for each in ledger.entries()] == ["shop/api"]
    await store.close()
