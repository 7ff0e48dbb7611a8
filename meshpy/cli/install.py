"""`meshpy install`: the CA, the mesh network and the control plane of a Swarm."""

from __future__ import annotations

import json
import os
import secrets
import time
from datetime import UTC, datetime
from pathlib import Path

import click
from cryptography.hazmat.primitives.serialization import Encoding

from certs.ca import CertificateAuthority
from certs.keys import key_to_pem
from certs.store import write_atomic
from meshpy.cli.docker import Docker, DockerError
from meshpy.client import CONTEXT_FILE, ApiError, Context, Operator
from meshpy.demo.stacks import stacks_folder
from meshpy.errors import MeshpyError
from meshpy.model.names import ROOT_NAMESPACE

__all__ = ["install"]

LABELS = {"meshpy.part": "control-plane"}
READY_WITHIN_S = 120.0


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
    "--image", default="meshpy-control-plane:0.1.0", show_default=True, help="The control plane's image."
)
@click.option(
    "--socket-proxy", is_flag=True, help="Keep the engine's socket from the control plane: a proxy reads it."
)
def install(trust_domain: str, address: str, subnet: str, image: str, socket_proxy: bool) -> None:
    """Make the CA, the mesh network and the control plane on the Swarm that `docker` points to.

    The root key stays on this machine, beside the operator's context (~/.config/meshpy): keep it offline.
    What is there already is kept.
    """
    docker = Docker(env={"MESHPY_CONTROL_PLANE_IMAGE": image, "MESHPY_TRUST_DOMAIN": trust_domain})
    docker.require_manager()
    folder = Path(os.environ.get("MESHPY_CONTEXT", str(CONTEXT_FILE))).expanduser().parent
    context = _make_trust(docker, folder, Context(url=f"https://{address}:15014", trust_domain=trust_domain))
    _make_network(docker, subnet)
    names = ("mesh.yml", "mesh-socket-proxy.yml") if socket_proxy else ("mesh.yml",)
    files = [word for name in names for word in ("-c", str(stacks_folder() / name))]
    docker.run("stack", "deploy", "--resolve-image", "never", *files, ROOT_NAMESPACE)
    click.echo("waiting for the control plane", err=True)
    _wait_until_ready(Operator(context, timeout_s=5))
    click.echo(f"control plane: {context.url}")


def _make_trust(docker: Docker, folder: Path, context: Context) -> Context:
    """Make CA, token and join key as Swarm secrets, unless they are there.

    Raises:
        MeshpyError: the Swarm has them and this machine has no context for them.
    """
    file = folder / CONTEXT_FILE.name
    if "meshpy-intermediate.key" in docker.names("secret"):
        if not file.exists():
            raise MeshpyError(
                f"the mesh is installed, but {file} is missing: copy it from the machine that installed it"
            )
        return Context.load()
    authority, root_key = CertificateAuthority.create(context.trust_domain, datetime.now(UTC))
    bundle = authority.bundle.to_pem().decode()
    token = secrets.token_urlsafe(32)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomic(folder / "root.key", key_to_pem(root_key))
    saved = {"url": context.url, "token": token, "ca_pem": bundle, "trust_domain": context.trust_domain}
    write_atomic(file, json.dumps(saved, indent=2).encode())
    for name, data in (
        ("root.crt", bundle),
        ("intermediate.crt", authority.intermediate.public_bytes(Encoding.PEM).decode()),
        ("operator-token", token),
        ("join-key", secrets.token_urlsafe(32)),
        ("intermediate.key", key_to_pem(authority.intermediate_key).decode()),
    ):
        docker.create("secret", f"meshpy-{name}", data, LABELS)
    docker.create("config", "meshpy-ca", bundle, LABELS)
    return Context(context.url, token, bundle, context.trust_domain)


def _make_network(docker: Docker, subnet: str) -> None:
    if "mesh" in docker.names("network"):
        return
    docker.run("network", "create", "--driver", "overlay", "--internal", "--subnet", subnet, "mesh")


def _wait_until_ready(operator: Operator) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while True:
        try:
            operator.call("GET", "/v1/status")
        except ApiError as error:
            if time.monotonic() > deadline:
                raise DockerError(
                    f"the control plane was not ready within {READY_WITHIN_S:.0f} s ({error}); "
                    "see `docker service ps mesh-system_control-plane`"
                ) from error
            time.sleep(0.5)
        else:
            return
