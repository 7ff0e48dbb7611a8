"""Assembly: the parts of a control plane, made from its settings and connected."""

from __future__ import annotations

import random
import secrets
import socket
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack, closing
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from certs.errors import CertError
from certs.rotation import CaState
from control_plane.anomalies.kept import BaselineFile
from control_plane.anomalies.watch import Watch
from control_plane.anomalies.webhook import Webhook
from control_plane.append_log import AppendLog
from control_plane.attest import Attestor, LocalAttestor, SwarmAttestor
from control_plane.audit import Audit
from control_plane.ca_state import SharedCa
from control_plane.captures import Captures
from control_plane.compiling import Language
from control_plane.denylist import DenyList
from control_plane.discovery.docker_client import DockerClient
from control_plane.discovery.stack_file import read_stack
from control_plane.discovery.static import StaticDiscovery, read_inventory
from control_plane.discovery.swarm import SwarmDiscovery
from control_plane.discovery.view import Discovery
from control_plane.distribution import Distribution
from control_plane.errors import SignerError, StartRefused
from control_plane.export import Export
from control_plane.flows import FlowLog
from control_plane.followers import Followers
from control_plane.jwks.fetch import Fetcher
from control_plane.jwks.guard import Guard
from control_plane.jwks.issuer_keys import IssuerKeys
from control_plane.looks import Looks
from control_plane.metrics import families
from control_plane.operator_tokens import OperatorTokens
from control_plane.parts import Parts
from control_plane.registry import Registry
from control_plane.reports import Reports
from control_plane.rollouts import Rollouts
from control_plane.settings import Settings, Source, StoreKind, read_secret
from control_plane.siblings import Siblings, addresses_of
from control_plane.signers.choose import signer_elsewhere
from control_plane.signers.signer import Signer
from control_plane.signing import Signing, load_authority
from control_plane.store.directory import DirectoryStore
from control_plane.store.revisions import Store
from control_plane.store.sqlite import SqliteStore
from control_plane.store.swarm import SwarmStore
from control_plane.token_ledger import TokenLedger
from control_plane.tokens import JoinTokens
from meshpy.model.names import ServiceName

__all__ = ["assemble"]


async def assemble(settings: Settings, language: Language, stack: AsyncExitStack) -> Parts:
    """Open and connect everything that serves; `stack` ends it.

    Raises:
        StartRefused: a secret, key or state file is missing or damaged.
    """
    _make_folder(settings.data)
    join_key = read_secret(settings.join_key_file, "join key")
    audit = _audit_log(settings, stack)
    stores = _stores(settings, stack)
    store = _policies(settings, stores)
    first, signing = await _signer(settings)
    discovery = _discovery(settings, stack)
    reports = Reports(flows=FlowLog(settings.data / "flows.json"))
    registry = Registry(store, language)
    distribution = Distribution(registry.shelf, reports, signing.trust, _replica())
    _connect(registry, distribution, store)
    await registry.start()
    denylist = _denylist(stores("denied"), registry, distribution)
    ca = _shared_ca(stores("ca"), first, _ca_passphrase(settings, join_key), signing, distribution)
    if first is not None:
        await ca.start()
    followers = _followers(settings, stores, distribution, ca, registry)
    followers.remember(audit.records())
    operator_tokens = OperatorTokens(stores("operators"))
    ledger = TokenLedger(stores("tokens"), _revoked_before(settings))
    for record in (denylist, operator_tokens, ledger):
        await record.start()
    log_of = Audit(audit)
    export = Export(settings.otlp, lambda: families(parts))
    reports.forward = export.forward
    webhook = _webhook(settings)
    watch = _watch(settings, reports, webhook)
    captures, looks = _questions(reports, distribution)
    parts = Parts(
        registry=registry,
        distribution=distribution,
        reports=reports,
        export=export,
        looks=looks,
        captures=captures,
        watch=watch,
        baseline=_baseline(settings, watch),
        webhook=webhook,
        store=store,
        discovery=discovery,
        signing=signing,
        ca=ca,
        followers=followers,
        tokens=JoinTokens(join_key),
        ledger=ledger,
        attestor=_attestor(settings, registry, discovery),
        audit=log_of,
        rollouts=Rollouts(registry, distribution, reports.telemetry, log_of),
        denylist=denylist,
        operator_tokens=operator_tokens,
        issuer_keys=_issuer_keys(settings, registry),
        siblings=_siblings(settings, signing),
    )
    return parts


