"""`meshpy deploy`: prepare what an injected stack needs, then deploy it, sidecars first; all or nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from meshpy.cli.docker import Docker
from meshpy.cli.edge_certificates import check_certificates
from meshpy.cli.engine_api import EngineApi
from meshpy.cli.inject import evidence_options, inject_options
from meshpy.cli.output import ask_format, duration_s, print_json
from meshpy.cli.preflight import preflight
from meshpy.cli.progress import Progress
from meshpy.cli.stack_deploy import Deployment, services_behind
from meshpy.cli.stack_policies import stated_policies
from meshpy.cli.stack_source import StackSource, compose_file
from meshpy.client import Context, Operator
from meshpy.errors import MeshpyError
from meshpy.inject import Injected, InjectOptions

__all__ = ["deploy", "prepare", "services_behind"]

FILE = compose_file("files", "The stack file, repeatable; `-` is standard input.", required=True)


@click.command()
@FILE
@click.option(
    "-d", "--detach/--wait", default=False, help="Do not wait until every task runs; nothing is rolled back."
)
@click.option("--no-wait", "detach", flag_value=True, hidden=True)
@click.option(
    "--timeout",
    type=duration_s,
    metavar="TIME",
    default="180s",
    show_default=True,
    help="For each of its waits: 90s, 5m.",
)
@click.option(
    "--rollback/--no-rollback", default=True, help="Set the stack back when it does not come to run."
)
@click.option(
    "--preflight/--no-preflight", "check", default=True, help="Look first if the Swarm can carry it."
)
@evidence_options
@inject_options
@ask_format
@click.argument("stack")
def deploy(
    files: tuple[Path, ...],
    stack: str,
    detach: bool,
    timeout: float,
    rollback: bool,
    check: bool,
    images: bool,
    interactive: bool,
    options: InjectOptions,
    output: str,
) -> None:
    """Inject a stack file and deploy it as STACK: secrets and configs, sidecars, the file's policies, apps.

    When a service does not come to run (no image, an unhealthy task, full nodes) the stack is set back to
    what it was: services, published ports, policies. One that was not there before is left to be looked at.

    \b
    Example:
      meshpy deploy -c stack.yml --timeout 5m shop
    """
    docker, engine, progress = Docker(), EngineApi(), Progress(is_silent=output == "json")
    source = StackSource.read(files)
    options = source.settled(stack, options, look_at_images=images, ask=interactive)
    injected = source.inject(stack, options)
    with source.placing():
        stated = stated_policies(source.text, source.name, stack, options)
    if check:
        preflight(engine, docker, injected, progress)
    _prepare(docker, injected, stack, source.folder)
    progress.say(injected.report.to_table())
    deployment = Deployment(docker, engine, Operator(Context.load()), stack, source.folder, timeout, progress)
    revision = deployment.run(injected, stated, wait=not detach, rollback=rollback)
    report = injected.report
    if output == "json":
        print_json({**report.to_json(), "revision": revision, "detached": detach})
        return
    click.echo(f"{stack}: {len(report.sidecars)} services meshed, {len(report.exempt)} exempt")


@click.command()
@FILE
@evidence_options
@inject_options
@ask_format
@click.argument("stack")
def prepare(
    files: tuple[Path, ...], stack: str, images: bool, interactive: bool, options: InjectOptions, output: str
) -> None:
    """Make the secrets and configs that the injected STACK needs, and print the injected file.

    For those who call `docker stack deploy` themselves.

    \b
    Examples:
      meshpy prepare -c stack.yml shop > stack.mesh.yml
      meshpy prepare -c stack.yml shop | docker stack deploy -c - shop
    """
    source = StackSource.read(files)
    options = source.settled(stack, options, look_at_images=images, ask=interactive)
    injected = source.inject(stack, options)
    _prepare(Docker(), injected, stack, source.folder)
    if output == "json":
        print_json({"stack_file": injected.text, "report": injected.report.to_json()})
    else:
        click.echo(injected.text, nl=False)


def _prepare(docker: Docker, injected: Injected, stack: str, folder: Path) -> None:
    """Check the certificates and the Swarm, and make the join secrets that are missing.

    Raises:
        MeshpyError: a certificate cannot be used; the Swarm is not ready, with what to do.
    """
    report = injected.report
    check_certificates(report.servers, report.secrets, folder, datetime.now(UTC))
    docker.require_manager()
    if "mesh" not in docker.names("network"):
        raise MeshpyError("the network `mesh` is missing: run `meshpy install` first")
    running = docker.names("service") if report.gateways else frozenset()
    for gateway in report.gateways:
        if f"{gateway.swarm_name}-sidecar" not in running:
            raise MeshpyError(
                f"there is no egress gateway {gateway}, through which services of {stack} go outside: "
                "run `meshpy install --egress-gateway 2` (mesh-egress/gateway) first"
            )
    present = docker.names("secret")
    operator = Operator(Context.load())
    for service, secret in injected.report.join_secrets.items():
        if secret not in present:
            token = operator.call("POST", "/v1/join-tokens", {"service": f"{stack}/{service}"})["token"]
            docker.create("secret", secret, token, {"meshpy.service": f"{stack}/{service}"})
