"""Certificates and the control plane may come and go, requests do not fail: counts, not speed.

`python -m tests.bench.identity rotations` runs certificates of 20 s for 20 renewals, with one root rotation
(`meshpy ca rotate`) in their midst, under load. `… away` kills the control plane (SIGKILL) for 10 minutes
while certificates live for 20, restarts sidecars by their caches meanwhile, and measures how soon all are in
sync again.
Real processes on loopback: a control plane, two sidecars of `api`, one of `web`, an app.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import aiohttp
from aiohttp import web

from meshpy.client import Context, Operator
from meshpy.demo.processes import own_command
from meshpy.errors import MeshpyError
from meshpy.model.endpoint import Endpoint
from meshpy.model.inventory import Inventory
from tests.helpers.control_plane import ADMIN, API, WEB, settings, write_inventory
from tests.helpers.lines import own_net, pair_inventory
from tests.helpers.ports import free_port

NET = own_net()
MESH = {"api-1": f"{NET}.5", "api-2": f"{NET}.7", "web-1": f"{NET}.6"}
START_S = 60


class World:
    """The processes, by name; each can be killed and started again."""

    def __init__(self, folder, app_port, ttl_s):
        self.folder, self.app_port, self.ttl_s = folder, app_port, ttl_s
        self.processes = {}
        self.sidecars, self.operators = free_port(), free_port()
        base = pair_inventory(app_port, NET)
        both = tuple(Endpoint(MESH[name], 15443, API) for name in ("api-1", "api-2"))
        api = type(base.services[API])(
            **{n: getattr(base.services[API], n) for n in base.services[API].__slots__} | {"endpoints": both}
        )
        write_inventory(folder / "inventory.json", Inventory({API: api, WEB: base.services[WEB]}))
        settings(folder)
        (folder / "context.json").write_text(
            json.dumps({"url": f"http://127.0.0.1:{self.operators}", "token": ADMIN})
        )
        self.operator = Operator(Context(f"http://127.0.0.1:{self.operators}", ADMIN), timeout_s=5)

    def spawn(self, name, argv, env):
        clean = {key: value for key, value in os.environ.items() if not key.startswith("MESHPY_")}
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(argv, env=clean | env, stdout=log, stderr=log)

    def start_control_plane(self):
        argv = [
            own_command("meshpy-control-plane"),
            "serve",
            "--discovery",
            "static",
            "--operator-tls",
            "off",
        ]
        for option, value in (
            ("data", self.folder / "data"),
            ("inventory", self.folder / "inventory.json"),
            ("operator-token-file", self.folder / "operators.json"),
            ("join-key-file", self.folder / "join-key"),
            ("sidecar-listen", f"127.0.0.1:{self.sidecars}"),
            ("operator-listen", f"127.0.0.1:{self.operators}"),
            ("certificate-ttl", self.ttl_s),
        ):
            argv += [f"--{option}", str(value)]
        self.spawn("control-plane", argv, {})

    def start_sidecar(self, name):
        service = API if name.startswith("api") else WEB
        token = self.folder / f"{name}.join"
        if not token.exists():
            made = self.operator.call("POST", "/v1/join-tokens", {"service": str(service)})
            token.write_text(made["token"])
            (self.folder / "ca.crt").write_text(self.operator.call("GET", "/v1/bundle")["pem"])
        env = {
            "MESHPY_NAMESPACE": service.namespace,
            "MESHPY_SERVICE": service.name,
            "MESHPY_TASK_ID": name,
            "MESHPY_CONTROL_PLANE": f"127.0.0.1:{self.sidecars}",
            "MESHPY_JOIN_TOKEN_FILE": str(token),
            "MESHPY_TRUST_BUNDLE_FILE": str(self.folder / "ca.crt"),
            "MESHPY_CACHE": str(self.folder / f"{name}.cache"),
            "MESHPY_ACCESS_LOG": "off",
        }
        address = MESH[name]
        argv = [own_command("meshpy-proxy"), "--mesh-bind", f"{address}:15443"]
        self.spawn(name, [*argv, "--admin", f"{address}:15000", "--bind", "edge=127.0.0.1"], env)

    async def ask(self, name, path):
        url = f"http://{MESH[name]}:15000{path}"
        async with aiohttp.ClientSession() as http, http.get(url, headers={"Host": "localhost"}) as answer:
            return answer.status, await answer.text()

    async def ready(self, name):
        await until(lambda: self._is_ready(name), f"{name} is ready")

    async def _is_ready(self, name):
        with contextlib.suppress(aiohttp.ClientError):
            return (await self.ask(name, "/readyz"))[0] == 200

    async def in_sync(self):
        await until(self._is_in_sync, "every sidecar is in sync")

    async def _is_in_sync(self):
        with contextlib.suppress(MeshpyError):
            status = await asyncio.to_thread(self.operator.call, "GET", "/v1/status")
            states = {each["task"]: each["state"] for each in status["sidecars"]}
            return [states.get(name) for name in MESH] == ["SYNCED"] * len(MESH)

    def end(self, name, number=signal.SIGTERM):
        process = self.processes.pop(name)
        process.send_signal(number)
        return process

    def close(self):
        ended = [self.end(name) for name in list(self.processes)]
        for process in ended:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    async def begin(self):
        self.start_control_plane()
        await until(self._answers, "the control plane answers")
        for name in MESH:
            self.start_sidecar(name)
        await self.in_sync()

    async def _answers(self):
        with contextlib.suppress(MeshpyError):
            await asyncio.to_thread(self.operator.call, "GET", "/readyz")
            return True


async def until(check, what):
    """Wait until `check` is true."""
    end = time.monotonic() + START_S
    while not await check():
        if time.monotonic() > end:
            raise SystemExit(f"waited {START_S} s in vain until {what}")
        await asyncio.sleep(0.1)


class Load:
    """`rate` requests a second through web's sidecar over kept connections; `paused` holds them back."""

    def __init__(self, port, rate):
        self.url, self.rate = f"http://{NET}.9:{port}/", rate
        self.counts, self.failures, self.going = Counter(), [], asyncio.Event()
        self.going.set()
        self.in_flight = 0

    async def run(self, workers=8):
        async with asyncio.TaskGroup() as group:
            for number in range(workers):
                group.create_task(self._worker(number / self.rate, workers / self.rate))

    async def _worker(self, begin_s, every_s):
        await asyncio.sleep(begin_s)
        timeout = aiohttp.ClientTimeout(total=30)
        async with aiohttp.ClientSession(timeout=timeout, headers={"Host": "api"}) as http:
            while True:
                await self.going.wait()
                began = time.monotonic()
                self.in_flight += 1
                try:
                    async with http.get(self.url) as answer:
                        await answer.read()
                        self.counts[answer.status] += 1
                        if answer.status != 200:
                            self.failures.append((time.time(), answer.status, (await answer.text())[:200]))
                except (aiohttp.ClientError, TimeoutError, OSError) as error:
                    self.counts[type(error).__name__] += 1
                    self.failures.append((time.time(), repr(error)))
                finally:
                    self.in_flight -= 1
                await asyncio.sleep(max(0.0, began + every_s - time.monotonic()))

    async def pause(self):
        """Hold back what would come, wait for what is on its way."""
        self.going.clear()
        while self.in_flight:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    def told(self):
        failed = sum(self.counts.values()) - self.counts[200]
        return (
            f"{sum(self.counts.values())} requests, {failed} failed {dict(self.counts)} {self.failures[:5]}"
        )


