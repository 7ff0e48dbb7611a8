"""Where a new control plane keeps its policies: with the manager that runs it, or with all of them."""

import pytest

from meshpy.cli.control_plane_stack import deploy_control_plane

DOCKER = """#!/bin/sh
case "$1 $2" in
"service inspect") exit 1;;              # nothing is installed yet
"node ls") echo {managers} | tr ' ' '\\n';;
"stack deploy") echo "$MESHPY_REPLICAS $MESHPY_STORE" > "$TOLD";;
esac
"""


@pytest.mark.parametrize(
    ("managers", "has_socket_proxy", "replicas", "told"),
    [
        ("a", False, None, "1 sqlite"),
        ("a b c", False, None, "1 swarm"),  # the next manager finds what the one before had
        ("a b c", True, None, "1 sqlite"),  # a socket that is only read cannot write to the Raft
        ("a b c", False, 3, "3 swarm"),
    ],
)
def test_several_managers_share_what_a_control_plane_keeps(
    managers, has_socket_proxy, replicas, told, tmp_path, monkeypatch
):
    docker = tmp_path / "docker"
    docker.write_text(DOCKER.format(managers=managers))
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setenv("TOLD", str(tmp_path / "told"))
    deploy_control_plane("image", "mesh.test", has_socket_proxy=has_socket_proxy, replicas=replicas)
    assert (tmp_path / "told").read_text().strip() == told
