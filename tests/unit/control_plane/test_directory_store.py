"""A folder as the source of policies: what counts, what waits, and what keeps the last good state."""

import os

import pytest

from control_plane.errors import StartRefused
from control_plane.language import MeshLanguage
from control_plane.store.directory import DirectoryStore
from control_plane.store.sqlite import SqliteStore
from tests.helpers.control_plane import DENY_ALL

GOOD = DENY_ALL
BAD = DENY_ALL.replace("types:", "typs:")


@pytest.fixture
async def world(tmp_path):
    """(folder, open): a folder with one policy, and a store on it that reads policies as the mesh does."""
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "deny.yaml").write_text(GOOD)
    opened = []

    async def check(documents):
        MeshLanguage("cluster.local").read(documents)

    def open_store(settle_s=0.0):
        history = SqliteStore(tmp_path / "revisions.sqlite")
        opened.append(DirectoryStore(folder, history, check=check, settle_s=settle_s))
        return opened[-1]

    yield folder, open_store
    for store in opened:
        await store.close()


async def test_a_wrong_file_keeps_the_last_good_state_and_is_told_with_its_line(world):
    folder, open_store = world
    store = open_store()
    good = await store.newest()
    (folder / "net").mkdir()
    (folder / "net" / "more.yaml").write_text(BAD)
    assert await store.newest() == good
    assert store.problems[0].startswith("net/more.yaml:6:")
    assert "typs" in store.problems[0]
    (folder / "net" / "more.yaml").write_text(GOOD.replace("deny-all", "more"))
    assert (await store.newest()).number == 2
    assert store.problems == ()


async def test_a_wrong_state_that_is_taken_back_leaves_no_revision(world):
    folder, open_store = world
    store = open_store()
    good = await store.newest()
    (folder / "deny.yaml").write_text(BAD)
    assert await store.newest() == good
    (folder / "deny.yaml").write_text(GOOD)
    assert (await store.newest(), store.problems) == (good, ())


async def test_what_editors_and_git_leave_behind_is_no_policy(world):
    folder, open_store = world
    store = open_store()
    good = await store.newest()
    for name in (".deny.yaml.swp", "deny.yaml~", "#deny.yaml#", "deny.yaml.tmp", "4913", "notes.md"):
        (folder / name).write_text("half {")
    (folder / ".#deny.yaml").symlink_to("someone@host.1234")
    (folder / ".git").mkdir()
    (folder / ".git" / "x.yaml").write_text("half {")
    assert (await store.newest(), store.problems) == (good, ())


async def test_a_state_is_taken_once_nobody_has_written_for_a_while(world, monkeypatch):
    folder, open_store = world
    store = open_store(settle_s=5.0)
    clock = [100.0]
    monkeypatch.setattr("control_plane.store.directory.time.monotonic", lambda: clock[0])
    assert (await store.newest()).number == 1
    for size in (1, 2, 3):  # a slow writer: never older than 4 s
        (folder / "slow.yaml").write_text("# " + "x" * size)
        assert (await store.newest()).number == 1
        clock[0] += 4
        assert (await store.newest()).number == 1
    (folder / "slow.yaml").write_text(GOOD.replace("deny-all", "slow"))
    assert (await store.newest()).number == 1
    clock[0] += 5
    assert "slow" in (await store.newest()).documents[1].text


async def test_a_file_that_is_written_while_it_is_read_is_read_again(world, monkeypatch):
    folder, open_store = world
    store = open_store()
    good = await store.newest()
    from control_plane.store import directory

    real = directory.read

    def late(state):
        (folder / "more.yaml").write_text(GOOD.replace("deny-all", "more"))
        monkeypatch.setattr(directory, "read", real)
        return real(state)

    (folder / "more.yaml").write_text("kind: Network")
    monkeypatch.setattr(directory, "read", late)
    assert await store.newest() == good
    assert "more.yaml: is being written" in store.problems[0]
    assert ((await store.newest()).number, store.problems) == (2, ())


@pytest.mark.parametrize("loss", ["emptied", "removed"])
async def test_a_folder_that_is_suddenly_empty_or_gone_opens_nothing(world, loss):
    folder, open_store = world
    store = open_store()
    good = await store.newest()
    (folder / "deny.yaml").unlink()
    if loss == "removed":
        folder.rmdir()
    assert await store.newest() == good
    assert str(folder) in store.problems[0]
    folder.mkdir(exist_ok=True)
    (folder / "none.yaml").write_text("# no policies, and that is meant\n")
    assert ((await store.newest()).number, store.problems) == (2, ())


async def test_a_link_out_of_the_folder_is_refused_and_one_inside_followed(world, tmp_path):
    folder, open_store = world
    store = open_store()
    good = await store.newest()
    (tmp_path / "secret.yaml").write_text("token: 1")
    (folder / "link.yaml").symlink_to(tmp_path / "secret.yaml")
    assert await store.newest() == good
    assert "link.yaml: leads out" in store.problems[0]
    (folder / "link.yaml").unlink()
    (folder / ".data").mkdir()
    (folder / ".data" / "x").write_text(GOOD.replace("deny-all", "linked"))
    (folder / "link.yaml").symlink_to(".data/x")
    assert (await store.newest()).number == 2


async def test_a_checkout_that_is_swapped_behind_a_link_is_taken(tmp_path):
    for name, text in (("one", GOOD), ("two", GOOD.replace("deny-all", "two"))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "p.yaml").write_text(text)
    (tmp_path / "current").symlink_to("one")
    store = DirectoryStore(tmp_path / "current", SqliteStore(tmp_path / "r.sqlite"), settle_s=0)
    assert (await store.newest()).number == 1
    (tmp_path / "next").symlink_to("two")
    os.replace(tmp_path / "next", tmp_path / "current")
    assert "two" in (await store.newest()).documents[0].text
    await store.close()


@pytest.mark.parametrize("wrong", [BAD.encode(), b"a: \xff\n", None])
async def test_a_first_state_that_is_wrong_refuses_the_start(world, wrong):
    """Nothing good is known that could stay in force, and no policies at all would be an open mesh."""
    folder, open_store = world
    (folder / "deny.yaml").unlink()
    if wrong is None:
        folder.rmdir()
    else:
        (folder / "deny.yaml").write_bytes(wrong)
    with pytest.raises(StartRefused, match=r"deny\.yaml:[0-9]" if wrong else "policies: cannot be read"):
        await open_store().newest()


async def test_a_wrong_state_at_a_later_start_keeps_the_last_good_one(world):
    folder, open_store = world
    good = await open_store().newest()
    (folder / "deny.yaml").write_text(BAD)
    store = open_store()
    assert await store.newest() == good
    assert "deny.yaml:6" in store.problems[0]


async def test_more_than_can_be_meant_is_refused(world):
    folder, open_store = world
    store = open_store()
    good = await store.newest()
    (folder / "huge.yaml").write_text("# " + "x" * 5_000_000)
    assert await store.newest() == good
    assert "bytes" in store.problems[0]
