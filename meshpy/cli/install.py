"""`meshpy install`: the CA, the mesh network and the control plane of a Swarm."""

from __future__ import annotations

import ipaddress
import json
import secrets
from datetime import UTC, datetime

import click
from cryptography.hazmat.primitives.serialization import Encoding

from certs.ca import CertificateAuthority
from certs.files import write_atomic
from certs.keys import key_to_pem
from meshpy.cli.checks.carriers import subnets_of
from meshpy.cli.control_plane_stack import (
    CA_CONFIG,
    MESH,
    READY_WITHIN_S,
    SECRETS,
    context_file,
    control_plane_image,
    deploy_control_plane,
    proxy_image,
    wait_until_ready,
)
from meshpy.cli.converge import Wait
from meshpy.cli.docker import Docker
from meshpy.cli.engine_api import EngineApi
from meshpy.cli.gateway_stack import GATEWAY, deploy_gateway
from meshpy.cli.output import ask_format, print_result
from meshpy.cli.progress import Progress
from meshpy.cli.stack_state import StackState
from meshpy.cli.trust import PART
from meshpy.client import Context, Operator
from meshpy.errors import MeshpyError
from meshpy.model.names import ROOT_NAMESPACE

__all__ = ["install"]

SMALLEST_BITS = 20


@click.command()
@click.option(
    "--trust-domain", default="cluster.local", show_default=True, help="The first part of every identity."
)
@click.option(
    "--address", default="127.0.0.1", show_default=True, help="Where this machine reaches the control plane."
)
@click.option(
    "--subnet", default="10.201.0.0/20", show_default=True, help="Of the network `mesh`; a /20 or larger."
)
@click.option(
    "--image", default=control_plane_image, show_default="of this version", help="The control plane's image."
)
@click.option(
    "--socket-proxy", is_flag=True, help="Keep the engine's socket from the control plane: a proxy reads it."
)
@click.option(
    "--replicas",
    type=click.IntRange(1, 7),
    help="Of the control plane, one a manager; more than one keep policies in the Swarm's Raft.  [1]",
)
@click.option(
    "--egress-gateway",
    "gateways",
    type=click.IntRange(1, 100),
    metavar="REPLICAS",
    help="Deploy an egress gateway too: mesh-egress/gateway, for `x-mesh: {egress_gateway: …}`.",
)
@click.option(
    "--proxy-image", default=proxy_image, show_default="of this version", help="The egress gateway's image."
)
@ask_format
def install(
    trust_domain: str,
    address: str,
    subnet: str,
    image: str,
    socket_proxy: bool,
    replicas: int | None,
    gateways: int | None,
    proxy_image: str,
    output: str,
) -> None:
    """Make the CA, the mesh network and the control plane on the Swarm that `docker` points to.

    The root key stays on this machine, beside the operator's context (~/.config/meshpy): keep it offline.
    What is there already is kept: a second run changes nothing, a run after a broken one finishes it.

    \b
    Examples:
      meshpy install
      meshpy install --trust-domain prod.example.com --replicas 3 --socket-proxy
    """
    _check_subnet(subnet)
    docker, engine, progress = Docker(), EngineApi(), Progress(is_silent=output == "json")
    docker.require_manager()
    _make_network(docker, engine, subnet)
    context = _make_trust(docker, Context(url=f"https://{address}:15014", trust_domain=trust_domain))
    before = StackState.read(engine, ROOT_NAMESPACE)
    deploy_control_plane(image, context.trust_domain, has_socket_proxy=socket_proxy, replicas=replicas)
    progress.say("waiting for the control plane")
    # Of an older image that is still leaving an answer would say nothing.
    Wait(engine, ROOT_NAMESPACE, before.services, READY_WITHIN_S, progress).until_running()
    wait_until_ready(Operator(context, timeout_s=5))
    if gateways is not None:
        deploy_gateway(Operator(context), proxy_image, context.trust_domain, gateways)
        Wait(engine, GATEWAY, {}, READY_WITHIN_S, progress).until_running()
    gateway = None if gateways is None else f"{GATEWAY}/gateway"
    made = {
        "control_plane": context.url,
        "trust_domain": context.trust_domain,
        "context": str(context_file()),
        "egress_gateway": gateway,
    }
    told = [f"control plane: {context.url}", *([f"egress gateway: {gateway}"] if gateway else [])]
    print_result(output, made, "\n".join(told))


