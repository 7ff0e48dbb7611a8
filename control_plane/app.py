"""Assembly: settings in, two servers and their background work out; everything has an owner and an end."""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass, replace
from pathlib import Path

from aiohttp import web
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from certs.errors import CertError
from certs.rotation import CaState
from control_plane.anomalies.watch import Watch
from control_plane.anomalies.webhook import Webhook
from control_plane.api.analysis import AnalysisRoutes
from control_plane.api.ca import CaRoutes
from control_plane.api.ca_rotation import CaRotationRoutes
from control_plane.api.capture import CaptureRoutes
from control_plane.api.certificates import CertificateRoute
from control_plane.api.dashboard import PATH as DASHBOARD
from control_plane.api.dashboard import DashboardRoutes
from control_plane.api.events import EventRoutes
from control_plane.api.flows import FlowRoutes
from control_plane.api.jaeger import JaegerRoutes
from control_plane.api.openapi import describe
from control_plane.api.operator_tokens import OperatorTokenRoutes
from control_plane.api.operators import Operators, Role, load_operators, require
from control_plane.api.policies import PolicyRoutes
from control_plane.api.problems import guard
from control_plane.api.requests import RequestRoutes
from control_plane.api.rollouts import RolloutRoutes
from control_plane.api.routes import Route, resources
from control_plane.api.services import ServiceRoutes
from control_plane.api.sidecars import SidecarRoutes
from control_plane.api.status import OPEN_PATHS, StatusRoutes
from control_plane.api.stream import StreamRoute
from control_plane.api.tap import TapRoutes
from control_plane.api.tokens import TokenRoutes
from control_plane.append_log import AppendLog
from control_plane.attest import Attestor, LocalAttestor, SwarmAttestor
from control_plane.audit import Audit
from control_plane.background import background
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
from control_plane.settings import Listen, Settings, Source, StoreKind, read_secret
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

__all__ = ["Running", "operator_app", "operator_routes", "running", "sidecar_app"]

log = logging.getLogger(__name__)

SHUTDOWN_S = 5.0
KEEPALIVE_S = 75.0
RENEW_RETRY_S = 30.0
FOLLOW_ROOTS_S = 10.0


@dataclass(frozen=True, slots=True)
class Running:
    """A control plane that serves; the ports are those really bound (0 in the settings takes any)."""

    parts: Parts
    sidecar_port: int
    operator_port: int


@asynccontextmanager
async def running(settings: Settings, language: Language) -> AsyncIterator[Running]:
    """Open everything, serve, and close everything.

    Raises:
        StartRefused: a secret, key, state file or address is missing, damaged or taken.
    """
    async with AsyncExitStack() as stack:
        operators = load_operators(settings.operator_token_file, settings.operator_hosts)
        parts = await _parts(settings, language, stack)
        streams = StreamRoute(parts)
        discovery = parts.discovery.run(parts.registry.set_view)
        registry, rollouts = parts.registry, parts.rollouts
        operators = replace(operators, issued=parts.operator_tokens)
        shared = (parts.denylist.follow(), parts.ca.follow(), parts.operator_tokens.follow())
        roots = _follow_signer(parts.signing, parts.distribution)
        following = (registry.follow(), *shared, parts.ledger.follow(), parts.followers.run(), roots)
        keys = parts.issuer_keys.run()
        works = (discovery, registry.run(), *following, rollouts.run(), keys, _renew(parts.signing))
        evidence: tuple[Coroutine[None, None, None], ...] = (
            parts.reports.recall.run(),
            parts.reports.flows.run(),
            parts.export.run_spans(),
            parts.export.run_metrics(),
            parts.watch.run(),
        )
        if parts.webhook is not None:
            evidence = (*evidence, parts.webhook.run())
        await stack.enter_async_context(background(*works, *evidence))
        sidecars = sidecar_app(parts, streams)
        sidecar_port = await _serve(stack, sidecars, settings.sidecar_listen, parts.signing.sidecar_context())
        tls = parts.signing.operator_context() if settings.operator_tls else None
        operator_port = await _serve(stack, operator_app(parts, operators), settings.operator_listen, tls)
        stack.push_async_callback(streams.close)
        yield Running(parts, sidecar_port, operator_port)


def operator_routes(parts: Parts) -> list[Route]:
    """Every operation of the operator API, its own description included."""
    described: list[Route] = [
        *StatusRoutes(parts).routes(),
        *PolicyRoutes(parts).routes(),
        *RolloutRoutes(parts).routes(),
        *CaRoutes(parts).routes(),
        *CaRotationRoutes(parts).routes(),
        *TokenRoutes(parts).routes(),
        *JaegerRoutes(parts).routes(),
        *ServiceRoutes(parts).routes(),
        *TapRoutes(parts).routes(),
        *FlowRoutes(parts).routes(),
        *RequestRoutes(parts).routes(),
        *EventRoutes(parts).routes(),
        *OperatorTokenRoutes(parts).routes(),
        *SidecarRoutes(parts).routes(),
        *AnalysisRoutes(parts).routes(),
        *CaptureRoutes(parts).routes(),
    ]

    async def openapi(request: web.Request) -> web.Response:
        require(request, Role.VIEWER)
        return web.json_response(describe(described))

    described.append(
        Route(
            "GET",
            "/openapi.json",
            openapi,
            Role.VIEWER,
            "This description",
            (200, "OpenAPI", {"type": "object"}),
        )
    )
    return described


def operator_app(parts: Parts, operators: Operators) -> web.Application:
    app = web.Application(middlewares=[guard, operators.middleware(OPEN_PATHS, DASHBOARD)])
    app.on_response_prepare.append(_unsigned)
    app.add_routes(resources(operator_routes(parts)))
    app.add_routes(DashboardRoutes().routes())
    return app


