"""Istio VirtualService. Source: istio.io/latest/docs/reference/config/networking/virtual-service."""

from __future__ import annotations

from meshpy.policy.http_route import http_route
from meshpy.policy.kinds import DestinationDoc, HostRef, Meta, TcpMatchDoc, TcpRouteDoc, VirtualServiceDoc
from meshpy.policy.reader import NOT_YET, Cursor, Fields
from meshpy.policy.route_targets import destinations, mesh_gateways
from meshpy.policy.strings import host_ref

__all__ = ["export_is_private", "virtual_service"]

_KNOWN = ("hosts", "gateways", "exportTo", "http", "tcp")


def virtual_service(meta: Meta, spec: Cursor) -> VirtualServiceDoc:
    """Read `spec`."""
    fields = spec.fields(_KNOWN, {"tls": NOT_YET})
    if "gateways" in fields:
        mesh_gateways(fields)
    http = tuple(http_route(item) for item in fields.items("http"))
    tcp = tuple(_tcp_route(item) for item in fields.items("tcp"))
    if not http and not tcp:
        spec.problem("has neither `http` nor `tcp` routes", "write http: with at least one route")
    return VirtualServiceDoc(meta, _hosts(fields), http, tcp, export_is_private(fields))


def _hosts(fields: Fields) -> tuple[HostRef, ...]:
    cursor = fields.required("hosts", "hosts: [my-service]")
    items = cursor.items() if cursor is not None else []
    hosts = tuple(host_ref(item) for item in items)
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


_TCP_MATCH = ("port", "sourceLabels", "sourceNamespace", "gateways")


def _tcp_route(cursor: Cursor) -> TcpRouteDoc:
    fields = cursor.fields(("match", "route"))
    matches = tuple(_tcp_match(item) for item in fields.items("match"))
    route = fields.required("route", "route: [{destination: {host: my-service}}]")
    targets: tuple[DestinationDoc, ...] = destinations(route, has_headers=False) if route is not None else ()
    return TcpRouteDoc(cursor.place, targets, matches)


def _tcp_match(cursor: Cursor) -> TcpMatchDoc:
    fields = cursor.fields(_TCP_MATCH, {"destinationSubnets": NOT_YET})
    mesh_gateways(fields)
    return TcpMatchDoc(
        fields.integer("port", 1, 65535), fields.labels("sourceLabels"), fields.text("sourceNamespace")
    )
