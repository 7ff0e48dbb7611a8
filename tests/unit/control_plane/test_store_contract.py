"""What every store promises, proved on each of them: SQLite, the Swarm's Raft, a folder with its history."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from control_plane.errors import Conflict, NotFound, ReadOnly
from control_plane.store.directory import DirectoryStore
from control_plane.store.revisions import EMPTY, Document
from control_plane.store.sqlite import SqliteStore
from control_plane.store.swarm import SwarmStore
from tests.helpers.configs import Configs

NOW = datetime(2026, 11, 24, tzinfo=UTC)
A, B = Document("a.yaml", "a: 1\n"), Document("b.yaml", "b: ünïcode\n")


@dataclass
class Kept:
    """A store that can be opened again, and how its next revision is made."""

    kind: str
    folder: Path
    swarm: Configs = field(default_factory=Configs)
    opened: list = field(default_factory=list)

    def open(self):
        if self.kind == "swarm":
            store = SwarmStore(self.swarm)
        else:
            store = SqliteStore(self.folder / "revisions.sqlite")
            if self.kind == "directory":
                (self.folder / "policies").mkdir(exist_ok=True)
                store = DirectoryStore(self.folder / "policies", store, settle_s=0)
        self.opened.append(store)
        return store

    async def write(self, store, *documents):
        """Make `documents` the newest revision."""
        if self.kind != "directory":
            number = (await store.newest()).number
            return await store.append(documents, author="x", expected=number, now=NOW)
        for old in (self.folder / "policies").iterdir():
            old.unlink()
        for document in documents:
            (self.folder / "policies" / document.name).write_text(document.text)
        return await store.newest()


@pytest.fixture(params=["sqlite", "swarm", "directory"])
async def kept(request, tmp_path):
    kept = Kept(request.param, tmp_path)
    yield kept
    for store in kept.opened:
        await store.close()


async def test_a_new_store_holds_the_empty_set(kept):
    store = kept.open()
    assert await store.newest() == EMPTY
    assert await store.get(0) == EMPTY
    assert await store.history(5) == []
    assert (await store.pinned(), store.problems) == (frozenset(), ())


async def test_a_revision_survives_closing_and_opening(kept):
    store = kept.open()
    first = await kept.write(store, A)
    second = await kept.write(store, A, B)
    assert [first.number, second.number, second.documents] == [1, 2, (A, B)]
    await kept.opened.pop().close()
    store = kept.open()
    assert (await store.newest(), await store.get(1), await store.get(3)) == (second, first, None)
    assert [r.number for r in await store.history(9)] == [2, 1]
    assert [r.number for r in await store.history(1)] == [2]
    assert [r.number for r in await store.history(9, before=2)] == [1]


async def test_a_second_replica_reads_what_the_first_one_stored(kept):
    ours, theirs = kept.open(), kept.open()
    made = await kept.write(ours, A)
    assert await theirs.newest() == made
    made = await kept.write(theirs, B)
    assert await ours.newest() == made


async def test_who_is_late_is_told_the_newest_revision_and_changes_nothing(kept):
    store = kept.open()
    await kept.write(store, A)
    with pytest.raises(ReadOnly if kept.kind == "directory" else Conflict) as caught:
        await store.append([B], author="x", expected=0, now=NOW)
    if kept.kind == "directory":
        assert str(kept.folder / "policies") in str(caught.value)
    else:
        assert caught.value.newest == 1
    assert (await store.newest()).documents == (A,)


async def test_of_eight_parallel_writers_exactly_one_wins(kept):
    stores = [kept.open() for _ in range(4)]
    if kept.kind == "directory":  # all see the same new state at once
        await stores[0].newest()
        (kept.folder / "policies" / "a.yaml").write_text(A.text)
        found = await asyncio.gather(*(store.newest() for store in stores * 2))
        assert {revision.number for revision in found} == {1}
        return
    writes = [
        store.append([Document(f"{i}", "")], author="x", expected=0, now=NOW)
        for i, store in enumerate(stores * 2)
    ]
    outcomes = await asyncio.gather(*writes, return_exceptions=True)
    assert sum(isinstance(outcome, Conflict) for outcome in outcomes) == 7
    assert (await stores[0].newest()).number == 1


async def test_a_revision_carries_its_message(kept):
    if kept.kind == "directory":
        (kept.folder / ".git").mkdir()
        (kept.folder / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
        (kept.folder / ".git" / "refs" / "heads").mkdir(parents=True)
        (kept.folder / ".git" / "refs" / "heads" / "main").write_text("c" * 40 + "\n")
        assert (await kept.write(kept.open(), A)).message == "commit " + "c" * 40
        return
    store = kept.open()
    why = "close the back office — #42"
    said = await store.append([A], author="x", expected=0, now=NOW, message=why)
    assert (await store.newest(), said.message) == (said, why)


async def test_pins_are_kept_shared_and_let_go(kept):
    store = kept.open()
    for document in (A, B, A):
        await kept.write(store, document)
    await store.pin(1)
    await store.pin(2)
    await store.pin(2)
    assert await kept.open().pinned() == {1, 2}
    await store.unpin(1)
    await store.unpin(1)
    await kept.opened.pop(0).close()
    assert await kept.open().pinned() == {2}


async def test_what_does_not_exist_cannot_be_pinned(kept):
    store = kept.open()
    await kept.write(store, A)
    with pytest.raises(NotFound, match="revision 7"):
        await store.pin(7)
    await store.unpin(7)
    await store.pin(0)  # the empty set is always there
    assert await store.pinned() == frozenset()


async def test_who_may_write_is_told_before_anything_is_prepared(kept):
    store = kept.open()
    if kept.kind == "directory":
        with pytest.raises(ReadOnly):
            store.check_writable()
    else:
        store.check_writable()
