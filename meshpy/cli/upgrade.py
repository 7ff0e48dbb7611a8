"""`meshpy upgrade`: the control plane, then every sidecar, to this tool's version; one service at a time."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import click

from meshpy.cli.checks.site import labels_of, stack_of
from meshpy.cli.control_plane_stack import (
    CA_CONFIG,
    CONTROL_PLANE,
    context_file,
    control_plane_image,
    deploy_control_plane,
    proxy_image,
    wait_until_ready,
)
from meshpy.cli.converge import Wait
from meshpy.cli.docker import Docker, DockerError
from meshpy.cli.engine_api import EngineApi
from meshpy.cli.output import ask_format, duration_s, print_json
from meshpy.cli.progress import Progress
from meshpy.cli.stack_deploy import until_in_mesh
from meshpy.cli.stack_state import StackState, update_service
from meshpy.cli.trust import ca_config
from meshpy.client import Context, Operator
from meshpy.errors import MeshpyError
from meshpy.model.names import ROOT_NAMESPACE

__all__ = ["upgrade", "upgraded_spec"]

Record = Mapping[str, Any]


@click.command()
@click.option(
    "--image", default=control_plane_image, show_default="of this version", help="The control plane's image."
)
@click.option(
    "--proxy-image", default=proxy_image, show_default="of this version", help="The sidecars' image."
)
@click.option("--stack", "stacks", multiple=True, help="Of the meshed stacks, this one alone; repeatable.")
@click.option("--only", type=click.Choice(["control-plane", "sidecars"]), help="Upgrade these alone.")
@click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
@click.option(
    "--timeout",
    type=duration_s,
    metavar="TIME",
    default="180s",
    show_default=True,
    help="For each service: 90s, 5m.",
)
@ask_format
def upgrade(
    image: str,
    proxy_image: str,
    stacks: tuple[str, ...],
    only: str | None,
    dry_run: bool,
    timeout: float,
    output: str,
) -> None:
    """Bring the control plane and then the sidecars to this tool's version.

    One service after the other, start-first where its ports allow it; the next begins when the last one runs
    and is in sync. A service that does not come to run is set back, and the upgrade ends there. Sidecars
    carry on while the control plane restarts.

    \b
    Examples:
      meshpy upgrade --dry-run
      meshpy upgrade --only sidecars --stack shop
    """
    work = _Upgrade(Docker(), EngineApi(), Progress(is_silent=output == "json"), timeout)
    work.docker.require_manager()
    if not context_file().exists():
        raise MeshpyError("no operator's context here: run `meshpy install`, or set MESHPY_CONTEXT")
    changes = [] if only == "sidecars" else work.control_plane(image, dry_run=dry_run)
    if only != "control-plane":
        changes += work.sidecars(proxy_image, stacks, dry_run=dry_run)
    if output == "json":
        print_json({"version": version("swarm-meshpy"), "dry_run": dry_run, "changed": changes})
        return
    for each in changes:
        click.echo(
            f"{'would upgrade' if dry_run else 'upgraded'} {each['service']}: {each['from']} -> {each['to']}"
        )
    if not changes:
        click.echo("everything is as this version has it")


@dataclass(frozen=True, slots=True)
class _Upgrade:
    docker: Docker
    engine: EngineApi
    progress: Progress
    timeout_s: float

    def control_plane(self, image: str, *, dry_run: bool) -> list[dict[str, str]]:
        """The stack mesh-system; set back when the new one does not answer."""
        before = StackState.read(self.engine, ROOT_NAMESPACE)
        service = before.services.get(CONTROL_PLANE)
        if service is None:
            raise MeshpyError("there is no control plane on this Swarm: run `meshpy install`")
        change = {"service": CONTROL_PLANE, "from": _image(service), "to": image}
        changes = [change] if _image(service) != image else []
        if dry_run:
            return changes
        context = Context.load()
        try:
            proxied = f"{ROOT_NAMESPACE}_docker-proxy" in before.services
            deploy_control_plane(image, context.trust_domain, has_socket_proxy=proxied)
            Wait(self.engine, ROOT_NAMESPACE, before.services, self.timeout_s, self.progress).until_running()
            wait_until_ready(Operator(context, timeout_s=5), self.timeout_s)
        except MeshpyError as error:
            raise DockerError(f"{error}\n{self._back(before)}") from error
        return changes

    def sidecars(self, image: str, stacks: Sequence[str], *, dry_run: bool) -> list[dict[str, str]]:
        """Every sidecar's service in turn."""
        operator = Operator(Context.load())
        ca = CA_CONFIG if dry_run else ca_config(self.engine, self.docker, operator)
        configs = {each["Spec"]["Name"]: each["ID"] for each in self.engine.get("/configs") or ()}
        changes: list[dict[str, str]] = []
        for service in sorted(self.engine.get("/services") or (), key=lambda each: each["Spec"]["Name"]):
            stack = stack_of(service)
            if "meshpy.workload" not in labels_of(service) or (stacks and stack not in stacks):
                continue
            spec = upgraded_spec(service["Spec"], image, ca, configs.get(ca, ""))
            if spec == service["Spec"]:
                continue
            name = service["Spec"]["Name"]
            if not dry_run:
                self._one(service, spec, stack, operator, changes)
            changes.append({"service": name, "from": _image(service), "to": image})
        return changes

    def _one(
        self, service: Record, spec: Record, stack: str, operator: Operator, done: Sequence[Record]
    ) -> None:
        name, before = service["Spec"]["Name"], StackState.read(self.engine, stack)
        try:
            update_service(self.engine, service, spec)
            Wait(self.engine, stack, before.services, self.timeout_s, self.progress).until_running({name})
            until_in_mesh(
                self.engine, operator, stack, [labels_of(service)["meshpy.workload"]], self.timeout_s
            )
        except MeshpyError as error:
            told = f"upgraded before it: {', '.join(each['service'] for each in done) or 'nothing'}"
            raise DockerError(f"{error}\n{self._back(before)}; {told}") from error

    def _back(self, before: StackState) -> str:
        try:
            failed = StackState.read(self.engine, before.stack).services
            restored = before.restore(self.engine)
            Wait(self.engine, before.stack, failed, self.timeout_s, self.progress).until_running()
        except MeshpyError as error:
            return f"and setting it back failed too: {error}"
        return f"set back: {', '.join(restored.set_back)}"


def _image(service: Record) -> str:
    return str(service["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"])


def upgraded_spec(spec: Record, image: str, ca: str, ca_id: str) -> Record:
    """A sidecar's spec with another image, and with the config that holds the roots of today."""
    changed: dict[str, Any] = copy.deepcopy(dict(spec))
    container = changed["TaskTemplate"]["ContainerSpec"]
    container["Image"] = image
    for each in container.get("Configs") or ():
        if each["ConfigName"].startswith(CA_CONFIG) and ca_id:
            each["ConfigName"], each["ConfigID"] = ca, ca_id
    return changed