def _check_subnet(subnet: str) -> None:
    try:
        bits = ipaddress.ip_network(subnet).prefixlen
    except ValueError as error:
        raise click.BadParameter(f"{error}; write it as 10.201.0.0/20", param_hint="--subnet") from error
    if bits > SMALLEST_BITS:
        what = (
            f"{subnet} is too small: every sidecar needs an address in it; take a /{SMALLEST_BITS} or larger"
        )
        raise click.BadParameter(what, param_hint="--subnet")


def _make_trust(docker: Docker, context: Context) -> Context:
    """Make CA, token and join key as Swarm secrets, unless they are there.

    Raises:
        MeshpyError: the Swarm has them and this machine has no context for them.
    """
    file, present = context_file(), docker.names("secret")
    if SECRETS[-1] in present:  # the last that is made: with it, all of them are there
        if not file.exists():
            raise MeshpyError(
                f"the mesh is installed, but {file} is missing: copy it from the machine that installed it"
            )
        found = Context.load()
        if found.trust_domain != context.trust_domain:
            what = (
                f"the mesh has the trust domain {found.trust_domain}; another needs `meshpy uninstall` first"
            )
            raise click.BadParameter(what, param_hint="--trust-domain")
        return found
    for name in SECRETS:  # halves of a run that broke belong to a CA that nobody has
        if name in present:
            docker.run("secret", "rm", name)
    if CA_CONFIG in docker.names("config"):
        docker.run("config", "rm", CA_CONFIG)
    return _new_trust(docker, context)


def _new_trust(docker: Docker, context: Context) -> Context:
    file = context_file()
    authority, root_key = CertificateAuthority.create(context.trust_domain, datetime.now(UTC))
    bundle = authority.bundle.to_pem().decode()
    token = secrets.token_urlsafe(32)
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomic(file.with_name("root.key"), key_to_pem(root_key))
    saved = {"url": context.url, "token": token, "ca_pem": bundle, "trust_domain": context.trust_domain}
    write_atomic(file, json.dumps(saved, indent=2).encode())
    docker.create("config", CA_CONFIG, bundle, PART)
    contents = (
        bundle,
        authority.intermediate.public_bytes(Encoding.PEM).decode(),
        token,
        secrets.token_urlsafe(32),
        key_to_pem(authority.intermediate_key).decode(),
    )
    for name, data in zip(SECRETS, contents, strict=True):
        docker.create("secret", name, data, PART)
    return Context(context.url, token, bundle, context.trust_domain)


def _make_network(docker: Docker, engine: EngineApi, subnet: str) -> None:
    """Make the mesh network; one that is there must be what a new one would be.

    Raises:
        MeshpyError: it is not, or its addresses are taken.
    """
    networks = [each for each in engine.get("/networks") or () if each.get("Scope") == "swarm"]
    mesh = next((each for each in networks if each["Name"] == MESH), None)
    if mesh is None:
        _refuse_overlap(networks, subnet)
        docker.run(
            *(
                "network",
                "create",
                "--driver",
                "overlay",
                "--internal",
                "--label",
                "meshpy.part=control-plane",
            ),
            *("--subnet", subnet, MESH),
        )
        return
    if mesh.get("Driver") != "overlay" or not mesh.get("Internal") or mesh.get("Attachable"):
        raise MeshpyError(
            f"the network `{MESH}` is somebody else's: not an internal overlay; rename or remove it"
        )
    ranges = subnets_of(mesh)
    if min((each.prefixlen for each in ranges), default=0) > SMALLEST_BITS:
        click.echo(f"warning: `{MESH}` has {ranges[0]} only; see `meshpy check`", err=True)


def _refuse_overlap(networks: list[dict[str, object]], subnet: str) -> None:
    wanted = ipaddress.ip_network(subnet)
    for each in networks:
        for other in subnets_of(each):
            if other.version == wanted.version and other.overlaps(wanted):
                raise click.BadParameter(
                    f"{subnet} overlaps {other} of the network {each['Name']}; choose another range",
                    param_hint="--subnet",
                )
