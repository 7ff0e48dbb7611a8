"""A socket in front of a real Docker engine: it passes everything on until it is told to fail."""

from __future__ import annotations

import aiohttp
from aiohttp import web
from yarl import URL

from tests.helpers.docker_engine import Engine

__all__ = ["InFront"]


class InFront(Engine):
    """Args:
    host: the engine's DOCKER_HOST. `fault` and `is_silent` are as the false engine's.
    """

    def __init__(self, host: str) -> None:
        super().__init__()
        self._socket = host.removeprefix("unix://")

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.method, request.path, dict(request.query)))
        if self.fault and self.fault != "truncated":
            return await self._broken(request, request.path)
        connector = aiohttp.UnixConnector(self._socket)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as session:
            url = URL(f"http://engine{request.rel_url.raw_path_qs}", encoded=True)
            async with session.request(request.method, url, data=await request.read()) as answer:
                return await self._passed(request, answer)

    async def _passed(self, request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        kind = answer.headers.get("Content-Type", "application/json")
        passed = web.StreamResponse(status=answer.status, headers={"Content-Type": kind})
        if not request.path.endswith("/events"):
            body = await answer.read()
            passed.content_length = len(body)
            await passed.prepare(request)
            if self.fault == "truncated":
                await passed.write(body[: len(body) // 2])
                if request.transport is not None:
                    request.transport.close()
                return passed
            await passed.write(body)
            return passed
        await passed.prepare(request)
        async for line in answer.content:
            if self.fault:
                break
            if not self.is_silent:
                await passed.write(line)
        return passed
