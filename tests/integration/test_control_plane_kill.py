"""SIGKILL at any moment: what was acknowledged is there again, and whole."""

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

from control_plane.store.sqlite import SqliteStore

RUNS = 20
WRITER = """
import asyncio, sys
from datetime import UTC, datetime
from pathlib import Path
from control_plane.store.revisions import Document
from control_plane.store.sqlite import SqliteStore
async def main():
    store = SqliteStore(Path(sys.argv[1]))
    number = (await store.newest()).number
    print("open", flush=True)
    while True:
        documents = [Document(f"{i}.yaml", f"{number + 1} " * 200) for i in range(5)]
        revision = await store.append(documents, author="w", expected=number, now=datetime.now(UTC))
        number = revision.number
        print(number, flush=True)
asyncio.run(main())
"""


def _writer(path):
    root = Path(__file__).parents[2]
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True, cwd=root
    )


async def test_a_killed_writer_loses_no_acknowledged_revision(tmp_path):
    path = tmp_path / "revisions.sqlite"
    acknowledged, draw = 0, random.Random(7)
    for _ in range(RUNS):
        process = _writer(path)
        wanted = draw.randrange(0, 6)
        for _ in range(wanted + 1):
            process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
        rest = process.stdout.read().split()
        process.stdout.close()
        process.wait()
        store = SqliteStore(path)
        newest = await store.newest()
        told = [int(word) for word in rest if word.isdecimal()]
        acknowledged = max([acknowledged, *told])
        assert newest.number >= acknowledged
        for number in range(1, newest.number + 1):
            found = await store.get(number)
            assert {document.text for document in found.documents} == {f"{number} " * 200}
        acknowledged = newest.number
        await store.close()
    assert acknowledged > RUNS


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
        port = _free_port()
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


def _free_port():
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
