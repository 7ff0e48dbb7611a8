"""The files that users take, each read by its reader: dashboards, rules, the stack, configurations."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp
import pytest
from ruamel.yaml import YAML

from meshpy.model.endpoint import Endpoint
from proxy.metrics_server import MetricsServer
from tests.helpers.backends import backend
from tests.helpers.control_plane import API, VIEWER, WEB, plane
from tests.helpers.ports import free_port
from tests.helpers.sidecars import LOOPBACK, Client, inbound_snapshot
from tests.integration.peers.test_prometheus import PROMETHEUS, PROMTOOL, _echo, _is_answered, _load
from tests.integration.proxy.test_logs import audited
from tests.integration.proxy.test_pair import pair, tcp_pair

STACKS = Path(__file__).parents[3] / "stacks"
FILES = STACKS / "observability"
DASHBOARDS = sorted((FILES / "dashboards").glob("*.json"))
WITHIN_S = 40
DOCKER = shutil.which("docker")


def yaml(path):
    return YAML(typ="safe").load(path)


def dashboard_queries() -> dict[str, str]:
    """Every query of the dashboards, their variables being everything."""
    found = {}
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel["targets"]:
                query = re.sub(r"\$(namespace|workload)\b", ".*", target["expr"])
                name = f"{path.stem}: {panel['title']} {target['refId']}"
                found[name] = query.replace("$__rate_interval", "30s")
    return found


def test_dashboards_are_whole():
    uids = []
    for path in DASHBOARDS:
        board = json.loads(path.read_text())
        uids.append(board["uid"])
        panels = board["panels"]
        assert len({panel["id"] for panel in panels}) == len(panels)
        variables = {each["name"] for each in board["templating"]["list"]}
        used = set(re.findall(r"\$\{?(\w+)", path.read_text())) - {"__all", "__rate_interval"}
        assert used <= variables
        corners = {(p["gridPos"]["x"], p["gridPos"]["y"]) for p in panels}
        assert len(corners) == len(panels)
        assert all(p["gridPos"]["x"] + p["gridPos"]["w"] <= 24 for p in panels)
    assert len(set(uids)) == len(DASHBOARDS) == 3


@pytest.mark.skipif(PROMETHEUS is None, reason="prometheus is not installed")
async def test_every_query_of_the_dashboards_finds_series_by_http_discovery(processes, pki, tmp_path):
    async with AsyncExitStack() as stack:
        app = await stack.enter_async_context(backend())
        callee = inbound_snapshot(80, (Endpoint(LOOPBACK, app.port),), authorization=audited())
        http_port, _, web, api = await stack.enter_async_context(pair(pki, app.port, callee=callee))
        tcp_port, _, caller, called = await stack.enter_async_context(tcp_pair(pki, _echo))
        mesh = await stack.enter_async_context(plane(tmp_path))
        loop = asyncio.get_running_loop()
        for name, task, sidecar in (
            (WEB, "w1", web),
            (API, "a1", api),
            (API, "a2", caller),
            (API, "a3", called),
        ):
            server = await loop.create_server(lambda sidecar=sidecar: MetricsServer(sidecar), LOOPBACK, 0)
            stack.callback(server.close)
            stream = await stack.enter_async_context(
                mesh.stream(await mesh.enrol(name, task=task), task=task)
            )
            hello = {"type": "hello", "held": "", "task": task, "node": "n1"}
            port = server.sockets[0].getsockname()[1]
            await stream.socket.send_json({**hello, "metrics_port": port})
        (token := tmp_path / "token").write_text(VIEWER)
        config = yaml(FILES / "prometheus.yml")
        sidecars, control_plane = config["scrape_configs"]
        config["global"]["scrape_interval"] = "1s"
        del config["rule_files"]
        for job in (sidecars["http_sd_configs"][0], control_plane):
            job["authorization"]["credentials_file"] = str(token)
            del job["tls_config"]
        sidecars["http_sd_configs"][0] |= {
            "url": f"{mesh.operator}/v1/prometheus/targets",
            "refresh_interval": "1s",
        }
        control_plane |= {"scheme": "http"}
        control_plane["static_configs"][0]["targets"] = [mesh.operator.removeprefix("http://")]
        (tmp_path / "prometheus.yml").write_text(json.dumps(config))
        port = free_port()
        arguments = [f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/tsdb"]
        processes.start([PROMETHEUS, *arguments, f"--web.listen-address={LOOPBACK}:{port}"])
        http = await stack.enter_async_context(aiohttp.ClientSession())
        load = loop.create_task(_load(http_port, tcp_port))
        async with await Client.connect(http_port) as client:
            await client.get("/audited")
        unanswered = dashboard_queries() | {"discovered": 'count(up{job="meshpy-sidecars",task="a1"} == 1)'}
        assert len(unanswered) >= 30
        end = loop.time() + WITHIN_S
        while unanswered and loop.time() < end:
            await asyncio.sleep(1)
            url = f"http://{LOOPBACK}:{port}"
            unanswered = {
                name: query for name, query in unanswered.items() if not await _is_answered(http, url, query)
            }
            assert not load.done() or load.result()
        processes.stop()
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)
    assert unanswered == {}


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed")
@pytest.mark.parametrize("name", ["prometheus.yml", "prometheus-dockerswarm.yml"])
def test_prometheus_takes_its_configuration(name):
    command = [PROMTOOL, "check", "config", "--syntax-only", str(FILES / name)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(DOCKER is None, reason="docker is not installed")
def test_the_stack_is_one_that_docker_takes():
    command = [DOCKER, "stack", "config", "-c", str(STACKS / "observability.yml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert set(YAML(typ="safe").load(done.stdout)["services"]) == {
        "prometheus",
        "grafana",
        "jaeger",
        "loki",
        "alloy",
    }


def test_the_stack_names_files_that_are_there_and_mounts_every_dashboard():
    stack = yaml(STACKS / "observability.yml")
    files = {name: each["file"] for name, each in stack["configs"].items() if "file" in each}
    assert all((STACKS / file).exists() for file in files.values())
    mounted = {file for file in files.values() if "/dashboards/" in file}
    assert {Path(file).name for file in mounted} == {path.name for path in DASHBOARDS}
    for service in stack["services"].values():
        assert {each["source"] for each in service.get("configs", ())} <= stack["configs"].keys()
        assert {each["source"] for each in service.get("secrets", ())} <= stack["secrets"].keys()


def test_the_collector_s_pipelines_are_made_of_what_it_defines():
    config = yaml(FILES / "otel-collector.yml")
    for signal, pipeline in config["service"]["pipelines"].items():
        assert signal in ("traces", "metrics")
        for kind, names in pipeline.items():
            assert set(names) <= config[kind].keys()
    ports = {
        each["endpoint"].rpartition(":")[2] for each in config["receivers"]["otlp"]["protocols"].values()
    }
    assert ports == {"4317", "4318"}


def test_filebeat_decodes_whole_lines_into_the_event():
    (provider,) = yaml(FILES / "filebeat.yml")["filebeat.autodiscover"]["providers"]
    (template,) = provider["templates"]
    ((decode,),) = [each["processors"] for each in template["config"]]
    assert decode["decode_json_fields"]["target"] == ""


def test_loki_s_labels_are_fields_of_the_log():
    """Those that are few in values, as `loki` writes them."""
    text = (FILES / "config.alloy").read_text()
    named = set(re.findall(r"(\w+) = \"\"", text))
    source = (STACKS.parent / "proxy/log_shape.py").read_text()
    assert named == {"level", "source", "destination", "verdict", "direction"}
    assert all(f'("{name}",' in source for name in named)
    sources = yaml(FILES / "grafana-datasources.yml")["datasources"]
    assert {each["type"] for each in sources} == {"prometheus", "jaeger", "loki"}
