"""Gateway API routes -> the rules of one caller's hosts, in the order that the kinds define.

A route of the Service's own namespace (a producer's) is for every caller. One of another namespace (a
consumer's) is for callers of its own namespace, for whom it replaces the producers' (GEP-1294).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from meshpy.compile.hosts import Directory, LogicalHost
from meshpy.policy.route_docs import (
    BackendDoc,
    GatewayMatchDoc,
    GatewayRouteDoc,
    GatewayRuleDoc,
    ParentDoc,
    ReferenceGrantDoc,
)

__all__ = ["GatewayIndex", "RankedRule", "gateway_index", "refusal_of"]


@dataclass(frozen=True, slots=True)
class RankedRule:
    """One match of one rule of one route."""

    route: GatewayRouteDoc
    rule: GatewayRuleDoc
    match: GatewayMatchDoc


@dataclass(frozen=True, slots=True)
class GatewayIndex:
    """Routes by the label of the host that they are attached to, and the grants by namespace."""

    by_label: Mapping[str, tuple[tuple[ParentDoc, GatewayRouteDoc], ...]] = field(default_factory=dict)
    grants: Mapping[str, tuple[ReferenceGrantDoc, ...]] = field(default_factory=dict)

    def attached(self, host: LogicalHost, port: int, caller_namespace: str) -> tuple[GatewayRouteDoc, ...]:
        """The routes for calls of a namespace to a host and port: the consumer's, else the producers'."""
        found = {
            id(route): route
            for parent, route in self.by_label.get(host.label, ())
            if parent.port in (None, port)
        }.values()
        consumer = tuple(
            route for route in found if route.meta.namespace == caller_namespace != host.namespace
        )
        return consumer or tuple(route for route in found if route.meta.namespace == host.namespace)

    def ranked(self, routes: Iterable[GatewayRouteDoc]) -> tuple[RankedRule, ...]:
        """All their matches, the most specific first.

        Of equals the first in namespace and name, then the first in the route. Gateway API asks for the
        oldest route before that; documents in files have no age.
        """
        entries = [
            ((not route.is_grpc, match.rank, route.meta.namespace, route.meta.name, number, place),
             RankedRule(route, rule, match))
            for route in routes
            for number, rule in enumerate(route.rules)
            for place, match in enumerate(rule.matches)
        ]  # fmt: skip
        return tuple(entry for _, entry in sorted(entries, key=lambda pair: pair[0]))

    def is_granted(self, route: GatewayRouteDoc, backend: BackendDoc) -> bool:
        """Whether the route may name the backend: one of its own namespace, or one that is granted."""
        own = route.meta.namespace
        if backend.namespace == own:
            return True
        return any(
            (route.meta.kind, own) in grant.sources
            and (grant.names is None or backend.host.host in grant.names)
            for grant in self.grants.get(backend.namespace, ())
        )


def gateway_index(
    routes: Iterable[GatewayRouteDoc], grants: Iterable[ReferenceGrantDoc], directory: Directory
) -> GatewayIndex:
    """Resolve each route's parents once."""
    found: dict[str, list[tuple[ParentDoc, GatewayRouteDoc]]] = defaultdict(list)
    for route, parent in attachments(routes):
        found[directory.label_of(parent.host.host, parent.namespace)].append((parent, route))
    granted: dict[str, list[ReferenceGrantDoc]] = defaultdict(list)
    for grant in grants:
        granted[grant.meta.namespace].append(grant)
    return GatewayIndex(
        {label: tuple(pairs) for label, pairs in found.items()},
        {namespace: tuple(each) for namespace, each in granted.items()},
    )


def attachments(routes: Iterable[GatewayRouteDoc]) -> Iterator[tuple[GatewayRouteDoc, ParentDoc]]:
    for route in routes:
        for parent in route.parents:
            yield route, parent


def refusal_of(index: GatewayIndex, route: GatewayRouteDoc, backend: BackendDoc, directory: Directory) -> str:
    """Why nothing can be sent to a backend; empty when it can. Requests that meet it get 500."""
    where = f"{backend.host.host} of {backend.namespace}"
    if not index.is_granted(route, backend):
        return f"no ReferenceGrant of {backend.namespace} lets {route.meta.title} name {backend.host.host}"
    host = directory.resolve(backend.host.host, backend.namespace)
    if host is None:
        return f"{route.meta.title}: no service is called {where}"
    protocol = host.ports.get(backend.port)
    if protocol is None:
        return f"{route.meta.title}: {where} has no port {backend.port}"
    if not protocol.is_http:
        return f"{route.meta.title}: port {backend.port} of {where} is opaque"
    return ""
