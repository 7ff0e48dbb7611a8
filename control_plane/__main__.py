"""`meshpy-control-plane`: serve, healthcheck, socket-proxy, ca init."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import uvloop

from certs.errors import CertError
from certs.store import CaStore
from control_plane.app import running
from control_plane.audit import verify
from control_plane.errors import StartRefused
from control_plane.language import MeshLanguage
from control_plane.readiness import is_ready
from control_plane.settings import (
    Listen,
    OtlpSettings,
    Settings,
    Source,
    StoreKind,
    WebhookSettings,
    read_secret,
)
from control_plane.socket_proxy import serving
from meshpy.errors import MeshpyError
from meshpy.otlp.settings import Signal, read_destination, read_resource

__all__ = ["main"]

EXIT_COULD_NOT_RUN = 3
LEVELS = ("debug", "info", "warning", "error")

FILE = click.Path(path_type=Path)
SOURCES = click.Choice([source.value for source in Source])


@click.group(context_settings={"auto_envvar_prefix": None, "help_option_names": ["-h", "--help"]})
@click.version_option(package_name="swarm-meshpy")
def main() -> None:
    """The control plane of meshpy: identities, policies and snapshots for every sidecar."""


@main.command()
@click.option("--data", type=FILE, envvar="MESHPY_DATA", default=Path("/var/lib/meshpy"), show_default=True)
@click.option("--trust-domain", envvar="MESHPY_TRUST_DOMAIN", default="cluster.local", show_default=True)
@click.option("--sidecar-listen", envvar="MESHPY_SIDECAR_LISTEN", default="0.0.0.0:15012", show_default=True)
@click.option(
    "--operator-listen", envvar="MESHPY_OPERATOR_LISTEN", default="0.0.0.0:15014", show_default=True
)
@click.option(
    "--discovery",
    envvar="MESHPY_DISCOVERY",
    type=SOURCES,
    default=Source.SWARM.value,
    show_default=True,
)
@click.option("--stack", type=FILE, help="Static: a stack file, read as if it were deployed.")
@click.option("--stack-name", help="Static: the name it would be deployed under.")
@click.option("--inventory", type=FILE, help="Static: an inventory in JSON; read again when it changes.")
@click.option("--operator-token-file", type=FILE, envvar="MESHPY_OPERATOR_TOKEN_FILE", required=True)
@click.option("--join-key-file", type=FILE, envvar="MESHPY_JOIN_KEY_FILE", required=True)
@click.option(
    "--ca-dir", type=FILE, envvar="MESHPY_CA_DIR", help="root.crt, intermediate.crt, intermediate.key."
)
@click.option(
    "--ca-passphrase-file",
    type=FILE,
    envvar="MESHPY_CA_PASSPHRASE_FILE",
    help="Of the CA's keys at rest, in --ca-dir and in the store.",
)
@click.option(
    "--ca-signer",
    envvar="MESHPY_CA_SIGNER",
    default="",
    help="A CA elsewhere: vault:https://HOST:8200/v1/pki/sign/ROLE or step:https://HOST:9000#PROVISIONER.",
)
@click.option(
    "--ca-signer-secret-file",
    type=FILE,
    envvar="MESHPY_CA_SIGNER_SECRET_FILE",
    help="Its token (Vault) or its provisioner's private JWK (step-ca).",
)
@click.option(
    "--ca-signer-tls-file",
    type=FILE,
    envvar="MESHPY_CA_SIGNER_TLS_FILE",
    help="Roots of its server; the system's by default.",
)
@click.option(
    "--ca-roots-file",
    type=FILE,
    envvar="MESHPY_CA_ROOTS_FILE",
    help="With --ca-signer: the roots its certificates lead to; read again when it changes.",
)
@click.option("--docker-host", envvar="DOCKER_HOST", help="A manager's engine; its local socket by default.")
@click.option(
    "--operator-tls",
    type=click.Choice(["on", "off"]),
    envvar="MESHPY_OPERATOR_TLS",
    default="on",
    show_default=True,
)
@click.option("--operator-host", multiple=True, help="A DNS name operators reach this server by; repeatable.")
@click.option(
    "--store",
    type=click.Choice([kind.value for kind in StoreKind]),
    envvar="MESHPY_STORE",
    default=StoreKind.SQLITE.value,
    show_default=True,
    help="Where revisions are kept; `swarm` is shared by replicas, `directory` follows --policies-dir.",
)
@click.option("--policies-dir", type=FILE, envvar="MESHPY_POLICIES_DIR", help="The folder that is followed.")
@click.option(
    "--siblings",
    envvar="MESHPY_SIBLINGS",
    default="",
    help="A DNS name of all replicas: an operator's question is answered for all of them.",
)
@click.option(
    "--certificate-ttl",
    "certificate_ttl_s",
    type=click.IntRange(10, 86400),
    envvar="MESHPY_CERTIFICATE_TTL_S",
    default=3600,
    show_default=True,
    help="Seconds.",
)
@click.option(
    "--jwks-allow",
    multiple=True,
    envvar="MESHPY_JWKS_ALLOW",
    help="A host, address or CIDR that issuers' keys may come from though it is not public; repeatable.",
)
@click.option(
    "--jwks-ca-file",
    type=FILE,
    envvar="MESHPY_JWKS_CA_FILE",
    help="Roots for issuers; the system's by default.",
)
@click.option(
    "--anomaly-learning",
    "learning_s",
    type=click.FloatRange(0, 604800),
    envvar="MESHPY_ANOMALY_LEARNING_S",
    default=600.0,
    show_default=True,
    help="Seconds in which all traffic is taken for usual; 0 watches for nothing.",
)
@click.option("--webhook", envvar="MESHPY_WEBHOOK", help="A URL that is told of unusual traffic.")
@click.option("--webhook-secret-file", type=FILE, envvar="MESHPY_WEBHOOK_SECRET_FILE", help="What signs it.")
@click.option(
    "--webhook-allow",
    multiple=True,
    envvar="MESHPY_WEBHOOK_ALLOW",
    help="A host, address or CIDR that may be told though it is not public; repeatable.",
)
@click.option("--log", type=click.Choice(LEVELS), envvar="MESHPY_LOG", default="info", show_default=True)
def serve(log: str, **given: Any) -> None:
    """Serve sidecars and operators until SIGTERM."""
    logging.basicConfig(level=log.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        uvloop.run(_serve(_settings(**given)))
    except (MeshpyError, CertError) as error:
        click.echo(f"meshpy-control-plane: {error}", err=True)
        sys.exit(EXIT_COULD_NOT_RUN)


def _settings(
    *,
    sidecar_listen: str,
    operator_listen: str,
    discovery: str,
    stack: Path | None,
    stack_name: str | None,
    operator_tls: str,
    operator_host: tuple[str, ...],
    store: str,
    webhook: str | None,
    webhook_secret_file: Path | None,
    webhook_allow: tuple[str, ...],
    **same: Any,
) -> Settings:
    """What the options say; `same` are those that are settings as they stand.

    Raises:
        MeshpyError: one of them means nothing, or a file that it names cannot be read.
    """
    return Settings(
        sidecar_listen=Listen.parse(sidecar_listen),
        operator_listen=Listen.parse(operator_listen),
        source=Source(discovery),
        stack=(stack, stack_name) if stack is not None and stack_name else None,
        operator_tls=operator_tls == "on",
        operator_hosts=frozenset({"control-plane", *operator_host}),
        store=StoreKind(store),
        webhook=_webhook(webhook, webhook_secret_file, webhook_allow),
        otlp=OtlpSettings(
            read_destination(Signal.TRACES, os.environ),
            read_destination(Signal.METRICS, os.environ),
            tuple(read_resource(os.environ).items()),
        ),
        **same,
    )


def _webhook(url: str | None, secret_file: Path | None, allow: tuple[str, ...]) -> WebhookSettings | None:
    if (url is None) != (secret_file is None):
        raise StartRefused("--webhook and --webhook-secret-file belong together")
    if url is None or secret_file is None:
        return None
    return WebhookSettings(url, read_secret(secret_file, "webhook's secret"), allow)


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running(settings, MeshLanguage(settings.trust_domain)) as served:
        logging.getLogger("control_plane").info(
            "serving sidecars on port %d, operators on port %d", served.sidecar_port, served.operator_port
        )
        await stop.wait()


@main.command()
@click.option("--operator-listen", envvar="MESHPY_OPERATOR_LISTEN", default="0.0.0.0:15014")
@click.option("--operator-tls", type=click.Choice(["on", "off"]), envvar="MESHPY_OPERATOR_TLS", default="on")
def healthcheck(operator_listen: str, operator_tls: str) -> None:
    """Exit 0 when the control plane on this machine is ready, 1 when it is not."""
    listen = Listen.parse(operator_listen)
    sys.exit(0 if is_ready(listen.host, listen.port, is_tls=operator_tls == "on") else 1)


@main.command()
@click.option("--listen", envvar="MESHPY_SOCKET_PROXY_LISTEN", default="0.0.0.0:2375", show_default=True)
@click.option("--docker-host", envvar="DOCKER_HOST", default="unix:///var/run/docker.sock", show_default=True)
@click.option("--log", type=click.Choice(LEVELS), envvar="MESHPY_LOG", default="info", show_default=True)
def socket_proxy(listen: str, docker_host: str, log: str) -> None:
    """Give a control plane what it reads of the Docker engine, and no environment, secret or way to write."""
    logging.basicConfig(level=log.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        uvloop.run(_serve_socket_proxy(listen, docker_host))
    except MeshpyError as error:
        click.echo(f"meshpy-control-plane: {error}", err=True)
        sys.exit(EXIT_COULD_NOT_RUN)


async def _serve_socket_proxy(listen: str, docker_host: str) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with serving(listen, docker_host):
        logging.getLogger("control_plane").info("a read-only view of %s on %s", docker_host, listen)
        await stop.wait()


@main.command()
@click.argument("file", type=FILE)
def audit(file: Path) -> None:
    """Follow the chain of an audit log (FILE); exit 1 when a line was changed, taken out or put in."""
    try:
        chain = verify(file)
    except OSError as error:
        click.echo(f"meshpy-control-plane: {file}: cannot be read: {error.strerror}", err=True)
        sys.exit(EXIT_COULD_NOT_RUN)
    if chain.broken_at:
        click.echo(f"{file}:{chain.broken_at}: does not follow from the line before it")
        sys.exit(1)
    click.echo(f"{chain.records} records, head {chain.head}")


@main.group()
def ca() -> None:
    """The certificate authority."""


@ca.command()
@click.option("--dir", "directory", type=FILE, required=True, help="Made if absent; must hold no CA yet.")
@click.option("--trust-domain", envvar="MESHPY_TRUST_DOMAIN", default="cluster.local", show_default=True)
def init(directory: Path, trust_domain: str) -> None:
    """Make root.crt, root.key, intermediate.crt and intermediate.key; take root.key offline afterwards."""
    store = CaStore(directory)
    try:
        if any(directory.glob("*.crt")) or any(directory.glob("*.key")):
            raise StartRefused(f"{directory} holds certificates or keys already; nothing was changed")
        authority = store.load_or_create(trust_domain, datetime.now(UTC))
    except (MeshpyError, CertError) as error:
        click.echo(f"meshpy-control-plane: {error}", err=True)
        sys.exit(EXIT_COULD_NOT_RUN)
    for fingerprint in authority.bundle.fingerprints:
        click.echo(f"root SHA-256 {fingerprint}")


if __name__ == "__main__":
    main()