def _audit_log(settings: Settings, stack: AsyncExitStack) -> AppendLog:
    audit = AppendLog(settings.data / "audit.jsonl")
    stack.callback(audit.close)
    return audit


def _connect(registry: Registry, distribution: Distribution, store: Store) -> None:
    """A change of the registry wakes streams; what streams say of themselves changes the registry."""
    registry.notify = distribution.notify
    distribution.draining = lambda stream: registry.set_draining(stream.service, stream.task, stream.address)
    if isinstance(store, DirectoryStore):
        store.check = registry.check
    else:  # what a folder says is right, whatever its numbers were before
        distribution.is_lost = registry.is_lost


def _questions(reports: Reports, distribution: Distribution) -> tuple[Captures, Looks]:
    """What sidecars are asked for, and where their answers go."""
    captures = Captures(reports.asks)
    looks = Looks(reports.asks, lambda: len(distribution.connected()))
    reports.captured, reports.looked = captures.take, looks.take
    return captures, looks


def _baseline(settings: Settings, watch: Watch) -> BaselineFile:
    baseline = BaselineFile(settings.data / "baseline.json", watch)
    baseline.resume()
    return baseline


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StartRefused(f"the data directory {folder} cannot be made: {error.strerror}") from error


def _denylist(store: Store, registry: Registry, distribution: Distribution) -> DenyList:
    def revoke(services: frozenset[ServiceName]) -> None:
        registry.set_denied(services)
        distribution.end(services)

    return DenyList(store, revoke)


def _shared_ca(
    store: Store, first: CaState | None, passphrase: bytes, signing: Signing, distribution: Distribution
) -> SharedCa:
    async def adopt(state: CaState) -> None:
        await signing.adopt(state)
        distribution.trust_changed()

    return SharedCa(store, first, passphrase, adopt)


def _followers(
    settings: Settings,
    stores: Callable[[str], Store],
    distribution: Distribution,
    ca: SharedCa,
    registry: Registry,
) -> Followers:
    """Who has followed a root rotation; replicas tell each other through the Raft."""
    shared = stores("ca-progress") if settings.store is StoreKind.SWARM else None
    return Followers(distribution, ca, lambda: registry.view, shared, distribution.replica)


def _watch(settings: Settings, reports: Reports, webhook: Webhook | None) -> Watch:
    watch = Watch(reports.telemetry, settings.learning_s)
    reports.paths = watch.take_paths
    if webhook is not None:
        watch.events.told = webhook.offer
    return watch


def _own_ca(settings: Settings) -> CaState:
    passphrase = _file_passphrase(settings)
    return CaState.of(load_authority(_ca_dir(settings), settings.data, settings.trust_domain, passphrase))


async def _signer(settings: Settings) -> tuple[CaState | None, Signing]:
    """Our own CA, None where it is elsewhere, and what signs.

    Raises:
        StartRefused: no certificate can be had for ourselves; without one nobody could be served.
    """
    elsewhere = signer_elsewhere(settings)
    source: CaState | Signer = elsewhere if elsewhere is not None else _own_ca(settings)
    first = source if isinstance(source, CaState) else None
    try:
        return first, await Signing.begin(source, settings.trust_domain, ttl_s=settings.certificate_ttl_s)
    except (CertError, SignerError) as error:
        raise StartRefused(f"the control plane gets no certificate for itself: {error}") from error


def _webhook(settings: Settings) -> Webhook | None:
    if settings.webhook is None:
        return None
    return Webhook(settings.webhook, ssl.create_default_context(), random.random)


