"""The control plane as a stack: its names, its image, its deployment, and waiting for it."""

from __future__ import annotations

import json
import os
import time
from importlib.metadata import version
from pathlib import Path

from meshpy.cli.docker import Docker, DockerError
from meshpy.client import CONTEXT_FILE, ApiError, Operator
from meshpy.demo.stacks import stacks_folder
from meshpy.errors import MeshpyError
from meshpy.model.names import ROOT_NAMESPACE

__all__ = [
    "CA_CONFIG",
    "CONTROL_PLANE",
    "MESH",
    "SECRETS",
    "context_file",
    "control_plane_image",
    "deploy_control_plane",
    "proxy_image",
    "wait_until_ready",
]

MESH = "mesh"
CA_CONFIG = "meshpy-ca"
CONTROL_PLANE = f"{ROOT_NAMESPACE}_control-plane"
SECRETS = tuple(
    f"meshpy-{name}"
    for name in ("root.crt", "intermediate.crt", "operator-token", "join-key", "intermediate.key")
)
"""In the order in which `meshpy install` makes them: with the last all are there."""
READY_WITHIN_S = 120.0
SQLITE, SWARM = "sqlite", "swarm"
"""Where revisions are kept: `--store` of the control plane."""


def control_plane_image() -> str:
    """The image of this version."""
    return f"meshpy-control-plane:{version('swarm-meshpy')}"


def proxy_image() -> str:
    """The sidecars' image of this version."""
    return f"meshpy-proxy:{version('swarm-meshpy')}"


def context_file() -> Path:
    """Where the operator's context is; the root key lies beside it."""
    return Path(os.environ.get("MESHPY_CONTEXT", str(CONTEXT_FILE))).expanduser()


def deploy_control_plane(
    image: str, trust_domain: str, *, has_socket_proxy: bool, replicas: int | None = None
) -> None:
    """Deploy stacks/mesh.yml, with the proxy before the engine's socket if wanted; what is right stays.

    Args:
        replicas: more than one keep their revisions in the Swarm's Raft, as one does where there are several
            managers; None: as many as there are.

    Raises:
        MeshpyError: the policies that are in force are kept where the new replicas would not look.
    """
    docker = Docker()
    held = _held(docker)
    count, store = held or (1, SWARM if _has_other_managers(docker) and not has_socket_proxy else SQLITE)
    if replicas is not None:
        count, store = replicas, SQLITE if replicas == 1 and store == SQLITE else SWARM
    if held is not None and store != held[1]:
        raise MeshpyError(
            f"the mesh keeps its policies in {held[1]!r}, {count} replicas would keep theirs in {store!r},"
            " where there are none: the mesh would be open. Save them (`meshpy get -o json`), remove the"
            f" service {CONTROL_PLANE}, install anew, apply them"
        )
    if store == SWARM and has_socket_proxy:
        raise MeshpyError("--socket-proxy is read-only, and replicas write to the Swarm's Raft: choose one")
    env = {"MESHPY_CONTROL_PLANE_IMAGE": image, "MESHPY_TRUST_DOMAIN": trust_domain}
    docker = Docker(env={**env, "MESHPY_REPLICAS": str(count), "MESHPY_STORE": store})
    names = ("mesh.yml", "mesh-socket-proxy.yml") if has_socket_proxy else ("mesh.yml",)
    files = [word for name in names for word in ("-c", str(stacks_folder() / name))]
    docker.run("stack", "deploy", "--resolve-image", "never", *files, ROOT_NAMESPACE)


def _has_other_managers(docker: Docker) -> bool:
    """Whether the control plane may come up on another node one day, where the files of this one are not."""
    return len(docker.run("node", "ls", "--filter", "role=manager", "--format", "{{.ID}}").split()) > 1


def _held(docker: Docker) -> tuple[int, str] | None:
    """How many replicas there are and where they keep revisions; None before the first installation."""
    try:
        [found] = json.loads(docker.run("service", "inspect", CONTROL_PLANE))
    except DockerError:
        return None
    spec = found["Spec"]
    env = spec["TaskTemplate"]["ContainerSpec"].get("Env") or ()
    told = dict(each.partition("=")[::2] for each in env)
    count = ((spec.get("Mode") or {}).get("Replicated") or {}).get("Replicas", 1)
    return int(count), told.get("MESHPY_STORE", SQLITE)


def wait_until_ready(operator: Operator, within_s: float = READY_WITHIN_S) -> None:
    """Wait until the control plane answers.

    Raises:
        DockerError: it does not in time.
    """
    deadline = time.monotonic() + within_s
    while True:
        try:
            operator.call("GET", "/v1/status")
        except ApiError as error:
            if time.monotonic() > deadline:
                raise DockerError(
                    f"the control plane was not ready within {within_s:.0f} s ({error}); "
                    f"see `docker service ps {CONTROL_PLANE}`"
                ) from error
            time.sleep(0.5)
        else:
            return