async def rotations(options):
    """Count the certificates that each sidecar had."""
    async with world(options.ttl) as it, loaded(it, options.rate) as load:
        seen = {name: set() for name in MESH}
        rotating, begin = None, time.monotonic()
        while min(map(len, seen.values())) <= options.count:
            for name in MESH:
                seen[name].add(json.loads((await it.ask(name, "/server_info"))[1])["not_after"])
            if rotating is None and min(map(len, seen.values())) > options.count // 2:
                command = (own_command("meshpy"), "ca", "rotate")
                env = os.environ | {"MESHPY_CONTEXT": str(it.folder / "context.json")}
                rotating = await asyncio.create_subprocess_exec(*command, env=env)
            await asyncio.sleep(0.5)
        code = await rotating.wait() if rotating is not None else None
        print(f"renewals {[len(each) - 1 for each in seen.values()]} in {time.monotonic() - begin:.0f} s")
        print(f"meshpy ca rotate: exit {code}")
    print(load.told())
    return not load.failures and code == 0


async def away(options):
    """Restart sidecars by turns while the control plane is dead."""
    restarts = Counter()
    async with world(options.ttl) as it, loaded(it, options.rate) as load:
        await asyncio.sleep(3)  # caches are written within a second or two
        it.end("control-plane", signal.SIGKILL).wait()
        begin = time.monotonic()
        print(f"control plane killed; certificates of {options.ttl} s", flush=True)
        turn = 0
        while time.monotonic() - begin < options.seconds:
            await asyncio.sleep(min(options.every, options.seconds))
            name = ("api-1", "api-2", "web-1")[turn % 3]
            turn += 1
            if name == "web-1":  # the caller's only way out: what it would send meanwhile waits
                await load.pause()
            process = (
                it.end(name, signal.SIGTERM if turn % 2 else signal.SIGKILL)
                if name == "web-1"
                else it.end(name)
            )
            await asyncio.to_thread(process.wait)
            it.start_sidecar(name)
            await it.ready(name)
            load.going.set()
            restarts[name] += 1
        print(
            f"away for {time.monotonic() - begin:.0f} s, restarts {dict(restarts)}; {load.told()}", flush=True
        )
        it.start_control_plane()
        await until(it._answers, "the control plane answers")
        back = time.monotonic()
        await it.in_sync()
        synced_s = time.monotonic() - back
        await asyncio.sleep(3)
    print(f"in sync {synced_s:.1f} s after it answered")
    print(load.told())
    return not load.failures and synced_s <= 10


@contextlib.asynccontextmanager
async def world(ttl_s):
    with tempfile.TemporaryDirectory(prefix="meshpy-identity-") as folder:
        async with application() as port:
            it = World(Path(folder), port, ttl_s)
            try:
                await it.begin()
                yield it
            finally:
                it.close()


@contextlib.asynccontextmanager
async def application():
    """The app of `api`: its port."""

    async def hello(_request):
        return web.Response(text="hello")

    app = web.Application()
    app.router.add_get("/", hello)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


@contextlib.asynccontextmanager
async def loaded(it, rate):
    load = Load(it.app_port, rate)
    running = asyncio.create_task(load.run())
    try:
        yield load
        await load.pause()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("rotations")
    one.set_defaults(run=rotations)
    one.add_argument("--ttl", type=int, default=20)
    one.add_argument("--count", type=int, default=20)
    one.add_argument("--rate", type=float, default=130)
    two = commands.add_parser("away")
    two.set_defaults(run=away)
    two.add_argument("--ttl", type=int, default=1200)
    two.add_argument("--seconds", type=float, default=600)
    two.add_argument("--every", type=float, default=20, help="seconds between two restarts")
    two.add_argument("--rate", type=float, default=20)
    options = parser.parse_args()
    sys.exit(0 if asyncio.run(options.run(options)) else 1)


if __name__ == "__main__":
    main()
