"""The Docker client against a real HTTP server on a socket that answers, hangs, breaks and lies."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from control_plane.discovery import docker_client
from control_plane.discovery.docker_client import DockerClient
from control_plane.discovery.docker_json import view_of
from control_plane.errors import DiscoveryError
from meshpy.model.names import ServiceName
from tests.helpers.docker_answers import answers


class FakeEngine:
    """Speaks the engine's API over HTTP on a unix socket."""

    def __init__(self):
        self.said = answers()
        self.instead = {}
        self.asked = []
        self.events = asyncio.Queue()

    async def handle(self, request):
        path = request.path.rpartition("/")[2]
        self.asked.append((path, dict(request.query)))
        if path in self.instead:
            return await self.instead[path](request)
        if path == "version":
            return web.json_response({"ApiVersion": "1.41", "MinAPIVersion": "1.12"})
        if path == "events":
            stream = web.StreamResponse()
            await stream.prepare(request)
            while (event := await self.events.get()) is not None:
                await stream.write(json.dumps(event).encode() + b"\n")
            return stream
        return web.json_response(list(getattr(self.said, path)))


@asynccontextmanager
async def engine(tmp_path):
    fake = FakeEngine()
    app = web.Application()
    app.router.add_route("*", "/{anything:.*}", fake.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "engine.sock")).start()
    client = DockerClient(f"unix://{tmp_path}/engine.sock")
    try:
        yield fake, client
    finally:
        await client.close()
        await runner.cleanup()


async def test_four_lists_become_one_view(tmp_path):
    async with engine(tmp_path) as (fake, client):
        view = view_of(await client.everything())
        assert view == view_of(fake.said)
        assert ServiceName("shop", "api") in view.inventory.services
        filters = next(query["filters"] for path, query in fake.asked if path == "tasks")
        assert json.loads(filters) == {"desired-state": ["running"]}


async def _status_500(_request):
    return web.json_response({"message": "rpc error: no leader"}, status=500)


async def _half(request):
    response = web.StreamResponse(headers={"Content-Length": "1000", "Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(b'[{"ID": "x", ')
    request.transport.close()
    return response


async def _no_list(_request):
    return web.json_response({"message": "ok"})


async def _no_json(_request):
    return web.Response(text="[{", content_type="application/json")


async def _silence(_request):
    await asyncio.sleep(30)


@pytest.mark.parametrize("bad", [_status_500, _half, _no_list, _no_json, _silence])
async def test_whatever_an_engine_does_is_one_kind_of_error(tmp_path, bad, monkeypatch):
    monkeypatch.setattr(docker_client, "READ_S", 0.5)
    async with engine(tmp_path) as (fake, client):
        await client.tasks()
        fake.instead["tasks"] = bad
        for read in (client.tasks, client.everything):
            with pytest.raises(DiscoveryError):
                await read()
        del fake.instead["tasks"]
        assert len(await client.tasks()) == 1


async def test_a_missing_socket_is_that_error_too(tmp_path):
    client = DockerClient(f"unix://{tmp_path}/absent.sock")
    with pytest.raises(DiscoveryError):
        await client.tasks()
    with pytest.raises(DiscoveryError):
        await client.watch(lambda: None)
    await client.close()


async def test_events_are_told_until_the_stream_ends_and_can_be_watched_again(tmp_path):
    async with engine(tmp_path) as (fake, client):
        for _ in range(2):
            told = []
            for item in ({"Type": "service", "time": 1}, {"Type": "node", "time": 2}, None):
                fake.events.put_nowait(item)
            async with asyncio.timeout(5):
                await client.watch(lambda told=told: told.append(1))
            assert len(told) == 2
        filters = json.loads(next(query["filters"] for path, query in fake.asked if path == "events"))
        assert set(filters["type"]) == {"service", "network", "node"}
