"""What binds routes to Gateways: hosts that both mean, and whose routes a listener takes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from meshpy.model.ingress import covers_host
from meshpy.policy.gateway_kinds import GatewayDoc, ScopedHost, ServerDoc
from meshpy.policy.route_docs import GatewayRef, GatewayRouteDoc, VirtualServiceDoc

__all__ = ["gateways_of", "is_in_scope", "is_served", "narrower", "sections_of", "takes"]


def narrower(one: str, other: str) -> str:
    """The hosts that two patterns have in common, as a pattern; empty when there is none."""
    if one == other or _within(other, one):
        return other
    return one if _within(one, other) else ""


def _within(inner: str, outer: str) -> bool:
    if outer == "*" or not inner.startswith("*"):
        return covers_host(outer, inner)
    return outer.startswith("*.") and inner[1:].endswith(outer[1:])


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
