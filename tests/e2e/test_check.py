"""`meshpy check` on a real Swarm: what its kernel lacks, what is well, and a stranger on an app's network."""

import json

import pytest

from tests.helpers.mesh import STACK, Mesh

pytestmark = pytest.mark.docker

IMAGE = ("--image", "meshpy-proxy:dev")


def looked(mesh: Mesh, *arguments: str) -> dict[str, dict]:
    """The checks by the anchor of their docs, or by what they say."""
    done = mesh.run("check", "-o", "json", *IMAGE, *arguments)
    assert done.code in (0, 1), done.err
    told = json.loads(done.out)
    assert told["success"] is (done.code == 0)
    return {check["description"]: check for each in told["categories"] for check in each["checks"]}


def test_a_deployed_mesh_is_well_and_a_probe_reaches_nothing_but_the_sidecar(deployed: Mesh):
    """Every check passes but the kernel's, which nothing deployed needs; nothing of the check is left."""
    checks = looked(deployed)
    wrong = {fact: check for fact, check in checks.items() if check["result"] in ("error", "unknown")}
    assert wrong == {}
    bypass = checks["an app's network leads to its sidecar and nowhere else"]
    assert "ways tried from 6 networks" in bypass["detail"]
    left = deployed.engine.docker("service", "ls", "-q", "-f", "label=meshpy.part=check")
    left += deployed.engine.docker("network", "ls", "-q", "-f", "label=meshpy.part=check")
    assert left == ""


def test_a_stranger_on_an_apps_network_is_named(deployed: Mesh):
    name, pod = "stranger", f"{STACK}_api-pod"
    deployed.engine.docker(
        "service",
        "create",
        "-dq",
        "--name",
        name,
        "--network",
        pod,
        "--entrypoint",
        "sleep",
        "base:dev",
        "60",
    )
    try:
        check = looked(deployed, "--no-probe", "--stack", STACK)[
            "every app is alone with its sidecar on internal networks"
        ]
    finally:
        deployed.engine.docker("service", "rm", name)
    assert check["result"] == "error"
    assert f"{name} sits on {pod} too" in check["error"]
