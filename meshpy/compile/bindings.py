"""What binds routes to Gateways: hosts that both mean, and whose routes a listener takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from meshpy.model.ingress import covers_host, specificity
from meshpy.policy.gateway_kinds import GatewayDoc, ScopedHost, ServerDoc
from meshpy.policy.route_docs import GatewayRef, GatewayRouteDoc, VirtualServiceDoc

__all__ = [
    "admitted",
    "gateways_of",
    "is_in_scope",
    "is_served",
    "most_specific",
    "narrower",
    "sections_of",
    "takes",
]


def narrower(one: str, other: str) -> str:
    """The hosts that two patterns have in common, as a pattern; empty when there is none."""
    if one == other or _within(other, one):
        return other
    return one if _within(one, other) else ""


def _within(inner: str, outer: str) -> bool:
    if outer == "*" or not inner.startswith("*"):
        return covers_host(outer, inner)
    return outer.startswith("*.") and inner[1:].endswith(outer[1:])


def most_specific(domain: str, hosts: Iterable[str]) -> str:
    """Which of the hosts of a port's servers, open or closed, is that of a request for that name."""
    covering = [host for host in hosts if narrower(host, domain) == domain]
    return max(covering, key=specificity, default="")


def gateways_of(document: VirtualServiceDoc) -> tuple[GatewayRef, ...]:
    """Every Gateway that a VirtualService names, `mesh` among them, each once."""
    of_matches = (ref for each in document.http for match in each.matches for ref in match.gateways)
    return tuple(dict.fromkeys((*document.gateways, *of_matches)))


def sections_of(gateway: GatewayDoc, ref: GatewayRef) -> tuple[ServerDoc, ...]:
    """The listeners that a reference means."""
    return tuple(
        each for each in gateway.servers if ref.section in ("", each.name) and ref.port in (None, each.port)
    )


def takes(server: ServerDoc, route: GatewayRouteDoc) -> bool:
    """Whether a listener's `allowedRoutes` let a route in."""
    spaces, kinds = server.routes.namespaces, server.routes.kinds
    return (spaces is None or route.meta.namespace in spaces) and (kinds is None or route.meta.kind in kinds)


def _is_attached(route: GatewayRouteDoc, gateway: GatewayDoc, server: ServerDoc) -> bool:
    """Whether a route of Gateway API names this listener, and is let in."""
    if gateway.selector is not None:  # Istio's, which Gateway API's routes do not know
        return False
    return takes(server, route) and any(
        ref.key == (gateway.meta.namespace, gateway.meta.name) and server in sections_of(gateway, ref)
        for ref in route.gateways
    )


def admitted(
    gateway: GatewayDoc, server: ServerDoc, routes: Iterable[GatewayRouteDoc]
) -> tuple[list[GatewayRouteDoc], list[tuple[GatewayRouteDoc, GatewayRouteDoc]]]:
    """The routes of a listener: an HTTPRoute and a GRPCRoute for one host exclude each other (GEP-1016).

    The older one is to stay. Documents have no age: the Gateway's own namespace goes first, then the name.

    Returns:
        Those that stay, and each other with the one that it stands back for.
    """

    def order(route: GatewayRouteDoc) -> tuple[bool, str, str, str]:
        meta = route.meta
        return meta.namespace != gateway.meta.namespace, meta.namespace, meta.name, meta.kind

    stay: dict[bool, list[GatewayRouteDoc]] = {True: [], False: []}
    away = []
    for route in sorted((each for each in routes if _is_attached(each, gateway, server)), key=order):
        others = stay[not route.is_grpc]
        rival = next((each for each in others if _meet(server, each, route)), None)
        if rival is None:
            stay[route.is_grpc].append(route)
        else:
            away.append((route, rival))
    return [*stay[False], *stay[True]], away


def _meet(server: ServerDoc, one: GatewayRouteDoc, other: GatewayRouteDoc) -> bool:
    """Whether both are for the same host of a listener."""
    return any(
        narrower(narrower(host.host, first), second)
        for host in server.hosts
        for first in one.hosts_written
        if narrower(host.host, first)
        for second in other.hosts_written
    )


def is_in_scope(host: ScopedHost, namespace: str, gateway: GatewayDoc) -> bool:
    """Whether VirtualServices of a namespace may be for a server's host."""
    meant = gateway.meta.namespace if host.namespace == "." else host.namespace
    return meant in ("*", namespace)


def is_served(host: str, document: VirtualServiceDoc, gateways: Iterable[GatewayDoc]) -> bool:
    """Whether a Gateway that a VirtualService names serves one of its hosts."""
    named = {ref.key for ref in gateways_of(document)}
    served: Iterator[str] = (
        each.host
        for gateway in gateways
        if gateway.selector is not None and (gateway.meta.namespace, gateway.meta.name) in named
        for server in gateway.servers
        for each in server.hosts
    )
    return any(narrower(each, host) for each in served)
