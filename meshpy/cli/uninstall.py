"""`meshpy uninstall`: the control plane, its secrets and configs and the mesh network, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import click

from meshpy.cli.control_plane_stack import MESH, context_file
from meshpy.cli.docker import Docker, DockerError
from meshpy.cli.engine_api import STACK, EngineApi, EngineRefused
from meshpy.cli.output import ask_format, print_json
from meshpy.cli.progress import waiting
from meshpy.errors import MeshpyError
from meshpy.model.names import ROOT_NAMESPACE

__all__ = ["uninstall"]

GONE_S = 60.0
LOOK_S = 0.5
VOLUME = f"{ROOT_NAMESPACE}_data"


@click.command()
@click.option("--force", is_flag=True, help="Although stacks are meshed: their sidecars get no certificate.")
@click.option("--keep-data", is_flag=True, help="Leave the volume with revisions and audit log.")
@click.option("--keep-context", is_flag=True, help="Leave the operator's context and the root key here.")
@ask_format
def uninstall(force: bool, keep_data: bool, keep_context: bool, output: str) -> None:
    """Remove the control plane, its secrets and configs, and the mesh network from the Swarm.

    It refuses while a meshed stack is there: `docker stack rm` it, or deploy its original.

    \b
    Examples:
      meshpy uninstall
      meshpy uninstall --keep-data --keep-context
    """
    docker, engine = Docker(), EngineApi()
    docker.require_manager()
    meshed = _meshed(engine)
    if meshed and not force:
        raise MeshpyError(
            f"meshed stacks are there: {', '.join(meshed)}; their sidecars would get no certificates. "
            "Remove them (`docker stack rm`), or deploy their originals (`meshpy uninject`); --force goes on"
        )
    removed: list[str] = []
    with waiting("removing"):
        left = _remove_all(docker, engine, removed, keep_data=keep_data)
    if not keep_context:
        removed += [str(file) for file in _remove_context()]
    if output == "json":
        print_json({"removed": removed, "left": left})
    else:
        for name in removed:
            click.echo(f"removed {name}")
    if left:
        raise DockerError(
            f"would not go: {', '.join(left)}; run `meshpy uninstall` again when nothing uses them"
        )


def _meshed(engine: EngineApi) -> list[str]:
    labels = [each["Spec"].get("Labels") or {} for each in engine.get("/services") or ()]
    return sorted({each.get(STACK, "?") for each in labels if "meshpy.workload" in each})


def _remove_all(docker: Docker, engine: EngineApi, removed: list[str], *, keep_data: bool) -> list[str]:
    """Services first, then what they used, as soon as their last task is gone; names of what would not go."""
    for each in engine.of_stack("services", ROOT_NAMESPACE):
        engine.delete(f"/services/{each['ID']}")
        removed.append(f"service {each['Spec']['Name']}")
    deadline = time.monotonic() + GONE_S
    while True:
        left = []
        for path, what in _ours(engine):
            try:
                engine.delete(path)
            except EngineRefused:
                left.append(what)
            else:
                removed.append(what)
        if not keep_data and not _is_volume_gone(docker, removed):
            left.append(f"volume {VOLUME}")
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(LOOK_S)


def _ours(engine: EngineApi) -> Iterator[tuple[str, str]]:
    """Everything that install, deploy and the control plane made: by its names, which are all `meshpy-…`."""
    for kind in ("secrets", "configs"):
        for each in engine.get(f"/{kind}") or ():
            if each["Spec"]["Name"].startswith("meshpy-") and _is_made_here(each):
                yield f"/{kind}/{each['ID']}", f"{kind.removesuffix('s')} {each['Spec']['Name']}"
    for each in engine.get("/networks") or ():
        is_mesh = each["Name"] == MESH and each.get("Internal") and each.get("Driver") == "overlay"
        stack = (each.get("Labels") or {}).get(STACK)
        if each.get("Scope") == "swarm" and (is_mesh or stack == ROOT_NAMESPACE):
            yield f"/networks/{each['Id']}", f"network {each['Name']}"


def _is_made_here(thing: Mapping[str, Any]) -> bool:
    labels = thing["Spec"].get("Labels") or {}
    return any(name.startswith(("meshpy.", "meshpy-")) for name in labels)


def _is_volume_gone(docker: Docker, removed: list[str]) -> bool:
    """The volume of the node that `docker` points to; other managers may hold one of an earlier time."""
    if VOLUME not in {row["Name"] for row in docker.rows("volume", "ls")}:
        return True
    try:
        docker.run("volume", "rm", VOLUME)
    except DockerError:
        return False
    removed.append(f"volume {VOLUME} (of this node)")
    return True


def _remove_context() -> Iterator[Any]:
    file = context_file()
    for each in (file, file.with_name("root.key"), file.with_name("probed.json")):
        if each.exists():
            each.unlink()
            yield each
