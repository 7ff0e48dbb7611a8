"""SIGKILL at any moment: what was acknowledged is there again, and whole."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.kill_store import KINDS, failing_disk, fault, kill_rounds
from tests.helpers.ports import free_port

ROUNDS = {"sqlite": 8, "swarm": 4, "directory": 4}
"""`python -m tests.bench.kill_store` has 200 of each."""


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_writer_loses_no_acknowledged_revision(tmp_path, kind):
    found = kill_rounds(kind, ROUNDS[kind], tmp_path)
    assert (found["lost"], found["torn"]) == (0, 0)
    assert found["acknowledged"] >= ROUNDS[kind]


def test_a_disk_that_fails_loses_nothing_that_was_acknowledged_and_is_named(tmp_path):
    library = failing_disk(tmp_path)
    if library is None:
        pytest.skip("no C compiler")
    for number, at in ((errno.EIO, 2), (errno.EIO, 9), (errno.ENOSPC, 5)):
        acknowledged, newest, torn, said = fault(library, number, at, tmp_path)
        assert newest >= acknowledged
        assert torn == []
        assert "revisions.sqlite" in said


def test_a_killed_control_plane_starts_again_with_what_it_answered(tmp_path):
    """The whole process: SIGKILL right after the answer to a PUT."""
    import http.client
    import time

    from tests.helpers.control_plane import ADMIN, DENY_ALL, settings

    settings(tmp_path)
    argv = [str(Path(sys.executable).with_name("meshpy-control-plane")), "serve", "--discovery", "static"]
    argv += ["--data", str(tmp_path / "data"), "--inventory", str(tmp_path / "inventory.json")]
    argv += ["--operator-token-file", str(tmp_path / "operators.json"), "--operator-tls", "off"]
    argv += ["--join-key-file", str(tmp_path / "join-key"), "--sidecar-listen", "127.0.0.1:0"]
    headers = {"Authorization": f"Bearer {ADMIN}", "Content-Type": "application/json"}

    def call(port, method, path, body=None):
        deadline = time.monotonic() + 15
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            try:
                connection.request(method, path, body and json.dumps(body), headers)
                answer = connection.getresponse()
                return answer.status, json.loads(answer.read())
            except ConnectionError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            finally:
                connection.close()

    for revision in range(1, 4):
        port = free_port()
        process = subprocess.Popen(
            [*argv, "--operator-listen", f"127.0.0.1:{port}"], stderr=subprocess.DEVNULL
        )
        try:
            assert call(port, "GET", "/v1/policies")[1]["revision"] == revision - 1
            documents = [{"name": "a.yaml", "text": DENY_ALL}]
            assert call(port, "PUT", "/v1/policies", {"documents": documents})[1]["revision"] == revision
        finally:
            os.kill(process.pid, signal.SIGKILL if revision < 3 else signal.SIGTERM)
            code = process.wait(timeout=10)
        assert code == (-9 if revision < 3 else 0)
