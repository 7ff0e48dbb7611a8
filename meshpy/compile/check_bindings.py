"""Findings on what is bound to Gateways: one that is not there, takes no such route, or has no such host."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from meshpy.compile.bindings import (
    admitted,
    gateways_of,
    is_in_scope,
    most_specific,
    narrower,
    sections_of,
    takes,
)
from meshpy.compile.findings import Notes, listed
from meshpy.compile.snapshot import Mesh
from meshpy.model.names import ROOT_NAMESPACE
from meshpy.policy.gateway_kinds import GatewayDoc, ServerDoc
from meshpy.policy.meta import HostRef
from meshpy.policy.route_docs import OF_MESH, GatewayRef, GatewayRouteDoc, VirtualServiceDoc

__all__ = ["check_bindings"]


@dataclass(frozen=True, slots=True)
class _Bound:
    """A route and the Gateways that it names."""

    document: VirtualServiceDoc | GatewayRouteDoc
    gateways: tuple[GatewayRef, ...]
    hosts: tuple[HostRef, ...]

    @property
    def title(self) -> str:
        return self.document.meta.title

    @property
    def is_istio(self) -> bool:
        return isinstance(self.document, VirtualServiceDoc)


def check_bindings(mesh: Mesh, notes: Notes) -> None:
    """Check every route against the Gateways that it names."""
    known = {
        (each.leads_to_app, each.meta.namespace, each.meta.name): each for each in mesh.policies.gateways
    }
    for bound in _bound(mesh):
        served: set[str] = set()
        beside = _beside(bound, mesh.policies.gateways)
        for ref in bound.gateways:
            gateway = known.get((bound.is_istio, *ref.key))
            if gateway is not None:
                served |= _check_hosts(bound, ref, gateway, beside, notes)
            else:
                _say_unknown(bound, ref, mesh, notes)
        for host in bound.hosts if served and OF_MESH not in bound.gateways else ():
            if host.host not in served:
                what = f"{bound.title}: no Gateway that it names has a server for {host.host}"
                notes.warning(host.place, what, "remove the host, or add a server for it")
    for gateway in mesh.policies.gateways:
        for server in gateway.servers:
            for route, rival in admitted(gateway, server, mesh.policies.gateway_routes)[1]:
                _say_rival(route, rival, gateway, notes)


def _say_rival(route: GatewayRouteDoc, rival: GatewayRouteDoc, gateway: GatewayDoc, notes: Notes) -> None:
    named = (gateway.meta.namespace, gateway.meta.name)
    place = next(ref.place for ref in route.gateways if ref.key == named)
    what = f"{route.meta.title}: {gateway.meta.title} has {rival.meta.title} for the same host"
    notes.error(place, what, "give each kind `hostnames` or a listener of its own")


def _bound(mesh: Mesh) -> Iterator[_Bound]:
    for document in mesh.policies.virtual_services:
        named = gateways_of(document)
        if any(ref != OF_MESH for ref in named):
            yield _Bound(document, named, document.hosts)
    for route in mesh.policies.gateway_routes:
        if route.gateways:
            yield _Bound(route, route.gateways, route.hostnames)


def _say_unknown(bound: _Bound, ref: GatewayRef, mesh: Mesh, notes: Notes) -> None:
    if ref == OF_MESH:
        return
    title = f"{ref.namespace}/{ref.name}"
    same = [each for each in mesh.policies.gateways if each.leads_to_app == bound.is_istio]
    names = [f"{each.meta.namespace}/{each.meta.name}" for each in same]
    others = [each for each in mesh.policies.gateways if each not in same]
    if any(ref.key == (each.meta.namespace, each.meta.name) for each in others):
        whose = "Gateway API's" if bound.is_istio else "Istio's"
        own = "networking.istio.io/v1" if bound.is_istio else "gateway.networking.k8s.io/v1"
        what = f"{bound.title}: the Gateway {title} is {whose}, which knows no {bound.document.meta.kind}"
        notes.error(ref.place, what, f"name a Gateway of apiVersion {own}; {listed(names)}")
        return
    what = f"{bound.title}: no Gateway is called {title}"
    notes.missing(ref.place, what, f"write NAMESPACE/NAME; {listed(names)}", expected=True)


def _beside(bound: _Bound, gateways: Iterable[GatewayDoc]) -> dict[int, set[str]]:
    """By published port, which is one service's, the hosts of servers that the route is not for."""
    named, found = {(bound.is_istio, *ref.key) for ref in bound.gateways}, dict[int, set[str]]()
    for gateway in gateways:
        is_named = (gateway.leads_to_app, gateway.meta.namespace, gateway.meta.name) in named
        for server in gateway.servers:
            if not (is_named and server.is_http):
                found.setdefault(server.port, set()).update(host.host for host in server.hosts)
    return found


