"""A read-only door to a Docker engine: what discovery asks for, cut down to what it reads, and nothing else.

The engine's socket is root on its machine, and `GET /services` shows every environment. Behind this proxy a
control plane that was broken into can neither start a container nor read a password. Only GET is taken, only
five lists, the version and the events; their questions are fixed here, whatever the caller asks; their
answers pass through `discovery.pruned`. Anything else is 403 and never reaches the engine.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from control_plane.discovery import pruned
from control_plane.errors import StartRefused
from control_plane.settings import Listen

__all__ = ["SocketProxy", "serving"]

log = logging.getLogger(__name__)

READ_S = 10.0
MAX_ANSWER = 256 * 1024 * 1024
MAX_STREAMS = 16
_PATH = re.compile(r"(/v[0-9]{1,2}\.[0-9]{1,3})?(/[a-z_]+)")


@dataclass(frozen=True, slots=True)
class _List:
    """One list of the engine: the filters it is asked with, and what is kept of an item."""

    filters: Mapping[str, list[str]]
    keep: Callable[[Mapping[str, Any]], dict[str, Any]]


LISTS = {
    "/services": _List({}, pruned.service),
    "/tasks": _List({"desired-state": ["running"]}, pruned.task),
    "/nodes": _List({}, pruned.node),
    "/networks": _List({"scope": ["swarm"]}, pruned.network),
}
EVENTS = {"type": ["service", "network", "node"], "scope": ["swarm"]}


class SocketProxy:
    """Made while a loop runs.

    Args:
        host: `unix:///var/run/docker.sock`, or `tcp://HOST:PORT`.
    """

    def __init__(self, host: str) -> None:
        self._streams = 0
        socket = host.removeprefix("unix://")
        is_local = socket != host
        self._url = "http://docker" if is_local else host.replace("tcp://", "http://", 1)
        connector = aiohttp.UnixConnector(socket) if is_local else aiohttp.TCPConnector()
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)

    async def close(self) -> None:
        await self._session.close()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Every request there is."""
        found = _PATH.fullmatch(request.path)
        if found is None or request.method != "GET":
            return self._refused(request)
        prefix, path = found[1] or "", found[2]
        try:
            if path == "/_ping":
                await self._read("/_ping", {})
                return web.Response(text="OK")
            if path == "/version":
                return web.json_response(pruned.version(_json(await self._read("/version", {}))))
            if path == "/events":
                return await self._events(request, prefix)
            if path in LISTS:
                return await self._list(prefix + path, LISTS[path])
        except _Answered as error:
            return web.json_response({"message": error.message}, status=error.status)
        except TimeoutError:
            return web.json_response({"message": "the engine did not answer in time"}, status=504)
        except (aiohttp.ClientError, OSError, ValueError, AttributeError) as error:
            log.warning("%s: %s", request.path, error)
            return web.json_response({"message": f"the engine cannot be read: {error}"}, status=502)
        return self._refused(request)

    def _refused(self, request: web.Request) -> web.Response:
        log.warning("refused %s %s from %s", request.method, request.path[:100], request.remote)
        text = "this proxy takes GET of /version, /services, /tasks, /nodes, /networks and /events alone"
        return web.json_response({"message": text}, status=403)

    async def _list(self, path: str, asked: _List) -> web.Response:
        data = await self._read(path, _filters(asked.filters))
        # A large Swarm's lists take many milliseconds to read: others are served meanwhile.
        text = await asyncio.to_thread(lambda: json.dumps(pruned.pruned(_json(data), asked.keep)))
        return web.Response(text=text, content_type="application/json")

    async def _read(self, path: str, query: Mapping[str, str]) -> bytes:
        async with asyncio.timeout(READ_S), self._asked(path, query) as answer:
            body = bytearray()
            async for chunk in answer.content.iter_any():
                body += chunk
                if len(body) > MAX_ANSWER:
                    raise ValueError(f"an answer of more than {MAX_ANSWER} bytes")
            return bytes(body)

    @asynccontextmanager
    async def _asked(self, path: str, query: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        timeout = aiohttp.ClientTimeout(total=None, connect=READ_S)
        async with self._session.get(self._url + path, params=query, timeout=timeout) as answer:
            if answer.status != 200:
                told = _json(await answer.content.read(64 * 1024))
                raise _Answered(answer.status, str(told.get("message", ""))[:500])
            yield answer

    async def _events(self, request: web.Request, prefix: str) -> web.StreamResponse:
        if self._streams >= MAX_STREAMS:
            raise _Answered(503, f"at most {MAX_STREAMS} event streams are served")
        self._streams += 1
        try:
            async with self._asked(f"{prefix}/events", _filters(EVENTS)) as upstream:
                answer = web.StreamResponse(headers={"Content-Type": "application/json"})
                await answer.prepare(request)
                async for line in upstream.content:
                    if line.strip():
                        await answer.write(json.dumps(pruned.event(_json(line))).encode() + b"\n")
                return answer
        finally:
            self._streams -= 1


class _Answered(Exception):  # noqa: N818 - an answer of the engine
    def __init__(self, status: int, message: str) -> None:
        self.status, self.message = status, message
        super().__init__(message)


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("the JSON is nested too deep") from None


def _filters(filters: Mapping[str, list[str]]) -> dict[str, str]:
    return {"filters": json.dumps(filters)} if filters else {}


@asynccontextmanager
async def serving(listen: str, host: str) -> AsyncIterator[None]:
    """Serve on `HOST:PORT` or `unix:///path`.

    Raises:
        StartRefused: the address cannot be listened on.
    """
    proxy = SocketProxy(host)
    app = web.Application(client_max_size=0)
    app.router.add_route("*", "/{anything:.*}", proxy.handle)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        try:
            if listen.startswith("unix://"):
                path = Path(listen.removeprefix("unix://"))
                await asyncio.to_thread(path.unlink, missing_ok=True)
                await web.UnixSite(runner, str(path)).start()
            else:
                where = Listen.parse(listen)
                await web.TCPSite(runner, where.host, where.port).start()
        except OSError as error:
            raise StartRefused(f"{listen} cannot be listened on: {error.strerror}") from error
        yield
    finally:
        await runner.cleanup()
        await proxy.close()
