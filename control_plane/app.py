"""The process: settings in, two servers and their background work out; everything has an owner and an end."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from aiohttp import web

from certs.errors import CertError
from control_plane.api.analysis import AnalysisRoutes
from control_plane.api.ca import CaRoutes
from control_plane.api.ca_rotation import CaRotationRoutes
from control_plane.api.capture import CaptureRoutes
from control_plane.api.certificates import CertificateRoute
from control_plane.api.compressed import compressed
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
from control_plane.assembly import assemble
from control_plane.background import background
from control_plane.compiling import Language
from control_plane.discovery.outside import OutsideHosts
from control_plane.distribution import Distribution
from control_plane.errors import SignerError, StartRefused
from control_plane.handover import hand_over
from control_plane.parts import Parts
from control_plane.settings import Listen, Settings, Source
from control_plane.signing import Signing

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
        parts = await assemble(settings, language, stack)
        streams = StreamRoute(parts)
        outside = OutsideHosts(parts.registry.set_view)
        is_swarm = settings.source is Source.SWARM
        discovery = parts.discovery.run(outside.take if is_swarm else parts.registry.set_view)
        registry, rollouts = parts.registry, parts.rollouts
        operators = replace(operators, issued=parts.operator_tokens)
        shared = (parts.denylist.follow(), parts.ca.follow(), parts.operator_tokens.follow())
        roots = _follow_signer(parts.signing, parts.distribution)
        handing = hand_over(registry, parts.distribution, parts.siblings)
        following = (registry.follow(), handing, *shared, parts.ledger.follow(), parts.followers.run(), roots)
        keys = parts.issuer_keys.run()
        discovering = (discovery, outside.run(), registry.run())
        works = (*discovering, *following, rollouts.run(), keys, _renew(parts.signing))
        evidence: tuple[Coroutine[None, None, None], ...] = (
            parts.reports.recall.run(),
            parts.reports.flows.run(),
            parts.export.run_spans(),
            parts.export.run_metrics(),
            parts.watch.run(),
            parts.baseline.run(),
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
    app = web.Application(middlewares=[compressed, guard, operators.middleware(OPEN_PATHS, DASHBOARD)])
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
