"""`meshpy deploy`: prepare what an injected stack needs, then deploy it, sidecars first."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from meshpy.cli.docker import Docker, DockerError
from meshpy.cli.inject import inject_options, read_stack
from meshpy.cli.stack_policies import put_in_force, stated_policies
from meshpy.client import Context, Operator
from meshpy.errors import MeshpyError
from meshpy.inject import Injected, InjectOptions, inject, only_sidecars

__all__ = ["deploy", "prepare", "services_behind"]

WAIT_S = 180.0

FILE = click.option(
    "-c",
    "--compose-file",
    "file",
    required=True,
    type=click.Path(path_type=Path, allow_dash=True),
    help="The stack file; `-` is standard input.",
)


@click.command()
@FILE
@click.option("--wait/--no-wait", default=True, help="Wait until every task runs.")
@inject_options
@click.argument("stack")
def deploy(file: Path, stack: str, wait: bool, options: InjectOptions) -> None:
    """Inject a stack file and deploy it as STACK: secrets and configs, sidecars, the file's policies, apps.

    \b
    Example:
      meshpy deploy -c stack.yml shop
    """
    docker = Docker()
    text = read_stack(file)
    stated = stated_policies(text, str(file), stack, options)
    injected = _prepared(docker, text, str(file), stack, options)
    click.echo(injected.report.to_table(), err=True)
    _deploy(docker, only_sidecars(injected.text), stack, file)
    if wait:
        _wait_until_running(docker, stack, only={f"{stack}_{name}" for name in injected.report.sidecars})
    revision = put_in_force(Operator(Context.load()), stack, stated)
    if revision is not None:
        click.echo(f"  √ policies of the stack file: revision {revision}", err=True)
    _deploy(docker, injected.text, stack, file)
    if wait:
        _wait_until_running(docker, stack, only=None)
        _wait_until_in_mesh(docker, stack, list(injected.report.join_secrets))
    click.echo(
        f"{stack}: {len(injected.report.sidecars)} services meshed, {len(injected.report.exempt)} exempt"
    )


@click.command()
@FILE
@inject_options
@click.argument("stack")
def prepare(file: Path, stack: str, options: InjectOptions) -> None:
    """Make the secrets and configs that the injected STACK needs, and print the injected file.

    For those who call `docker stack deploy` themselves.
    """
    click.echo(_prepared(Docker(), read_stack(file), str(file), stack, options).text, nl=False)


def _prepared(docker: Docker, text: str, file: str, stack: str, options: InjectOptions) -> Injected:
    """Inject, check the Swarm, and make the join secrets that are missing.

    Raises:
        DocumentError: the stack file is wrong; nothing was made.
        MeshpyError: the Swarm is not ready, with what to do.
    """
    injected = inject(text, stack=stack, file=file, options=options)
    docker.require_manager()
    if "mesh" not in docker.names("network"):
        raise MeshpyError("the network `mesh` is missing: run `meshpy install` first")
    present = docker.names("secret")
    operator = Operator(Context.load())
    for service, secret in injected.report.join_secrets.items():
        if secret not in present:
            token = operator.call("POST", "/v1/join-tokens", {"service": f"{stack}/{service}"})["token"]
            docker.create("secret", secret, token, {"meshpy.service": f"{stack}/{service}"})
    return injected


def _deploy(docker: Docker, text: str, stack: str, file: Path) -> None:
    """docker runs in the file's own folder, from which relative paths in it are meant; `-` is in this one."""
    docker.run(
        "stack", "deploy", "--resolve-image", "never", "-c", "-", stack, stdin=text, cwd=file.resolve().parent
    )


def _wait_until_running(docker: Docker, stack: str, only: set[str] | None) -> None:
    """Wait until each service has as many running tasks as it wants.

    Raises:
        DockerError: it took too long; the message names the services and the last error of their tasks.
    """
    deadline = time.monotonic() + WAIT_S
    told: set[str] = set()
    while True:
        rows = [row for row in docker.rows("stack", "services", stack) if only is None or row["Name"] in only]
        waiting = [row["Name"] for row in rows if not _is_complete(row["Replicas"])]
        for row in rows:
            if row["Name"] not in waiting and row["Name"] not in told:
                told.add(row["Name"])
                click.echo(f"  √ {row['Name']} {row['Replicas']}", err=True)
        if rows and not waiting and not _updating(docker, [row["Name"] for row in rows]):
            return
        if time.monotonic() > deadline:
            raise DockerError(
                f"not running after {WAIT_S:.0f} s: " + "; ".join(_why(docker, name) for name in waiting)
            )
        time.sleep(0.5)


def _wait_until_in_mesh(docker: Docker, stack: str, services: Sequence[str]) -> None:
    """Wait until every running sidecar is known to its callers: a task is Swarm's truth, a route the mesh's.

    Raises:
        DockerError: it took too long; the message names the services.
        ApiError: there is no control plane to ask.
    """
    operator, deadline = Operator(Context.load()), time.monotonic() + WAIT_S
    while True:
        rows = {row["Name"]: row["Replicas"] for row in docker.rows("stack", "services", stack)}
        wanted = {
            f"{stack}/{name}": int(rows[f"{stack}_{name}-sidecar"].partition("/")[0])
            for name in services
            if f"{stack}_{name}-sidecar" in rows
        }
        behind = services_behind(operator.call("GET", "/v1/status"), wanted)
        if not behind:
            return
        if time.monotonic() > deadline:
            raise DockerError(
                f"not in the mesh after {WAIT_S:.0f} s: {', '.join(behind)}; see `meshpy status`"
            )
        time.sleep(0.5)


def services_behind(status: Mapping[str, Any], wanted: Mapping[str, int]) -> list[str]:
    """Services of which not every sidecar is in sync and an endpoint, or with a caller that may not know it.

    Args:
        status: `GET /v1/status`.
        wanted: how many sidecars of each service run.
    """
    known = {each["name"]: each for each in status["services"]}
    unsynced = {each["service"] for each in status["sidecars"] if each["state"] != "SYNCED"}
    return [
        name
        for name, count in wanted.items()
        if name in unsynced or name not in known or known[name]["endpoints"] < count
    ]


def _is_complete(replicas: str) -> bool:
    """Read docker's `2/3`, or `0/1 (1/1 completed)` for a job."""
    counts, _, job = replicas.partition(" ")
    running, _, wanted = (job.strip("(").split(" ")[0] if "completed" in job else counts).partition("/")
    return int(running) >= int(wanted)


def _updating(docker: Docker, services: Sequence[str]) -> bool:
    states: list[Mapping[str, Any] | None] = [
        json.loads(line)
        for line in docker.run(
            "service", "inspect", "--format", "{{json .UpdateStatus}}", *services
        ).splitlines()
    ]
    return any(state and state.get("State") in ("updating", "rollback_started") for state in states)


def _why(docker: Docker, service: str) -> str:
    rows = docker.rows("service", "ps", "--no-trunc", service)
    errors = [row["Error"] for row in rows if row.get("Error")]
    return f"{service}: {errors[0] if errors else 'its tasks are not running yet'}"
