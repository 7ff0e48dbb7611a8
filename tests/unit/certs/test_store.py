"""The authority on disk: whole, private, and never replaced because it looks lost."""

import os
from datetime import UTC, datetime

import pytest

from certs.errors import StoreError
from certs.files import write_atomic
from certs.store import CaStore
from tests.helpers.pki import mesh_pki

NOW = datetime(2026, 11, 24, 5, tzinfo=UTC)
FILES = ("root.crt", "intermediate.crt", "intermediate.key")
STEPS = ("open", "mkdir", "rename", "replace", "rmdir", "fsync")


class PowerCut(BaseException):
    """Not caught by anything: what follows did not happen."""


def test_an_authority_reads_back_with_private_keys(tmp_path):
    made = CaStore(tmp_path / "ca").load_or_create("mesh.test", NOW)
    assert CaStore(tmp_path / "ca").load_or_create("mesh.test", NOW).root == made.root
    modes = {each.name: each.stat().st_mode & 0o777 for each in (tmp_path / "ca").iterdir()}
    assert modes == {name: 0o600 if name.endswith(".key") else 0o644 for name in (*FILES, "root.key")}
    assert (tmp_path / "ca").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["missing", "empty", "junk", "cut"])
def test_damage_is_named_and_nothing_is_made_up(tmp_path, name, damage):
    CaStore(tmp_path).load_or_create("mesh.test", NOW)
    path = tmp_path / name
    data = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes({"empty": b"", "junk": b"junk", "cut": data[: len(data) // 2]}[damage])
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    with pytest.raises(StoreError, match=name):
        CaStore(tmp_path).load_or_create("mesh.test", NOW)
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == before


def test_a_foreign_root_key_is_refused_and_an_absent_one_is_not(tmp_path):
    CaStore(tmp_path / "a").load_or_create("mesh.test", NOW)
    CaStore(tmp_path / "b").load_or_create("mesh.test", NOW)
    os.replace(tmp_path / "b/root.key", tmp_path / "a/root.key")
    with pytest.raises(StoreError, match=r"root\.key"):
        CaStore(tmp_path / "a").load("mesh.test")
    (tmp_path / "a/root.key").unlink()
    CaStore(tmp_path / "a").load("mesh.test")


def test_encrypted_keys_open_with_their_passphrase_only(tmp_path):
    made = CaStore(tmp_path, b"right").load_or_create("mesh.test", NOW)
    assert b"ENCRYPTED" in (tmp_path / "intermediate.key").read_bytes()
    assert CaStore(tmp_path, b"right").load("mesh.test").root == made.root
    for passphrase in (None, b"wrong"):
        with pytest.raises(StoreError, match=r"intermediate\.key"):
            CaStore(tmp_path, passphrase).load_or_create("mesh.test", NOW)


@pytest.mark.parametrize("has_old", [True, False], ids=["replacing", "first"])
def test_a_power_cut_at_any_step_leaves_the_old_or_the_new(tmp_path, monkeypatch, has_old):
    """Every system call of a save is cut in turn; the store opens to one whole authority each time."""
    old, new = mesh_pki(now=NOW), mesh_pki(now=NOW)
    seen = set()
    for cut_at in range(1, 60):
        store = CaStore(tmp_path / str(cut_at))
        if has_old:
            store.save(old.ca, old.root_key)
        left = cut_at
        with monkeypatch.context() as patch:

            def cutting(real):
                def call(*args, **kwargs):
                    nonlocal left
                    left -= 1
                    if left == 0:
                        raise PowerCut
                    return real(*args, **kwargs)

                return call

            for step in STEPS:
                patch.setattr(os, step, cutting(getattr(os, step)))
            try:
                store.save(new.ca, new.root_key)
                was_cut = False
            except PowerCut:
                was_cut = True
        found = store.load_or_create("mesh.test", NOW).root
        if has_old:
            assert found in (old.ca.root, new.ca.root)
        assert store.load_root_key() is not None
        seen.add("new" if found == new.ca.root else "old")
        if not was_cut:
            assert found == new.ca.root
            break
    else:
        pytest.fail("the save never came to its end")
    assert cut_at > 15
    assert seen == {"old", "new"}


def test_a_failed_replacement_leaves_the_old_file(tmp_path):
    path = tmp_path / "dir"
    path.mkdir()
    (path / "inside").touch()
    with pytest.raises(StoreError, match="cannot be written"):
        write_atomic(path, b"data")
    assert [each.name for each in tmp_path.iterdir()] == ["dir"]
