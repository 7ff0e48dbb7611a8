"""The process that makes the next key may be slow, fail, be killed, or be needed no more."""

import asyncio
import os
import sys
import threading
from pathlib import Path

import pytest

from certs.spiffe import SpiffeId
from proxy.enrolment import EnrolmentError
from proxy.new_request import new_request
from tests.helpers.control_plane import WEB, plane
from tests.helpers.lines import line, options, until

PYTHON = sys.executable
"""Before a test puts something in its place."""


@pytest.fixture
async def mesh(tmp_path):
    async with plane(tmp_path) as running:
        yield running


class Maker:
    """Stands where the interpreter is looked for, and keeps what each process of ours makes.

    Attributes:
        then: what the shell does instead, for every key but the first.
    """

    def __init__(self, folder):
        self.folder, self.then = folder, ""
        self.program = folder / "python"

    def write(self):
        self.program.write_text(
            f"""#!/bin/sh
cd '{self.folder}'
number=$(($(cat count 2>/dev/null || echo 0) + 1))
echo $number > count.new && mv count.new count
[ $number = 1 ] || {{ :; {self.then}
}}
'{PYTHON}' "$@" > making && mv making made-$number && cat made-$number
"""
        )
        self.program.chmod(0o700)

    @property
    def started(self):
        """How many processes were."""
        count = self.folder / "count"
        return int(count.read_text()) if count.exists() else 0

    def is_of(self, number, identity):
        return (self.folder / f"made-{number}").read_bytes().startswith(identity.key_pem)


@pytest.fixture
def maker(tmp_path, monkeypatch):
    (tmp_path / "maker").mkdir()
    found = Maker(tmp_path / "maker")
    found.write()
    monkeypatch.setattr("proxy.new_request.sys.executable", str(found.program))
    return found


async def _renewed(client, before):
    await until(lambda: client._enrolled is not None and client._identity() is not before)
    return client._identity()


async def test_it_is_made_before_it_is_due_and_kept_through_a_renewal_that_fails(mesh, maker, monkeypatch):
    async def refused(*_arguments):
        raise EnrolmentError("not now")

    monkeypatch.setattr("proxy.control_client._SPREAD_S", 0.1)
    async with line(await options(mesh, WEB)) as (_, client):
        before = await _renewed(client, None)
        await until(lambda: maker.started == 2)  # long before the half-life of the first
        with monkeypatch.context() as away:
            away.setattr("proxy.control_client.enrol", refused)
            client.ask_renewal(0.0)
            await until(lambda: client._failures >= 2)
        assert client._identity() is before
        assert maker.is_of(2, await _renewed(client, before))
        await until(lambda: maker.started == 3)


async def test_a_rotation_that_comes_while_the_key_is_being_made_is_not_forgotten(mesh, maker, monkeypatch):
    monkeypatch.setattr("proxy.control_client._SPREAD_S", 0.1)
    go = maker.folder / "go"
    maker.then = f"for _ in $(seq 500); do [ -e '{go}' ] && break; sleep 0.02; done"
    maker.write()
    async with line(await options(mesh, WEB)) as (_, client):
        before = await _renewed(client, None)
        await until(lambda: maker.started == 2)
        client.ask_renewal(0.0)
        await until(client._renewal_asked.is_set)
        assert client._identity() is before
        go.touch()
        assert maker.is_of(2, await _renewed(client, before))


@pytest.mark.parametrize("then", ["exit 3", "kill -9 $$"])
async def test_a_key_whose_process_fails_or_is_killed_is_made_in_the_sidecar(mesh, maker, caplog, then):
    maker.then = then
    maker.write()
    async with line(await options(mesh, WEB)) as (_, client):
        before = await _renewed(client, None)
        client.ask_renewal(0.0)
        after = await _renewed(client, before)
        assert after.key_pem != before.key_pem
        assert "no process makes the key" in caplog.text


async def test_a_sidecar_that_stops_ends_the_process_that_makes_its_next_key(mesh, maker, monkeypatch):
    monkeypatch.setattr("proxy.control_client._SPREAD_S", 0.1)
    maker.then = "echo $$ > pid.new && mv pid.new pid && exec sleep 60"
    maker.write()
    told = maker.folder / "pid"
    async with line(await options(mesh, WEB)) as (_, client):
        await _renewed(client, None)
        await until(told.exists)
    pid = int(told.read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def _children():
    return Path(f"/proc/self/task/{threading.get_native_id()}/children").read_text()


@pytest.mark.parametrize("after_s", [0, 0.001, 0.004])
async def test_who_is_told_to_stop_while_the_process_is_being_started_leaves_none(after_s):
    before = _children()
    making = asyncio.get_running_loop().create_task(
        new_request(SpiffeId.for_service("mesh.test", "shop", "web"))
    )
    await asyncio.sleep(after_s)
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert _children() == before
