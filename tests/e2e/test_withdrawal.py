"""The last test of all: the mesh is taken away, and nothing of it is left."""

import pytest

from tests.helpers.mesh import Mesh

pytestmark = pytest.mark.docker


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
