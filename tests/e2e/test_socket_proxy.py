"""The control plane without the engine's socket: a read-only proxy stands between them."""

import json

import pytest

from tests.helpers.mesh import STACK, Mesh

pytestmark = pytest.mark.docker

CONTROL_PLANE, PROXY = "mesh-system_control-plane", "mesh-system_docker-proxy"
ASK = """
import json, sys, urllib.request, urllib.error
method, path = sys.argv[1:3]
request = urllib.request.Request("http://docker-proxy:2375" + path, method=method, data=b"{}" if method == "POST" else None)
try:
    with urllib.request.urlopen(request, timeout=10) as answer:
        print(json.dumps([answer.status, answer.read().decode()]))
except urllib.error.HTTPError as error:
    print(json.dumps([error.code, error.read().decode()]))
"""  # noqa: E501
INSTALL = ("install", "--image", "meshpy-control-plane:dev")


@pytest.fixture(scope="module")
def walled(deployed: Mesh):
    """The mesh, its control plane behind the proxy; afterwards as it was."""
    engine = deployed.engine
    deployed.ok(*INSTALL, "--socket-proxy", timeout_s=300)
    engine.wait_running(PROXY, timeout_s=90)
    engine.wait("the control plane is ready", lambda: _is_fresh(deployed), 120)
    yield deployed
    deployed.ok(*INSTALL, timeout_s=300)
    engine.docker("service", "rm", PROXY)
    engine.wait_running(CONTROL_PLANE, timeout_s=120)


def _is_fresh(mesh: Mesh) -> bool:
    told = mesh.engine.api(f"/services/{CONTROL_PLANE}")["Spec"]["TaskTemplate"]["ContainerSpec"]
    is_new = any(word.startswith("DOCKER_HOST=") for word in told["Env"])
    tasks = mesh.engine.running(CONTROL_PLANE)
    if not is_new or len(tasks) != 1:
        return False
    env = mesh.engine.exec(tasks[0], "env").out
    return "DOCKER_HOST=tcp://docker-proxy:2375" in env and not mesh.status()["discovery"]["problem"]


def ask(mesh: Mesh, method: str, path: str) -> tuple[int, str]:
    """What the control plane's container is answered by the proxy."""
    done = mesh.engine.python(mesh.engine.task(CONTROL_PLANE), ASK, method, path)
    return tuple(json.loads(done.out))


def test_the_mesh_lives_behind_it(walled: Mesh):
    """A sidecar that is added is found, attested and in sync; one that goes is gone."""
    engine = walled.engine
    sidecar = f"{STACK}_api-sidecar"
    before = len(engine.running(sidecar))

    def endpoints() -> int:
        [service] = [each for each in walled.status()["services"] if each["name"] == f"{STACK}/api"]
        return service["synced"] if service["endpoints"] == service["synced"] else 0

    engine.docker("service", "scale", "--detach", f"{sidecar}={before + 1}")
    engine.wait("the new sidecar is in sync", lambda: endpoints() == before + 1, 60)
    engine.docker("service", "scale", "--detach", f"{sidecar}={before}")
    engine.wait("it is gone", lambda: endpoints() == before, 60)


def test_it_tells_no_environment_and_takes_no_order(walled: Mesh):
    status, text = ask(walled, "GET", "/services")
    assert status == 200
    assert "meshpy.workload" in text
    for word in ('"Env"', '"Args"', '"Command"', '"Mounts"', '"Secrets"', '"Configs"', '"Image"'):
        assert word not in text
    whole = json.dumps(walled.engine.api("/services"))
    assert '"Env"' in whole  # the positive control
    refused = [("GET", "/secrets"), ("GET", "/containers/json"), ("POST", "/services/create")]
    assert [ask(walled, *each)[0] for each in refused] == [403] * 3


def test_the_control_plane_has_no_socket(walled: Mesh):
    done = walled.engine.exec(
        walled.engine.task(CONTROL_PLANE),
        "python3",
        "-c",
        "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/var/run/docker.sock')",
    )
    assert done.code != 0
    assert "ConnectionRefusedError" in done.err or "NotADirectory" in done.err or "FileNotFound" in done.err
