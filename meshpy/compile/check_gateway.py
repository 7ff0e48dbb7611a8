"""Findings on HTTPRoutes, GRPCRoutes and ReferenceGrants: parents, backends, what competes."""

from __future__ import annotations

from collections.abc import Iterator

from meshpy.compile.findings import Notes, listed
from meshpy.compile.gateway import attachments, refusal_of
from meshpy.compile.hosts import LogicalHost
from meshpy.compile.snapshot import Mesh
from meshpy.policy.route_docs import BackendDoc, GatewayRouteDoc, ParentDoc

__all__ = ["check_gateway_routes"]


def check_gateway_routes(mesh: Mesh, notes: Notes) -> None:
    """Check every route's parents and backends, and that only one kind of document routes a port."""
    for route, parent in attachments(mesh.policies.gateway_routes):
        _check_parent(route, parent, mesh, notes)
    for route in mesh.policies.gateway_routes:
        for backend in _backends(route):
            _check_backend(route, backend, mesh, notes)
    _check_kinds(mesh, notes)


def _backends(route: GatewayRouteDoc) -> Iterator[BackendDoc]:
    for rule in route.rules:
        yield from rule.backends
        yield from (mirror.backend for mirror in rule.mirrors)


def _check_parent(route: GatewayRouteDoc, parent: ParentDoc, mesh: Mesh, notes: Notes) -> None:
    place, expected = parent.host.place, parent.namespace in mesh.directory.namespaces
    host = mesh.directory.resolve(parent.host.host, parent.namespace)
    if host is None:
        what = f"{route.meta.title}: no service of {parent.namespace} is called {parent.host.host!r}"
        notes.missing(place, what, listed(mesh.directory.labels), expected=expected)
        return
    ports = [str(port) for port in host.ports]
    if parent.port is not None and parent.port not in host.ports:
        what = f"{route.meta.title}: {host.label} has no port {parent.port}"
        notes.missing(place, what, f"ports {listed(ports)}", expected=True)
    elif host.ports and not _http_ports(host, parent):
        what = f"{route.meta.title}: {host.label} has opaque ports only, the route has no effect there"
        notes.error(place, what, "declare http in meshpy.ports, or write a VirtualService with tcp: routes")


def _http_ports(host: LogicalHost, parent: ParentDoc) -> set[int]:
    return {n for n, protocol in host.ports.items() if protocol.is_http and parent.port in (None, n)}


def _check_backend(route: GatewayRouteDoc, backend: BackendDoc, mesh: Mesh, notes: Notes) -> None:
    refusal = refusal_of(mesh.gateway, route, backend, mesh.directory)
    if not refusal:
        return
    if not mesh.gateway.is_granted(route, backend):
        instead = f"write a ReferenceGrant in {backend.namespace}: from {route.meta.kind} of "
        notes.error(backend.host.place, refusal, f"{instead}{route.meta.namespace}, to Service")
        return
    host = mesh.directory.resolve(backend.host.host, backend.namespace)
    ports = [f"{port} ({protocol.value})" for port, protocol in host.ports.items()] if host else []
    instead = f"ports {listed(ports)}" if host is not None else listed(mesh.directory.labels)
    expected = backend.namespace in mesh.directory.namespaces
    notes.missing(backend.host.place, refusal, instead, expected=expected)


def _check_kinds(mesh: Mesh, notes: Notes) -> None:
    """Gateway API refuses HTTPRoute beside GRPCRoute; beside a VirtualService nobody says who wins."""
    for label, pairs in mesh.gateway.by_label.items():
        services = mesh.documents.by_label.get(label, ())
        for parent, route in pairs:
            rivals = [
                other.meta
                for rival, other in pairs
                if other.is_grpc != route.is_grpc
                and (rival.port is None or parent.port is None or rival.port == parent.port)
            ]
            rivals += [document.meta for document in services if document.http]
            for meta in rivals[:1]:
                if route.is_grpc or meta.kind != "GRPCRoute":
                    what = f"{route.meta.title} and {meta.title} ({meta.place}) both route {label}"
                    notes.error(parent.host.place, what, "write all rules in one kind, or for other ports")