def _revoked_before(settings: Settings) -> frozenset[str]:
    """Tokens that a release without the ledger revoked, in a file of its own."""
    path = settings.data / "revoked-tokens.jsonl"
    if not path.exists():
        return frozenset()
    with closing(AppendLog(path)) as old:
        return frozenset(str(record.get("id", "")) for record in old.records())


def _issuer_keys(settings: Settings, registry: Registry) -> IssuerKeys:
    try:
        tls = ssl.create_default_context(cafile=settings.jwks_ca_file)
    except (OSError, ssl.SSLError) as error:
        raise StartRefused(f"--jwks-ca-file {settings.jwks_ca_file} cannot be read: {error}") from error
    fetcher = Fetcher(Guard.of(settings.jwks_allow), tls)
    file = settings.data / "issuer-keys.json"
    keys = IssuerKeys(fetcher, lambda: registry.keys_wanted, registry.set_keys, file)
    keys.start()
    return keys


def _ca_dir(settings: Settings) -> Path | None:
    if settings.ca_dir is None and settings.source is Source.SWARM:
        raise StartRefused("on a Swarm the CA is given: set --ca-dir (MESHPY_CA_DIR), see `ca init`")
    return settings.ca_dir


def _stores(settings: Settings, stack: AsyncExitStack) -> Callable[[str], Store]:
    """Opens sequences of revisions by name: files of ours, or in the Swarm's Raft."""
    if settings.store is StoreKind.SWARM:
        if settings.source is not Source.SWARM:
            raise StartRefused("--store swarm goes with --discovery swarm; use --store sqlite")
        client = DockerClient(settings.docker_host)
        stack.push_async_callback(client.close)
        return lambda name: SwarmStore(client, f"meshpy.{name}")

    def open_file(name: str) -> Store:
        store = SqliteStore(settings.data / f"{name}.sqlite")
        stack.push_async_callback(store.close)
        return store

    return open_file


def _policies(settings: Settings, stores: Callable[[str], Store]) -> Store:
    if (settings.policies_dir is not None) != (settings.store is StoreKind.DIRECTORY):
        raise StartRefused("--store directory and --policies-dir DIR go together")
    if settings.store is StoreKind.SWARM:
        return stores("revision")
    kept = stores("revisions")
    return DirectoryStore(settings.policies_dir, kept) if settings.policies_dir is not None else kept


def _file_passphrase(settings: Settings) -> bytes | None:
    file = settings.ca_passphrase_file
    return read_secret(file, "CA's passphrase") if file is not None else None


def _ca_passphrase(settings: Settings, join_key: bytes) -> bytes:
    """What encrypts the CA's keys in the store: what was given, else what the join key's holders have."""
    given = _file_passphrase(settings)
    if given is not None:
        return given
    derived = HKDF(hashes.SHA256(), 32, salt=None, info=b"meshpy CA at rest 1").derive(join_key)
    return derived.hex().encode()


def _replica() -> str:
    """This process among the replicas: a container's host name is its own, and so is a start."""
    return f"{socket.gethostname()}-{secrets.token_hex(4)}"


def _siblings(settings: Settings, signing: Signing) -> Siblings:
    addresses = addresses_of(settings.siblings, settings.operator_listen.port)
    return Siblings(addresses, signing if settings.operator_tls else None)


def _discovery(settings: Settings, stack: AsyncExitStack) -> Discovery:
    if settings.source is Source.SWARM:
        client = DockerClient(settings.docker_host)
        stack.push_async_callback(client.close)
        return SwarmDiscovery(client)
    if settings.stack is not None:
        file, name = settings.stack
        return StaticDiscovery(file, lambda: read_stack(file, name))
    if settings.inventory is not None:
        path = settings.inventory
        return StaticDiscovery(path, lambda: read_inventory(path))
    raise StartRefused("static discovery needs --inventory FILE, or --stack FILE with --stack-name NAME")


def _attestor(settings: Settings, registry: Registry, discovery: Discovery) -> Attestor:
    if settings.source is Source.SWARM:
        return SwarmAttestor(lambda: registry.view, discovery)
    return LocalAttestor(lambda: registry.view)
