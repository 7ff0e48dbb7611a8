"""The read-only door to an engine, over real sockets: what discovery reads passes, nothing else does."""

import json
from contextlib import asynccontextmanager
from dataclasses import replace

import aiohttp
import pytest

from control_plane.discovery.docker_client import DockerClient
from control_plane.discovery.docker_json import view_of
from control_plane.errors import DiscoveryError
from control_plane.socket_proxy import serving
from tests.helpers.docker_answers import answers
from tests.helpers.docker_engine import Engine, listening

SECRET = "hunter2-hunter2"


def with_secrets():
    """Every place of an answer where people put what others must not read."""
    said = answers()
    services = json.loads(json.dumps(said.services))
    for item in services:
        container = item["Spec"]["TaskTemplate"]["ContainerSpec"]
        container["Env"] = [f"PASSWORD={SECRET}"]
        container["Args"] = ["--password", SECRET]
        container["Command"] = [SECRET]
        container["Mounts"] = [{"Source": SECRET, "Target": "/x", "Type": "bind"}]
        container["Secrets"] = [{"SecretName": SECRET}]
        container["Configs"] = [{"ConfigName": SECRET}]
        container["Healthcheck"] = {"Test": ["CMD", SECRET]}
        item["Spec"]["Labels"]["traefik.http.middlewares.a.basicauth.users"] = SECRET
        item["PreviousSpec"] = {"TaskTemplate": {"ContainerSpec": {"Env": [SECRET]}}}
    tasks = json.loads(json.dumps(said.tasks))
    for item in tasks:
        item["Spec"] = {"ContainerSpec": {"Env": [f"PASSWORD={SECRET}"]}}
        item["Status"]["ContainerStatus"] = {"ContainerID": SECRET}
        item["Status"]["Err"] = SECRET
    nodes = [{**item, "Description": {**item["Description"], "TLSInfo": SECRET}} for item in said.nodes]
    networks = [{**item, "Labels": {"x": SECRET}, "Options": {"y": SECRET}} for item in said.networks]
    return replace(said, services=services, tasks=tasks, nodes=nodes, networks=networks)


@asynccontextmanager
async def door(tmp_path):
    engine = Engine(with_secrets())
    listen = f"unix://{tmp_path}/door.sock"
    async with listening(engine, tmp_path / "engine.sock") as host, serving(listen, host):
        client = DockerClient(listen)
        connector = aiohttp.UnixConnector(f"{tmp_path}/door.sock")
        async with aiohttp.ClientSession("http://docker", connector=connector) as http:
            yield engine, client, http
        await client.close()


async def test_discovery_sees_the_same_mesh_through_it(tmp_path):
    async with door(tmp_path) as (engine, client, _):
        assert view_of(await client.everything()) == view_of(engine.said)
        assert len(await client.tasks()) == len(engine.said.tasks)


async def test_no_secret_passes(tmp_path):
    async with door(tmp_path) as (engine, _, http):
        assert SECRET in json.dumps([engine.said.services, engine.said.tasks, engine.said.nodes])
        for path in ("/version", "/services", "/v1.41/tasks", "/v1.41/nodes", "/networks", "/_ping"):
            async with http.get(path) as answer:
                assert answer.status == 200
                assert SECRET not in await answer.text()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/containers/json"),
        ("GET", "/v1.41/secrets"),
        ("GET", "/configs"),
        ("GET", "/services/shop_api"),
        ("GET", "/v1.41/../secrets"),
        ("GET", "/%73ecrets"),
        ("GET", "/swarm"),
        ("GET", "/info"),
        ("HEAD", "/services"),
        ("POST", "/services"),
        ("POST", "/v1.41/services/create"),
        ("POST", "/v1.41/containers/create"),
        ("PUT", "/services"),
        ("DELETE", "/services"),
        ("OPTIONS", "/services"),
        ("CONNECT", "/services"),
    ],
)
async def test_what_is_not_on_the_list_is_refused_and_never_reaches_the_engine(tmp_path, method, path):
    async with door(tmp_path) as (engine, _, http):
        body = None if method in ("GET", "HEAD") else b"{}"
        async with http.request(method, path, data=body) as answer:
            assert answer.status in (403, 404, 405)
            assert SECRET not in await answer.text()
        assert engine.asked == []


async def test_the_caller_does_not_choose_the_question(tmp_path):
    """Filters, sizes and times of the caller are dropped; the engine is asked what discovery asks."""
    async with door(tmp_path) as (engine, _, http):
        async with http.get('/v1.41/tasks?filters={"desired-state":["shutdown"]}&x=1') as answer:
            assert answer.status == 200
        assert engine.asked[-1] == ("GET", "/v1.41/tasks", {"filters": '{"desired-state": ["running"]}'})


async def test_events_pass_as_they_come(tmp_path):
    import asyncio

    async with door(tmp_path) as (engine, client, _):
        changed = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(client.watch(changed.set))
            async with asyncio.timeout(5):
                while not changed.is_set():
                    engine.event()
                    await asyncio.sleep(0.02)
            watching.cancel()


@pytest.mark.parametrize("fault", ["500", "truncated", "an object", "no JSON", "closed"])
async def test_a_failing_engine_is_a_failure_and_never_a_smaller_mesh(tmp_path, fault):
    async with door(tmp_path) as (engine, client, _):
        before = len(await client.tasks())
        engine.fault = fault
        with pytest.raises(DiscoveryError):
            await client.everything()
        with pytest.raises(DiscoveryError):
            await client.tasks()
        engine.fault = ""
        assert len(await client.tasks()) == before


async def test_an_item_of_another_shape_refuses_the_whole_answer(tmp_path):
    async with door(tmp_path) as (engine, client, _):
        engine.said = replace(engine.said, tasks=[*engine.said.tasks, {"ID": "x"}])
        with pytest.raises(DiscoveryError):
            await client.tasks()
