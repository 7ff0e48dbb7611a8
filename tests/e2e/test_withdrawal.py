"""The mesh is used without the operator's folder; it is taken away, and nothing of it is left."""

import os
from pathlib import Path

import pytest

from tests.helpers.mesh import Mesh

pytestmark = pytest.mark.docker


CONTROL_PLANE = "mesh-system_control-plane"


def test_what_an_operator_needs_is_in_the_control_planes_container(deployed: Mesh, tmp_path: Path):
    """As docs/operations.md has it, in the environment of somebody who has no folder."""
    [task] = deployed.engine.running(CONTROL_PLANE)
    root, token = (
        deployed.engine.exec(task, "cat", f"/run/secrets/{name}").out
        for name in ("root.crt", "operator-token")
    )
    (tmp_path / "root.crt").write_text(root)
    here = os.environ | {"DOCKER_HOST": deployed.engine.host, "MESHPY_CONTEXT": str(tmp_path / "none.json")}
    found = {"MESHPY_URL": "https://127.0.0.1:15014", "MESHPY_TOKEN": token.strip()}
    lost = Mesh(deployed.engine, tmp_path)
    lost.env = here | found | {"MESHPY_CA_FILE": str(tmp_path / "root.crt")}
    assert "default/api" in lost.ok("status")


def stacks(mesh: Mesh) -> list[str]:
    return mesh.engine.docker("stack", "ls", "--format", "{{.Name}}").split()


def test_uninstall_refuses_while_a_stack_is_meshed_and_then_leaves_nothing(deployed: Mesh):
    engine = deployed.engine
    refused = deployed.run("uninstall")
    assert refused.code == 2
    assert "meshed stacks are there: " in refused.err
    assert "default" in refused.err
    for name in stacks(deployed):
        if name != "mesh-system":
            engine.remove(name)
    deployed.ok("uninstall")
    kinds = ("secret", "config", "network", "volume")
    left = [*stacks(deployed)]
    for kind in kinds:
        left += engine.docker(kind, "ls", "--format", "{{.Name}}").split()
    # Other tests leave networks and volumes of their own.
    assert [name for name in left if "mesh" in name or "sidecar" in name or name.endswith("-pod")] == []
