"""What a sidecar holds: `python -m tests.bench.memory`.

Two pairs of sidecars, caller and callee over mTLS, after the same load over 64 connections: one pair from
snapshot files, one with a control plane (enrolled, streams open). Of each sidecar, as the kernel counts it
(smaps_rollup): all that is resident, its share (PSS: a page that several map counts in parts), and what is
its own alone.
"""

import argparse
import asyncio
import contextlib
import tempfile
import time
from pathlib import Path

from tests.bench import load, meshpy_side
from tests.bench.interpreter import interpreter
from tests.bench.processes import ROOT, Processes
from tests.bench.world import make_world
from tests.helpers.control_plane import API, WEB, plane, write_inventory
from tests.helpers.lines import environment, options, own_net, pair_inventory

_KINDS = {"Rss": "resident", "Pss": "share", "Private_Dirty": "own"}


def held_mib(pid):
    """By kind."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    found = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines}
    return {name: found[kind] for kind, name in _KINDS.items()}


def show(name, pid):
    held = held_mib(pid)
    print(f"{name:24s}" + "".join(f"{each:>10s} {held[each]:5.1f}" for each in held), flush=True)


def busy(target, seconds):
    seen = load.closed(target, seconds, time.perf_counter)
    print(f"{seen.answered} requests answered, {seen.failed} failed", flush=True)


def from_files(folder, seconds):
    processes = Processes(folder)
    try:
        ways, _ = meshpy_side.start(make_world(processes))
        caller, callee = ways["pair"].pids
        show("static, at start", callee)
        busy(load.Target(ways["pair"].port, load.get("backend")), seconds)
        show("static callee", callee)
        show("static caller", caller)
    finally:
        processes.stop()


async def sidecar(mesh, name, address):
    """One with a control plane; its process."""
    how = await options(mesh, name)
    quiet = asyncio.subprocess.DEVNULL
    command = interpreter()[0]
    if command[0] != "env":
        command = ["env", *command]
    words = [f"{key}={value}" for key, value in environment(how, address).items()]
    words += [*command[1:], "-m", "proxy", "--mesh-bind", f"{address}:15443"]
    return await asyncio.create_subprocess_exec(command[0], *words, cwd=ROOT, stdout=quiet, stderr=quiet)


async def enrolled(folder, seconds):
    net = own_net()
    processes = Processes(folder)
    backend = make_world(processes).backend
    write_inventory(folder / "inventory.json", pair_inventory(backend, net))
    async with plane(folder) as mesh:
        started = [await sidecar(mesh, API, f"{net}.5"), await sidecar(mesh, WEB, f"{net}.6")]
        api, web = started
        try:
            async with asyncio.timeout(30):
                while True:
                    _, told = await mesh.call("GET", "/v1/status")
                    if [each["state"] for each in told["sidecars"]] == ["SYNCED", "SYNCED"]:
                        break
                    await asyncio.sleep(0.1)
            show("enrolled, at start", api.pid)
            target = load.Target(backend, load.get("api"), host=f"{net}.9")
            await asyncio.to_thread(busy, target, seconds)
            await asyncio.sleep(3)
            show("enrolled callee", api.pid)
            show("enrolled caller", web.pid)
        finally:
            for each in started:
                with contextlib.suppress(ProcessLookupError):
                    each.terminate()
                await each.wait()
            processes.stop()


def main():
    """Print both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0)
    args = parser.parse_args()
    print(f"MiB, on {interpreter()[1]}")
    with tempfile.TemporaryDirectory() as folder:
        from_files(Path(folder), args.seconds)
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(enrolled(Path(folder), args.seconds))


if __name__ == "__main__":
    main()