def _check_hosts(
    bound: _Bound, ref: GatewayRef, gateway: GatewayDoc, beside: Mapping[int, set[str]], notes: Notes
) -> set[str]:
    """What of its hosts the Gateway serves; where that is nothing, the first reason is told."""
    title, named = f"{bound.title}: {gateway.meta.title}", sections_of(gateway, ref)
    if not named:
        names = [f"{each.name} ({each.port})" for each in gateway.servers]
        notes.error(ref.place, f"{title} has no such listener", listed(names))
        return set()
    if not (open_to := _open_to(bound, gateway, named)):
        what = f"{title} takes no {bound.document.meta.kind} of {bound.document.meta.namespace} there"
        notes.error(ref.place, what, _remedy(bound, gateway, named))
        return set()
    read = [(server, hosts) for server, hosts in open_to if server.is_http and not server.redirects]
    http = [host for _, hosts in read for host in hosts]
    found = {
        meant.host
        for meant in bound.hosts
        for server, hosts in read
        if any(_is_led(meant.host, host, beside.get(server.port, ())) for host in hosts)
    }
    if not http:
        notes.error(ref.place, f"{title} has no HTTP server there", "write protocol: HTTP or HTTPS in it")
    elif bound.hosts and not found:
        meant = ", ".join(host.host for host in bound.hosts)
        if any(narrower(each.host, host) for each in bound.hosts for host in http):
            what = f"{title}: another server of the port has a host that is more specific for {meant}"
            notes.error(ref.place, what, "name its Gateway, if requests are read there, or write other hosts")
        else:
            what = f"{title} has no HTTP server for {meant}"
            notes.error(ref.place, what, f"write a host of its servers; {listed(http)}")
    return found


def _is_led(meant: str, host: str, beside: Iterable[str]) -> bool:
    """Whether requests for a host come to this one of a server, and not to another server of its port."""
    common = narrower(host, meant)
    return bool(common) and most_specific(common, (host, *beside)) == host


def _open_to(
    bound: _Bound, gateway: GatewayDoc, servers: tuple[ServerDoc, ...]
) -> list[tuple[ServerDoc, list[str]]]:
    """Servers with those of their hosts for which a route of this kind and namespace may be."""
    document, own = bound.document, gateway.meta.namespace
    if isinstance(document, GatewayRouteDoc):
        return [(each, [host.host for host in each.hosts]) for each in servers if takes(each, document)]
    if not (own == ROOT_NAMESPACE or document.is_exported_to(own)):
        return []
    space = document.meta.namespace
    found = [(each, [h.host for h in each.hosts if is_in_scope(h, space, gateway)]) for each in servers]
    return [(server, hosts) for server, hosts in found if hosts]


def _remedy(bound: _Bound, gateway: GatewayDoc, servers: tuple[ServerDoc, ...]) -> str:
    meta = bound.document.meta
    if bound.is_istio:
        return f"write exportTo with {gateway.meta.namespace}, and server hosts without another NAMESPACE/"
    if any(each.routes.namespaces is None or meta.namespace in each.routes.namespaces for each in servers):
        return f"write allowedRoutes: {{kinds: [{{kind: {meta.kind}}}]}} in the Gateway's listener"
    return "write allowedRoutes: {namespaces: {from: All}} in the Gateway's listener"
