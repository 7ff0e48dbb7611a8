"""What SQLite's file and the Swarm's Raft do beyond what every store promises (test_store_contract)."""

import json
import os
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest

from control_plane.errors import NotFound, StartRefused, StorageFull, StoreError
from control_plane.store.revisions import EMPTY, Document, Revision
from control_plane.store.sqlite import SqliteStore
from control_plane.store.sqlite_file import row_hash
from control_plane.store.swarm import LABEL, SwarmStore
from tests.helpers.configs import Configs

NOW = datetime(2026, 11, 24, tzinfo=UTC)
A, B = Document("a.yaml", "a: 1\n"), Document("b.yaml", "b: ünïcode\n", "shop", 7)


async def _filled(path: Path) -> None:
    store = SqliteStore(path)
    for number in range(3):
        await store.append([Document("p.yaml", "text " * 400)], author="x", expected=number, now=NOW)
    await store.close()


@pytest.mark.parametrize("keep", [0, 1, 100, 4096, 8192, 12288])
async def test_a_truncated_file_is_refused_by_name(tmp_path, keep):
    path = tmp_path / "revisions.sqlite"
    await _filled(path)
    os.truncate(path, keep)
    with pytest.raises(StartRefused, match=r"revisions\.sqlite"):
        SqliteStore(path)


async def test_a_file_of_the_schema_without_messages_is_brought_forward(tmp_path):
    """Written by the first release: the rows stay, their hashes are made anew over the new column."""
    path = tmp_path / "revisions.sqlite"
    old = "number INTEGER PRIMARY KEY, created TEXT NOT NULL, author TEXT NOT NULL, documents TEXT NOT NULL"
    with sqlite3.connect(path) as connection:
        connection.execute(f"CREATE TABLE revision ({old}, hash TEXT NOT NULL) STRICT")
        before = ""
        for number in (1, 2):
            row = (number, NOW.isoformat(), "x", json.dumps([["a.yaml", "a: 1\n", "default", 1]]))
            before = row_hash(before, *row)
            connection.execute("INSERT INTO revision VALUES (?, ?, ?, ?, ?)", (*row, before))
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    for _ in range(2):
        store = SqliteStore(path)
        assert await store.newest() == Revision(2, NOW, "x", (A,))
        await store.close()


async def test_a_file_of_the_schema_without_pins_is_brought_forward(tmp_path):
    path = tmp_path / "revisions.sqlite"
    await _filled(path)
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE pin")
        connection.execute("PRAGMA user_version = 2")
    connection.close()
    store = SqliteStore(path)
    await store.pin(2)
    assert (await store.pinned(), (await store.newest()).number) == ({2}, 3)
    await store.close()


async def test_a_file_of_a_later_release_is_refused_and_not_touched(tmp_path):
    path = tmp_path / "revisions.sqlite"
    await _filled(path)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 9")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StartRefused, match=r"revisions\.sqlite: .*version 9"):
        SqliteStore(path)
    assert path.read_bytes() == before


async def test_a_flipped_bit_in_a_text_is_refused(tmp_path):
    path = tmp_path / "revisions.sqlite"
    await _filled(path)
    data = bytearray(path.read_bytes())
    data[data.index(b"text text")] ^= 1
    path.write_bytes(data)
    with pytest.raises(StartRefused, match=r"revisions\.sqlite: is damaged"):
        SqliteStore(path)


async def test_a_missing_revision_is_refused(tmp_path):
    path = tmp_path / "revisions.sqlite"
    await _filled(path)
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM revision WHERE number = 2")
    connection.close()
    with pytest.raises(StartRefused, match="revision 2 is missing"):
        SqliteStore(path)


async def test_a_full_disk_leaves_the_old_state(tmp_path):
    """SQLite's own page limit gives the very error (SQLITE_FULL) that a full disk gives."""
    store = SqliteStore(tmp_path / "revisions.sqlite")
    await store.append([A], author="x", expected=0, now=NOW)
    await store._run(lambda c: c.execute("PRAGMA max_page_count = 4").fetchall())
    with pytest.raises(StorageFull, match="no space"):
        await store.append([Document("big", "x" * 100_000)], author="x", expected=1, now=NOW)
    assert (await store.newest()).documents == (A,)
    await store._run(lambda c: c.execute("PRAGMA max_page_count = 4000").fetchall())
    assert (await store.append([B], author="x", expected=1, now=NOW)).number == 2
    await store.close()


