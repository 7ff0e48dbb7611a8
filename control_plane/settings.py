"""What the control plane is told at its start, checked before anything is opened."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from control_plane.errors import StartRefused
from meshpy.otlp.settings import Destination

__all__ = [
    "Listen",
    "OtlpSettings",
    "Settings",
    "Source",
    "StoreKind",
    "WebhookSettings",
    "read_secret",
]


class Source(StrEnum):
    """Where services come from."""

    SWARM = "swarm"
    STATIC = "static"


class StoreKind(StrEnum):
    """Where revisions are kept: a file of ours, or the Swarm's Raft, which replicas share; or whence they
    come, a folder that only its own authors change.
    """

    SQLITE = "sqlite"
    SWARM = "swarm"
    DIRECTORY = "directory"


@dataclass(frozen=True, slots=True)
class Listen:
    """Where a server listens."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Listen:
        """Read `HOST:PORT`, `[::1]:PORT`.

        Raises:
            StartRefused: it is of another form.
        """
        host, colon, port = text.rpartition(":")
        if not colon or not port.isdecimal() or not 0 <= int(port) < 65536:
            raise StartRefused(f"{text!r} is no HOST:PORT to listen on")
        return cls(host.removeprefix("[").removesuffix("]"), int(port))


@dataclass(frozen=True, slots=True)
class WebhookSettings:
    """`allow`: hosts, addresses and CIDRs that may be told although they are not public."""

    url: str
    secret: bytes = field(repr=False)
    allow: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OtlpSettings:
    """Where spans and metrics go; `resource`: further attributes of everything that is sent."""

    traces: Destination | None = None
    metrics: Destination | None = None
    resource: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Settings:
    """Args:
    ca_dir: `root.crt`, `intermediate.crt`, `intermediate.key`; None: `<data>/ca`, made at the first start.
    ca_passphrase_file: of the keys in `ca_dir` and in the store; None: `ca_dir` is plain (Swarm secrets), the
        store's are under a passphrase that is derived from the join key.
    ca_signer: a CA elsewhere, `vault:URL` or `step:URL#PROVISIONER`; its token or JWK, the roots of its
        server, and the roots that its certificates lead to.
    stack: (file, stack name) for STATIC; else `inventory`.
    docker_host: None takes DOCKER_HOST, then the usual socket.
    operator_hosts: names under which operators reach us.
    policies_dir: the folder of `StoreKind.DIRECTORY`.
    jwks_allow: hosts, addresses and CIDRs that keys may be fetched from though they are not public.
    siblings: a DNS name that leads to all replicas of this control plane; empty: it is alone.
    learning_s: for so long after the start all traffic is taken for usual; 0 watches nothing.
    jwks_ca_file: roots that issuers are verified by; None: the system's.
    """

    data: Path
    trust_domain: str
    sidecar_listen: Listen
    operator_listen: Listen
    source: Source
    operator_token_file: Path
    join_key_file: Path
    ca_dir: Path | None = None
    ca_passphrase_file: Path | None = None
    ca_signer: str = ""
    ca_signer_secret_file: Path | None = None
    ca_signer_tls_file: Path | None = None
    ca_roots_file: Path | None = None
    stack: tuple[Path, str] | None = None
    inventory: Path | None = None
    docker_host: str | None = None
    operator_tls: bool = True
    operator_hosts: frozenset[str] = frozenset()
    certificate_ttl_s: int = 3600
    jwks_allow: tuple[str, ...] = ()
    jwks_ca_file: Path | None = None
    store: StoreKind = StoreKind.SQLITE
    policies_dir: Path | None = None
    siblings: str = ""
    learning_s: float = 600.0
    webhook: WebhookSettings | None = None
    otlp: OtlpSettings = field(default_factory=OtlpSettings)


def read_secret(path: Path, what: str) -> bytes:
    """A secret file without the newline at its end.

    Raises:
        StartRefused: it is missing, unreadable or empty; there is no default (THREATS 131).
    """
    try:
        secret = path.read_bytes().strip()
    except OSError as error:
        raise StartRefused(f"the {what} {path} cannot be read: {error.strerror}") from error
    if not secret:
        raise StartRefused(f"the {what} {path} is empty")
    return secret
