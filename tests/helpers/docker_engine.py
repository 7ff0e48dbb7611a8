"""A Docker engine's API on a Unix socket, with the answers a test gives it, and the faults of real engines.

`python -m tests.helpers.docker_engine SOCKET` is one that keeps configs, for processes that are killed.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from control_plane.discovery.docker_json import Answers
from tests.helpers.docker_answers import answers

LISTS = ("services", "tasks", "nodes", "networks")
FAULTS = ("hung", "500", "truncated", "empty", "no JSON", "an object", "closed")
_VERSIONED = re.compile(r"/v(\d+)\.(\d+)(/.*)")


class Engine:
    """Args:
    versions: (oldest, newest) API version; another one in a path is refused as an engine refuses it.
    """

    def __init__(self, said: Answers | None = None, versions: tuple[str, str] = ("1.24", "1.41")) -> None:
        self.said = said if said is not None else answers()
        self.versions = versions
        self.fault = ""
        self.is_silent = False
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.configs: dict[str, dict[str, Any]] = {}
        self._index = 0
        self._streams: set[asyncio.Queue[dict[str, Any]]] = set()

    def event(self, kind: str = "service") -> None:
        """Tell everybody who listens."""
        for queue in self._streams:
            queue.put_nowait({"Type": kind, "Action": "update", "time": 1})

    async def handle(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        self.asked.append((request.method, path, dict(request.query)))
        if (found := _VERSIONED.fullmatch(path)) is not None:
            asked, path = (int(found[1]), int(found[2])), found[3]
            oldest, newest = (tuple(map(int, each.split("."))) for each in self.versions)
            if not oldest <= asked <= newest:
                near = "old" if asked < oldest else "new"
                text = f"client version {asked[0]}.{asked[1]} is too {near}"
                return web.json_response({"message": text}, status=400)
        if self.fault:
            return await self._broken(request, path)
        if path == "/version":
            oldest, newest = self.versions
            return web.json_response({"ApiVersion": newest, "MinAPIVersion": oldest, "Version": "20.10.24"})
        if path == "/_ping":
            return web.Response(text="OK")
        if path == "/events":
            return await self._events(request)
        if path.startswith("/configs"):
            return await self._config(request, path)
        what = path.rpartition("/")[2]
        if what not in LISTS:
            return web.json_response({"message": "page not found"}, status=404)
        return web.json_response(list(getattr(self.said, what)))

    async def _broken(self, request: web.Request, path: str) -> web.StreamResponse:
        match self.fault:
            case "hung":
                await asyncio.sleep(60)
            case "500":
                return web.json_response(
                    {"message": "rpc error: The swarm does not have a leader"}, status=500
                )
            case "empty":
                return web.json_response([])
            case "no JSON":
                return web.Response(text="[{", content_type="application/json")
            case "an object":
                return web.json_response({"message": "ok"})
            case "truncated":
                what = path.rpartition("/")[2]
                text = json.dumps(list(getattr(self.said, what))) if what in LISTS else '{"ApiVersion"'
                answer = web.StreamResponse(
                    headers={"Content-Length": str(len(text)), "Content-Type": "application/json"}
                )
                await answer.prepare(request)
                await answer.write(text[: len(text) // 2].encode())
        if request.transport is not None:
            request.transport.close()
        return web.Response()

    async def _events(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._streams.add(queue)
        try:
            while True:
                event = await queue.get()
                if not self.is_silent:
                    await answer.write(json.dumps(event).encode() + b"\n")
        except ConnectionError:
            return answer
        finally:
            self._streams.discard(queue)

    async def _config(self, request: web.Request, path: str) -> web.Response:
        parts = path.strip("/").split("/")
        self._index += 1
        if request.method == "GET" and len(parts) == 1:
            label = json.loads(request.query.get("filters", "{}")).get("label", [""])[0]
            found = [each for each in self.configs.values() if label in (each["Spec"].get("Labels") or {})]
            return web.json_response(found)
        if parts[-1] == "create":
            spec = await request.json()
            name = spec["Name"]
            if name in self.configs:
                return web.json_response({"message": "config already exists"}, status=409)
            self.configs[name] = {"ID": f"id-{name}", "Version": {"Index": self._index}, "Spec": spec}
            return web.json_response({"ID": f"id-{name}"}, status=201)
        name = parts[1].removeprefix("id-")
        held = self.configs.get(name)
        if held is None:
            return web.json_response({"message": f"config {name} not found"}, status=404)
        if parts[-1] == "update":
            if request.query["version"] != str(held["Version"]["Index"]):
                return web.json_response({"message": "rpc error: update out of sequence"}, status=500)
            spec = await request.json()
            if {**spec, "Labels": None} != {**held["Spec"], "Labels": None}:
                return web.json_response({"message": "only updates to Labels are allowed"}, status=400)
            self.configs[name] = {**held, "Version": {"Index": self._index}, "Spec": spec}
            return web.json_response({})
        if request.method == "DELETE":
            del self.configs[name]
            return web.Response(status=204)
        return web.json_response(held)


@asynccontextmanager
async def listening(engine: Engine, socket: Path) -> AsyncIterator[str]:
    """Serve it; yields the DOCKER_HOST."""
    app = web.Application(client_max_size=4 * 1024 * 1024)
    app.router.add_route("*", "/{anything:.*}", engine.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.UnixSite(runner, str(socket)).start()
    try:
        yield f"unix://{socket}"
    finally:
        await runner.cleanup()
        socket.unlink(missing_ok=True)  # noqa: ASYNC240 - once, at the end


async def _serve(socket: Path) -> None:
    async with listening(Engine(), socket):
        print("listening", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1])))
