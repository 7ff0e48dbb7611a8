"""`/v1/status`, `/v1/bundle`, and what probes and scrapers ask for."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from aiohttp import web

from control_plane.api.operators import Role, require
from control_plane.api.routes import Route
from control_plane.api.schemas import HEALTH, INVENTORY, REPLICA, STATUS
from control_plane.api.trust_schemas import BUNDLE
from control_plane.errors import Unavailable
from control_plane.gathered import all_sidecars
from control_plane.metrics import families
from control_plane.parts import Parts
from control_plane.streams import SyncState
from control_plane.traffic import added, edges, traffic_from, traffic_told
from meshpy.exposition import OPENMETRICS, PROMETHEUS, openmetrics, prometheus, wants_openmetrics
from meshpy.model.names import host_port
from meshpy.wire import encode

__all__ = ["OPEN_PATHS", "StatusRoutes"]

OPEN_PATHS = frozenset({"/", "/dashboard", "/healthz", "/readyz"})
MAX_BODY = 64 * 1024
MAX_ID = 64


class StatusRoutes:
    """Handlers that read."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def routes(self) -> list[Route]:
        plain = (200, "Prometheus text format", None)
        alive = (200, "it does", HEALTH)
        now = (200, "the mesh now", STATUS)
        stock = (200, "services, ports, labels and networks, as discovery sees them", INVENTORY)
        view = Role.VIEWER
        part = (200, "its sidecars, and what they counted", REPLICA)
        http_sd = (200, "what Prometheus' http_sd_configs reads", {"type": "array"})
        return [
            Route("GET", "/healthz", self.healthz, None, "Whether the process lives", alive),
            Route("GET", "/readyz", self.readyz, None, "Whether sidecars can be served", alive),
            Route("GET", "/metrics", self.metrics, view, "Prometheus metrics", plain),
            Route("GET", "/v1/prometheus/targets", self.targets, view, "Sidecars to scrape", http_sd),
            Route("GET", "/v1/status", self.status, view, "The mesh now", now),
            Route("GET", "/v1/replica", self.replica, view, "What this replica alone holds", part),
            Route("GET", "/v1/inventory", self.inventory, view, "What policies compile against", stock),
            Route("GET", "/v1/bundle", self.bundle, view, "The trust bundle", (200, "roots", BUNDLE)),
        ]

    async def healthz(self, request: web.Request) -> web.Response:
        del request
        return web.json_response({"status": "ok"})

    async def readyz(self, request: web.Request) -> web.Response:
        del request
        if not self._parts.registry.is_ready:
            raise Unavailable("no inventory has been compiled yet")
        return web.json_response({"status": "ready"})

    async def status(self, request: web.Request) -> web.Response:
        require(request, Role.VIEWER)
        parts = self._parts
        told = await parts.siblings.ask(request, "/v1/replica")
        sidecars = all_sidecars([self._sidecars(), *(answer["sidecars"] for answer in told.answers)])
        others = [traffic_from(answer["traffic"]) for answer in told.answers]
        traffic = added([parts.reports.telemetry.traffic(time.monotonic()), *others])
        silent = [f"another replica does not answer: {each}" for each in told.missing]
        return web.json_response(
            {
                "meshpy": version("swarm-meshpy"),
                "revision": parts.registry.revision.number,
                "trust_domain": parts.signing.trust_domain,
                "problems": [*parts.registry.problems, *parts.store.problems, *self._unread(), *silent],
                "discovery": asdict(parts.discovery.health),
                "issuers": parts.issuer_keys.shown(),
                "services": self._services(sidecars),
                "sidecars": sidecars,
                "edges": edges(traffic),
            }
        )

    def _unread(self) -> list[str]:
        """What replicas share and this one cannot read now."""
        parts = self._parts
        policies = parts.registry.unread
        shared = (parts.denylist, parts.ca, parts.operator_tokens, parts.ledger)
        told = [f"policies: not read anew, what is held stays: {policies}"] if policies else []
        return told + [each.problem for each in shared if each.problem]

    def _sidecars(self) -> list[dict[str, Any]]:
        return self._parts.distribution.sidecars(self._parts.registry.view)

    async def replica(self, request: web.Request) -> web.Response:
        """What the other replicas ask for, to answer for all."""
        require(request, Role.VIEWER)
        parts = self._parts
        traffic = parts.reports.telemetry.traffic(time.monotonic())
        return web.json_response(
            {
                "replica": parts.distribution.replica,
                "sidecars": self._sidecars(),
                "traffic": traffic_told(traffic),
            }
        )

    def _services(self, sidecars: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
        connected: Counter[str] = Counter()
        synced: Counter[str] = Counter()
        for sidecar in sidecars:
            connected[sidecar["service"]] += sidecar["state"] != SyncState.DISCONNECTED
            synced[sidecar["service"]] += sidecar["state"] == SyncState.SYNCED
        return [
            {
                "name": str(name),
                "endpoints": len(service.endpoints),
                "sidecars": connected[str(name)],
                "synced": synced[str(name)],
                "exempt": service.exempt,
            }
            for name, service in sorted(self._parts.registry.view.inventory.services.items())
        ]

    async def targets(self, request: web.Request) -> web.Response:
        """HTTP service discovery: a target for each sidecar that serves metrics on the mesh."""
        require(request, Role.VIEWER)
        streams = [stream for stream in self._parts.distribution.connected() if stream.metrics_port]
        found = [
            {
                "targets": [host_port(stream.metrics_host or stream.address, stream.metrics_port)],
                "labels": {
                    "__meta_meshpy_namespace": stream.service.namespace,
                    "__meta_meshpy_service": str(stream.service),
                    "__meta_meshpy_task": stream.task,
                    "__meta_meshpy_node": stream.node,
                },
            }
            for stream in sorted(streams, key=lambda stream: (stream.service, stream.task))
        ]
        return web.json_response(found)

    async def inventory(self, request: web.Request) -> web.Response:
        """With it and the policies a tool compiles what the sidecars hold."""
        require(request, Role.VIEWER)
        parts = self._parts
        return web.json_response(
            {
                "revision": parts.registry.revision.number,
                "trust_domain": parts.signing.trust_domain,
                "inventory": encode(parts.registry.view.inventory),
            }
        )

    async def bundle(self, request: web.Request) -> web.Response:
        require(request, Role.VIEWER)
        signing = self._parts.signing
        prints = list(signing.bundle.fingerprints)
        return web.json_response(
            {"trust_domain": signing.trust_domain, "pem": signing.bundle_pem, "fingerprints": prints}
        )

    async def metrics(self, request: web.Request) -> web.Response:
        require(request, Role.VIEWER)
        found = families(self._parts)
        if wants_openmetrics(request.headers.get("Accept", "")):
            return web.Response(text=openmetrics(found), headers={"Content-Type": OPENMETRICS})
        return web.Response(text=prometheus(found), headers={"Content-Type": PROMETHEUS})
