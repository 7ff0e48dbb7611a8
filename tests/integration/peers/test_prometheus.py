"""A real Prometheus scrapes real sidecars, and every query of Istio's dashboards finds series."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest

from proxy.admin import Admin
from proxy.series import prometheus_text
from tests.helpers.backends import backend
from tests.helpers.ports import free_port
from tests.helpers.promql import istio_queries
from tests.helpers.sidecars import LOOPBACK, Client
from tests.integration.proxy.test_pair import pair, tcp_pair

PROMETHEUS = shutil.which("prometheus")
PROMTOOL = shutil.which("promtool")
pytestmark = pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not installed")
WITHIN_S = 40
TRACE = "a" * 32
SAMPLED = f"traceparent: 00-{TRACE}-{'b' * 16}-01\r\n"


async def _echo(reader, writer):
    while data := await reader.read(4096):
        writer.write(data)
    writer.close()


async def _load(http_port, tcp_port):
    """Requests of several sizes and a TCP connection that talks and ends, 20 a second."""
    async with await Client.connect(http_port) as client:
        while True:
            await client.post("/items", b"x" * 300)
            await client.get("/items", headers=SAMPLED)
            async with await Client.connect(tcp_port) as other:
                await other.send(b"ping")
                await other.reader.readexactly(4)
            await asyncio.sleep(0.05)


def _start(processes, folder, ports):
    targets = ", ".join(f"'{LOOPBACK}:{port}'" for port in ports)
    config = folder / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
        f"scrape_configs: [{{job_name: meshpy, static_configs: [{{targets: [{targets}]}}]}}]\n"
    )
    port = free_port()
    arguments = [f"--config.file={config}", f"--storage.tsdb.path={folder}/tsdb"]
    arguments.append("--enable-feature=exemplar-storage")
    processes.start([PROMETHEUS, *arguments, f"--web.listen-address={LOOPBACK}:{port}"])
    return f"http://{LOOPBACK}:{port}"


async def _is_answered(http, url, query) -> bool:
    try:
        async with http.get(f"{url}/api/v1/query", params={"query": query}) as answer:
            data = await answer.json()
    except aiohttp.ClientError:
        return False  # it is starting
    assert data["status"] == "success", (query, data)
    return any(sample["value"][1] != "NaN" for sample in data["data"]["result"])


async def _examples(http, url) -> set[str]:
    """The traces that Prometheus knows of the buckets of a duration."""
    query = {"query": "istio_request_duration_milliseconds_bucket", "start": "0", "end": "9999999999"}
    async with http.get(f"{url}/api/v1/query_exemplars", params=query) as answer:
        data = (await answer.json())["data"]
    return {each["labels"]["trace_id"] for series in data for each in series["exemplars"]} & {TRACE}


async def test_every_query_of_istios_dashboards_finds_series(processes, pki, tmp_path):
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(backend())
        http_port, _, web, api = await stack.enter_async_context(pair(pki, app.port))
        tcp_port, _, caller, callee = await stack.enter_async_context(tcp_pair(pki, _echo))
        loop, ports = asyncio.get_running_loop(), []
        for sidecar in (web, api, caller, callee):
            server = await loop.create_server(lambda sidecar=sidecar: Admin(sidecar), LOOPBACK, 0)
            stack.callback(server.close)
            ports.append(server.sockets[0].getsockname()[1])
        url = _start(processes, tmp_path, ports)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        load = loop.create_task(_load(http_port, tcp_port))
        unanswered = istio_queries()
        assert len(unanswered) >= 40
        end = loop.time() + WITHIN_S
        while unanswered and loop.time() < end:
            await asyncio.sleep(1)
            unanswered = {
                name: query for name, query in unanswered.items() if not await _is_answered(http, url, query)
            }
            assert not load.done() or load.result()
        assert await _examples(http, url) == {TRACE}
        processes.stop()  # before the servers that it keeps connections to
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)
    assert unanswered == {}


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
async def test_the_exposition_is_what_promtool_accepts(pki):
    async with (
        backend() as app,
        pair(pki, app.port) as (port, _, web, api),
        await Client.connect(port) as client,
    ):
        await client.get("/")
        texts = [prometheus_text(web.telemetry), prometheus_text(api.telemetry)]
    for text in texts:
        process = await asyncio.create_subprocess_exec(
            PROMTOOL, "check", "metrics", stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        _, said = await process.communicate(text.encode())
        complaints = [
            line
            for line in said.decode().splitlines()
            if not any(name in line for name in ("should", "no help", "use base unit"))
        ]
        assert complaints == []


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
async def test_the_alerts_are_rules_that_prometheus_loads():
    rules = Path(__file__).parents[3] / "stacks/prometheus-rules.yml"
    process = await asyncio.create_subprocess_exec(
        PROMTOOL, "check", "rules", rules, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    assert b"SUCCESS: 9 rules found" in said
