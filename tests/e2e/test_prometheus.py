"""The Prometheus of stacks/observability.yml on a Swarm: Istio's dashboards find series of every kind."""

import json
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.e2e import images
from tests.helpers.mesh import INJECT, ROOT, Mesh
from tests.helpers.promql import istio_queries
from tests.helpers.stacks import on_this_kernel

pytestmark = pytest.mark.docker

STACK, WATCH = "shop", "observability"
WITHIN_S = 90
# Requests of several sizes and kinds, some of them refused by the app, and connections that talk and end.
CALLS = """
import socket, time, urllib.error, urllib.request
while True:
    for data in (None, b"x" * 300):
        try:
            urllib.request.urlopen("http://api:8080/", data, timeout=5).read()
        except OSError:
            pass
    try:
        with socket.create_connection(("db", 6379), 5) as db:
            db.sendall(b"PING\\r\\n")
            db.recv(100)
    except OSError:
        pass
    time.sleep(0.2)
"""
FILE = f"""
version: "3.8"
services:
  web:
    image: meshpy-shop:dev
    command: [python, -c, {json.dumps(CALLS)}]
    init: true
    deploy: {{labels: {{meshpy.ports: ""}}}}
  api:
    image: meshpy-shop:dev
    command: [python, -m, http.server, "8080"]
    init: true
    deploy: {{labels: {{meshpy.ports: 8080/http}}}}
  db:
    image: redis:7
    command: [redis-server, --save, ""]
x-mesh:
  sidecar_environment: {{MESHPY_METRICS: "mesh:15020"}}
"""
# Of these queries, which find no sample yet.
ASK = """
import json, sys, urllib.parse, urllib.request
base = "http://127.0.0.1:9090/api/v1/query?query="
lacking = []
for name, query in json.load(sys.stdin).items():
    try:
        with urllib.request.urlopen(base + urllib.parse.quote(query), timeout=10) as answer:
            found = json.load(answer)["data"]["result"]
    except OSError:
        found = []
    if not any(sample["value"][1] != "NaN" for sample in found):
        lacking.append(name)
print(json.dumps(lacking))
"""


def prometheus_alone(folder: Path) -> Path:
    """The stack file with its Prometheus and nothing else; files that it names are where they were."""
    yaml = YAML(typ="safe")
    stack = yaml.load((ROOT / "stacks/observability.yml").read_text())
    only = stack["services"]["prometheus"]
    named = {each["source"] for each in only["configs"]}
    stack["services"] = {"prometheus": only}
    stack["configs"] = {name: each for name, each in stack["configs"].items() if name in named}
    for each in stack["configs"].values():
        if "file" in each:
            each["file"] = str(ROOT / "stacks" / each["file"])
    stack["secrets"] = {name: each for name, each in stack["secrets"].items() if name == "viewer-token"}
    stack["volumes"] = {"prometheus": {}}
    made = folder / "prometheus.yml"
    with made.open("w") as file:
        yaml.dump(stack, file)
    return made


def test_a_prometheus_on_the_mesh_answers_every_query_of_istios_dashboards(deployed: Mesh, tmp_path: Path):
    """As docs/observability.md has it: a viewer's token, the stack, one line in the application's file."""
    mesh, engine = deployed, deployed.engine
    images.build_prometheus(engine.host)
    made = json.loads(mesh.ok("token", "create", "prometheus", "--role", "viewer", "-o", "json"))
    engine.docker("secret", "create", "meshpy-viewer-token", "-", stdin=made["token"])
    try:
        mesh.ok("deploy", *INJECT, "-c", "-", STACK, stdin=FILE)
        engine.deploy(WATCH, on_this_kernel(prometheus_alone(tmp_path).read_text()))
        prometheus = engine.task(f"{WATCH}_prometheus")
        queries = istio_queries()
        assert len(queries) >= 40
        bytes_of_api = queries["workload: TCP Server Traffic"]  # here db is who speaks TCP
        queries["workload: TCP Server Traffic"] = bytes_of_api.replace('"api"', '"db"')
        queries["a target for each sidecar"] = (
            'count(up{job="meshpy-sidecars", service=~"shop/.*"} == 1) == 3'
        )
        queries["the control plane"] = 'up{job="meshpy-control-plane"} == 1'
        lacking = list(queries)

        def are_answered() -> bool:
            words = json.dumps({name: queries[name] for name in lacking})
            asked = [*engine.docker_at(prometheus), "exec", "-i", prometheus.container, "python3", "-c", ASK]
            lacking[:] = json.loads(engine.run(*asked, stdin=words).out or json.dumps(lacking))
            return not lacking

        try:
            engine.wait("every query is answered", are_answered, WITHIN_S)
        except Exception as error:
            raise AssertionError(f"{error}: {lacking}\n{engine.logs(f'{WATCH}_prometheus', 20)}") from error
    finally:
        for stack in (WATCH, STACK):
            engine.remove(stack)
        engine.docker("secret", "rm", "meshpy-viewer-token")
