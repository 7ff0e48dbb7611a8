"""SIGKILL while a store writes, and a disk that fails: `python -m tests.bench.kill_store [--rounds 200]`.

Each round starts a writer, kills it at a random moment after its first acknowledged revision, opens the store
again and compares. For the Raft store the Swarm is a process that lives on and keeps the configs; for the
directory the folder is changed by this process while the follower is killed. `--writer KIND WHERE APPENDS` is
the writer.
"""

import asyncio
import contextlib
import errno
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

from control_plane.discovery.docker_client import DockerClient
from control_plane.errors import MeshpyError
from control_plane.store.directory import DirectoryStore
from control_plane.store.revisions import Document
from control_plane.store.sqlite import SqliteStore
from control_plane.store.swarm import SwarmStore

KINDS = ("sqlite", "swarm", "directory")
ROOT = Path(__file__).parents[2]
MAX_DELAY_S = 0.05


def documents(number):
    """Five documents that all belong to one revision, and say to which."""
    return [Document(f"{i}.yaml", f"# {number} \n" * 200) for i in range(5)]


@contextlib.asynccontextmanager
async def opened(kind, where):
    """The store of a kind; `where` is a folder, for swarm with the engine's socket in it."""
    client = DockerClient(f"unix://{where}/engine.sock")
    if kind == "swarm":
        store = SwarmStore(client)
    else:
        store = SqliteStore(where / "revisions.sqlite")
        if kind == "directory":
            store = DirectoryStore(where / "policies", store, settle_s=0)
    try:
        yield store
    finally:
        await store.close()
        await client.close()


async def write(kind, where, appends):
    """Write revisions, one after another, and print the number of each that was acknowledged."""
    async with opened(kind, where) as store:
        number = (await store.newest()).number
        print("open", flush=True)
        for _ in range(appends):
            if kind == "directory":
                while (following := (await store.newest()).number) == number:  # noqa: ASYNC110
                    await asyncio.sleep(0)
                number = following
            else:
                now = datetime.now(UTC)
                made = await store.append(documents(number + 1), author="w", expected=number, now=now)
                number = made.number
            print(number, flush=True)


def writer(kind, where, appends=10**9, env=None):
    """A process that runs `write`."""
    argv = [sys.executable, "-m", "tests.bench.kill_store", "--writer", kind, str(where), str(appends)]
    return subprocess.Popen(
        argv,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextlib.contextmanager
def _changing(kind, where):
    """While it lasts the policy folder changes all the time, each file replaced whole."""
    if kind != "directory":
        yield
        return
    stop = threading.Event()

    def change():
        while not stop.is_set():
            draft = where / "draft"
            draft.write_text(f"# {time.monotonic_ns()}\n" * 200)
            os.replace(draft, where / "policies" / "0.yaml")
            time.sleep(0.002)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _killed(kind, where, delay_s):
    """Run a writer, kill it; the highest number that it acknowledged."""
    with _changing(kind, where):
        process = writer(kind, where)
        for _ in range(2):  # open, and one acknowledged revision
            process.stdout.readline()
        time.sleep(delay_s)
        os.kill(process.pid, signal.SIGKILL)
        told, complaints = process.communicate()
        assert process.returncode == -signal.SIGKILL, complaints
    return max((int(word) for word in told.split() if word.isdecimal()), default=0)


async def _reopen(kind, where, checked):
    """Open the store, look at every revision after `checked`; the newest number, and what is not whole."""
    async with opened(kind, where) as store:
        newest = await store.newest()
        torn = []
        for number in range(checked + 1, newest.number + 1):
            found = await store.get(number)
            texts = {document.text for document in found.documents} if found else set()
            lines = {line for text in texts for line in text.splitlines()}
            whole = len(lines) == 1 and (kind == "directory" or texts == {documents(number)[0].text})
            if not whole and not (found is None and kind == "swarm" and number <= newest.number - 50):
                torn.append(number)
        if kind == "directory":
            held = hashlib.sha256((where / "policies" / "0.yaml").read_bytes()).digest()
            now = hashlib.sha256(newest.documents[0].text.encode()).digest()
            if held != now:
                torn.append(newest.number)
        return newest.number, torn


def kill_rounds(kind, rounds, folder, seed=7):
    """{rounds, acknowledged, lost, torn} of one store."""
    where, draw = Path(tempfile.mkdtemp(dir=folder)), random.Random(seed)
    (where / "policies").mkdir()
    (where / "policies" / "0.yaml").write_text("# first\n")
    engine = None
    if kind == "swarm":
        argv = [sys.executable, "-m", "tests.helpers.docker_engine", str(where / "engine.sock")]
        engine = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        engine.stdout.readline()
    newest, lost, torn = 0, 0, []
    try:
        for _ in range(rounds):
            acknowledged = _killed(kind, where, draw.random() * MAX_DELAY_S)
            before, (newest, broken) = newest, asyncio.run(_reopen(kind, where, newest))
            lost += newest < max(acknowledged, before)
            torn += broken
    finally:
        if engine is not None:
            engine.kill()
            engine.communicate()
    return {"rounds": rounds, "acknowledged": newest, "lost": lost, "torn": len(torn)}


def failing_disk(folder):
    """The library that makes a disk fail, None without a C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        return None
    library = Path(folder) / "failing_disk.so"
    source = Path(__file__).with_name("failing_disk.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


def fault(library, number, at, folder, *, reads=False):
    """Three revisions, then three more while the disk fails from its `at`-th call on.

    Returns:
        (acknowledged, newest after opening again, torn revisions, what the writer said)
    """
    where = Path(tempfile.mkdtemp(dir=folder))
    first = writer("sqlite", where, 3)
    assert first.wait() == 0, first.stderr.read()
    first.communicate()
    env = {"LD_PRELOAD": str(library), "FAILING_PATH": str(where)}
    env |= {"FAILING_AT": str(at), "FAILING_ERRNO": str(number)}
    told, said = writer("sqlite", where, 3, env | ({"FAILING_READS": "1"} if reads else {})).communicate()
    acknowledged = max([3, *(int(word) for word in told.split() if word.isdecimal())])
    newest, torn = asyncio.run(_reopen("sqlite", where, 0))
    return acknowledged, newest, torn, said.strip()


def main():
    rounds = int(sys.argv[sys.argv.index("--rounds") + 1]) if "--rounds" in sys.argv else 200
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            begin = time.monotonic()
            print(kind, kill_rounds(kind, rounds, folder), f"{time.monotonic() - begin:.0f} s", flush=True)
        library = failing_disk(folder)
        for number in (errno.EIO, errno.ENOSPC) if library else ():
            for reads in (False, True):
                outcomes = [fault(library, number, at, folder, reads=reads) for at in range(1, 31)]
                lost = sum(newest < told or bool(torn) for told, newest, torn, _ in outcomes)
                refused = [said for *_, said in outcomes if said]
                unnamed = sum("revisions.sqlite" not in said for said in refused)
                what = f"{errno.errorcode[number]} on {'reads' if reads else 'writes'}"
                print(f"{what}: 30 places, {len(refused)} refused, {unnamed} unnamed, {lost} lost or torn")


if __name__ == "__main__":
    if "--writer" in sys.argv:
        try:
            asyncio.run(write(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])))
        except MeshpyError as error:
            sys.exit(str(error))
    else:
        main()