def sidecar_app(parts: Parts, streams: StreamRoute) -> web.Application:
    app = web.Application(middlewares=[guard])
    app.on_response_prepare.append(_unsigned)
    app.router.add_post("/v1/certificates", CertificateRoute(parts).handle)
    app.router.add_get("/v1/stream", streams.handle)
    return app


async def _unsigned(_request: web.Request, response: web.StreamResponse) -> None:
    """Say who answers, not which version of what; answers are for their asker alone."""
    response.headers["Server"] = "meshpy"
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers["X-Content-Type-Options"] = "nosniff"


async def _parts(settings: Settings, language: Language, stack: AsyncExitStack) -> Parts:
    try:
        settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StartRefused(f"the data directory {settings.data} cannot be made: {error.strerror}") from error
    join_key = read_secret(settings.join_key_file, "join key")
    audit = AppendLog(settings.data / "audit.jsonl")
    stack.callback(audit.close)
    stores = _stores(settings, stack)
    store = _policies(settings, stores)
    passphrase = _ca_passphrase(settings, join_key)
    elsewhere = signer_elsewhere(settings)
    first = _own_ca(settings) if elsewhere is None else None
    signing = await _signing(elsewhere or first, settings)
    discovery = _discovery(settings, stack)
    reports = Reports(flows=FlowLog(settings.data / "flows.json"))
    registry = Registry(store, language)
    distribution = Distribution(registry.shelf, reports, signing.trust)
    registry.notify = distribution.notify
    distribution.draining = lambda stream: registry.set_draining(stream.service, stream.task, stream.address)
    if isinstance(store, DirectoryStore):
        store.check = registry.check
    await registry.start()

    def revoke(services: frozenset[ServiceName]) -> None:
        registry.set_denied(services)
        distribution.end(services)

    denylist = DenyList(stores("denied"), revoke)
    await denylist.start()

    async def adopt(state: CaState) -> None:
        await signing.adopt(state)
        distribution.trust_changed()

    ca = SharedCa(stores("ca"), first, passphrase, adopt)
    if elsewhere is None:
        await ca.start()
    shared = stores("ca-progress") if settings.store is StoreKind.SWARM else None
    followers = Followers(distribution, ca, lambda: registry.view, shared, _replica())
    followers.remember(audit.records())
    operator_tokens = OperatorTokens(stores("operators"))
    await operator_tokens.start()
    ledger = TokenLedger(stores("tokens"), _revoked_before(settings))
    await ledger.start()
    issuer_keys = _issuer_keys(settings, registry)
    issuer_keys.start()
    log_of = Audit(audit)
    export = Export(settings.otlp, lambda: families(parts))
    reports.forward = export.forward
    watch = Watch(reports.telemetry, settings.learning_s)
    reports.paths = watch.take_paths
    webhook = _webhook(settings)
    if webhook is not None:
        watch.events.told = webhook.offer
    captures = Captures(reports.asks)
    reports.captured = captures.take
    looks = Looks(reports.asks, lambda: len(distribution.connected()))
    reports.looked = looks.take
    parts = Parts(
        registry=registry,
        distribution=distribution,
        reports=reports,
        export=export,
        looks=looks,
        captures=captures,
        watch=watch,
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
        issuer_keys=issuer_keys,
    )
    return parts


def _own_ca(settings: Settings) -> CaState:
    passphrase = _file_passphrase(settings)
    return CaState.of(load_authority(_ca_dir(settings), settings.data, settings.trust_domain, passphrase))


async def _signing(source: CaState | Signer | None, settings: Settings) -> Signing:
    """Raises:
    StartRefused: no certificate can be had for ourselves; without one nobody could be served.
    """
    if source is None:
        raise StartRefused("there is no CA")
    try:
        return await Signing.begin(source, settings.trust_domain, ttl_s=settings.certificate_ttl_s)
    except (CertError, SignerError) as error:
        raise StartRefused(f"the control plane gets no certificate for itself: {error}") from error


async def _follow_signer(signing: Signing, distribution: Distribution) -> None:
    """Take what an operator changes in the roots of a CA elsewhere."""
    while True:
        await asyncio.sleep(FOLLOW_ROOTS_S)
        try:
            if await signing.signer.follow():
                await signing.renew()
                distribution.trust_changed()
        except (CertError, SignerError) as error:
            log.error("the CA's roots are not read anew, those known stay: %s", error)  # noqa: TRY400


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
    return IssuerKeys(fetcher, lambda: registry.keys_wanted, registry.set_keys, file)


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


async def _serve(
    stack: AsyncExitStack, app: web.Application, listen: Listen, tls: ssl.SSLContext | None
) -> int:
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=KEEPALIVE_S, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, listen.host, listen.port, ssl_context=tls, reuse_address=True)
    try:
        await site.start()
    except OSError as error:
        raise StartRefused(f"{listen.host}:{listen.port} cannot be listened on: {error.strerror}") from error
    return int(runner.addresses[0][1])


async def _renew(signing: Signing) -> None:
    """Replace our own certificate at about half of its life, for ever."""
    delay_s = signing.renew_after_s(random.random())  # noqa: S311 - jitter
    while True:
        await asyncio.sleep(delay_s)
        try:
            await signing.renew()
            delay_s = signing.renew_after_s(random.random())  # noqa: S311 - jitter
        except (CertError, SignerError) as error:
            log.error("the control plane's own certificate cannot be renewed: %s", error)  # noqa: TRY400
            delay_s = RENEW_RETRY_S