async def test_a_replica_sees_what_another_one_stored():
    swarm = Configs()
    ours, theirs = SwarmStore(swarm), SwarmStore(swarm)
    assert await ours.newest() == EMPTY
    for number in range(3):
        made = await theirs.append([A], author="y", expected=number, now=NOW)
    assert await ours.newest() == made
    swarm.asked.clear()
    assert await ours.newest() == made
    assert swarm.asked == ["meshpy-revision-0000000004"]  # one small question while nothing is new


async def test_old_revisions_are_pruned_and_numbers_go_on():
    swarm = Configs()
    store = SwarmStore(swarm, keep=3)
    for number in range(6):
        await store.append([Document(f"{number}", "")], author="x", expected=number, now=NOW)
    assert [r.number for r in await store.history(9)] == [6, 5, 4]
    assert await store.get(2) is None
    assert (await SwarmStore(swarm).append([A], author="x", expected=6, now=NOW)).number == 7


async def test_a_pinned_revision_outlives_the_last_ones_and_goes_when_it_is_let_go():
    swarm = Configs()
    store = SwarmStore(swarm, keep=2)
    for number in range(3):
        await store.append([A], author="x", expected=number, now=NOW)
    await store.pin(2)
    for number in range(3, 7):
        await store.append([A], author="x", expected=number, now=NOW)
    assert [r.number for r in await store.history(9)] == [7, 6, 2]
    assert await store.pinned() == {2}
    await store.unpin(2)
    later = SwarmStore(swarm, keep=2)  # a control plane that starts again finds what is too old
    await later.append([A], author="x", expected=7, now=NOW)
    assert [r.number for r in await later.history(9)] == [8, 7]
    with pytest.raises(NotFound):
        await later.pin(2)


async def test_pruning_looks_at_what_fell_out_and_not_at_everything():
    swarm = Configs()
    store = SwarmStore(swarm, keep=2)
    for number in range(5):
        await store.append([A], author="x", expected=number, now=NOW)
    swarm.asked.clear()
    await store.append([A], author="x", expected=5, now=NOW)
    assert "list" not in swarm.asked
    assert [r.number for r in await store.history(9)] == [6, 5]


async def test_a_pin_that_another_replica_set_is_seen_by_the_one_that_prunes():
    swarm = Configs()
    ours, theirs = SwarmStore(swarm, keep=2), SwarmStore(swarm, keep=2)
    for number in range(3):
        await ours.append([A], author="x", expected=number, now=NOW)
    await theirs.pin(2)
    await ours.append([A], author="x", expected=3, now=NOW)
    assert [r.number for r in await theirs.history(9)] == [4, 3, 2]


async def test_a_swarm_that_fails_is_a_store_error_and_is_asked_again():
    swarm = Configs()
    store = SwarmStore(swarm)
    made = await store.append([A], author="x", expected=0, now=NOW)
    swarm.failure = "The swarm does not have a leader"
    for ask in (
        store.newest(),
        store.get(1),
        store.history(1),
        store.append([B], author="x", expected=1, now=NOW),
    ):
        with pytest.raises(StoreError, match="does not have a leader"):
            await ask
    swarm.failure = ""
    assert await store.newest() == made


async def test_a_config_that_was_tampered_with_is_refused_by_name():
    swarm = Configs()
    store = SwarmStore(swarm)
    await store.append([A], author="x", expected=0, now=NOW)
    held = swarm.held["meshpy-revision-0000000001"]["Spec"]
    held["Data"] = held["Data"][:-8] + "AAAAAAA="
    with pytest.raises(StoreError, match="meshpy-revision-0000000001 is damaged"):
        await SwarmStore(swarm).newest()
    swarm.held["meshpy-revision-0000000002"] = {
        "Spec": {"Name": "meshpy-revision-0000000002", "Labels": {LABEL: "2"}}
    }
    with pytest.raises(StoreError, match="0000000002 is damaged"):
        await store.get(2)


async def test_a_set_that_no_config_can_hold_is_refused_whole():
    import random

    noise = "".join(random.Random(1).choices("0123456789abcdef", k=2_500_000))
    store = SwarmStore(Configs())
    with pytest.raises(StorageFull, match="--store sqlite"):
        await store.append([Document("big", noise)], author="x", expected=0, now=NOW)
    assert await store.newest() == EMPTY
