"""Istio VirtualService. Source: istio.io/latest/docs/reference/config/networking/virtual-service."""

from __future__ import annotations

import re

from meshpy.policy.http_route import http_route
from meshpy.policy.kinds import (
    DestinationDoc,
    HostRef,
    Meta,
    TcpMatchDoc,
    TcpRouteDoc,
    TlsMatchDoc,
    TlsRouteDoc,
    VirtualServiceDoc,
)
from meshpy.policy.reader import Cursor, Fields
from meshpy.policy.route_docs import OF_MESH
from meshpy.policy.route_targets import destinations, gateway_refs
from meshpy.policy.strings import cidr, host_ref

__all__ = ["export_is_private", "exports", "virtual_service"]

_KNOWN = ("hosts", "gateways", "exportTo", "http", "tls", "tcp")
_NAMESPACE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_ONLY_ROUTES = "a document without hosts is only delegated to"


def virtual_service(meta: Meta, spec: Cursor) -> VirtualServiceDoc:
    """Read `spec`; one without `hosts` is a delegate and has `http` routes alone."""
    fields = spec.fields(_KNOWN)
    gateways = gateway_refs(fields, meta.namespace) or (OF_MESH,)
    if any(each != OF_MESH for each in gateways):
        _refuse_opaque(fields)
    hosts = _hosts(fields)
    http = tuple(http_route(item, meta.namespace) for item in fields.items("http"))
    tls = tuple(_tls_route(item, hosts) for item in fields.items("tls"))
    tcp = tuple(_tcp_route(item) for item in fields.items("tcp"))
    if not any(name in fields for name in ("http", "tls", "tcp")):
        spec.problem("has no `http`, `tls` or `tcp` routes", "write http: with at least one route")
    if "hosts" not in fields:
        _check_delegate(fields, http)
    return VirtualServiceDoc(meta, hosts, http, tcp, tls, exports(fields), gateways)


def _refuse_opaque(fields: Fields) -> None:
    for name in ("tls", "tcp"):
        if (cursor := fields.get(name)) is not None:
            what = f"`{name}` routes do not apply at a Gateway: PASSTHROUGH and TCP lead to the app"
            cursor.problem(what, "write them in a VirtualService with gateways: [mesh]")


def _check_delegate(fields: Fields, http: tuple[object, ...]) -> None:
    if not http:
        fields.required("hosts", "hosts: [my-service]")
    for name in ("tls", "tcp", "gateways"):
        if (cursor := fields.get(name)) is not None:
            cursor.problem(f"`{name}` cannot stand without `hosts`", f"write hosts:, {_ONLY_ROUTES}")


def _hosts(fields: Fields) -> tuple[HostRef, ...]:
    items = fields.items("hosts")
    hosts = tuple(host_ref(item, wildcard=True) for item in items)
    seen: set[str] = set()
    for item, host in zip(items, hosts, strict=True):
        if host.host in seen:
            item.problem(f"{host.host!r} is listed twice", "remove one of them")
        seen.add(host.host)
    return hosts


def export_is_private(fields: Fields) -> bool:
    """`exportTo`: absent or `*` is every namespace, `.` the document's own."""
    cursor = fields.get("exportTo")
    if cursor is None:
        return False
    values = []
    for item in cursor.items():
        value = item.text()
        values.append(value)
        if value not in ("*", "."):
            what = f"export to {value!r} is not supported yet by meshpy"
            item.problem(what, 'write "*" (every namespace) or "." (its own)')
    return "*" not in values and "." in values


def exports(fields: Fields) -> frozenset[str]:
    """`exportTo`: `*` is every namespace, `.` the document's own, anything else a namespace by name."""
    cursor = fields.get("exportTo")
    if cursor is None:
        return frozenset({"*"})
    values = []
    for item in cursor.items():
        value = item.text()
        values.append(value)
        if value == "~":
            item.problem("exports to nobody, so that no caller ever sees it", "remove the document")
        elif value not in ("*", ".") and not _NAMESPACE.fullmatch(value):
            what = f"{value!r} is no namespace"
            item.problem(what, 'write "*" (every namespace), "." (its own) or a stack')
    return frozenset(values)


_TCP_MATCH = ("port", "destinationSubnets", "sourceLabels", "sourceNamespace", "gateways")


def _tcp_route(cursor: Cursor) -> TcpRouteDoc:
    fields = cursor.fields(("match", "route"))
    matches = tuple(_tcp_match(item) for item in fields.items("match"))
    return TcpRouteDoc(cursor.place, _targets(fields), matches)


def _targets(fields: Fields) -> tuple[DestinationDoc, ...]:
    route = fields.required("route", "route: [{destination: {host: my-service}}]")
    return destinations(route, has_headers=False) if route is not None else ()


def _tcp_match(cursor: Cursor) -> TcpMatchDoc:
    return _place(cursor.fields(_TCP_MATCH))


def _place(fields: Fields) -> TcpMatchDoc:
    """The conditions that `tcp` and `tls` matches share."""
    cursor = fields.get("gateways")
    if cursor is not None and any(ref != OF_MESH for ref in gateway_refs(fields, "") or ()):
        cursor.problem("opaque routes apply at sidecars alone", "write gateways: [mesh], or remove it")
    return TcpMatchDoc(
        fields.integer("port", 1, 65535),
        fields.labels("sourceLabels"),
        fields.text("sourceNamespace"),
        tuple(cidr(item) for item in fields.items("destinationSubnets")),
    )


def _tls_route(cursor: Cursor, hosts: tuple[HostRef, ...]) -> TlsRouteDoc:
    fields = cursor.fields(("match", "route"))
    match = fields.required("match", "match: [{sniHosts: [my-service]}]")
    matches = tuple(_tls_match(item, hosts) for item in match.items()) if match is not None else ()
    return TlsRouteDoc(cursor.place, _targets(fields), matches)


def _tls_match(cursor: Cursor, hosts: tuple[HostRef, ...]) -> TlsMatchDoc:
    fields = cursor.fields(("sniHosts", *_TCP_MATCH))
    at_names = fields.required("sniHosts", "sniHosts: [my-service]")
    names = []
    for item in at_names.items() if at_names is not None else ():
        name = host_ref(item, wildcard=True).host
        names.append(name)
        if hosts and not any(_covers(host.host, name) for host in hosts):
            listed = ", ".join(host.host for host in hosts)
            item.problem(f"{name!r} is none of the hosts of the document", f"write one of {listed}")
    return TlsMatchDoc(tuple(names), _place(fields))


def _covers(host: str, name: str) -> bool:
    """Whether every name that `name` means is one of `host`; `catalog` covers its long forms too."""
    if host in ("*", name):
        return True
    if host.startswith("*."):
        return name.removeprefix("*").endswith(host[1:])
    return name.startswith(f"{host}.")
