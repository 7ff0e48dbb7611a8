"""Weighted destinations and gateways, as HTTP and TCP routes share them."""

from __future__ import annotations

import re

from meshpy.policy.kinds import DestinationDoc, HostRef
from meshpy.policy.reader import Cursor, Fields
from meshpy.policy.route_docs import MESH, GatewayRef
from meshpy.policy.strings import header_ops, host_ref

__all__ = ["destination", "destinations", "gateway_refs"]

_MAX_WEIGHT = 2**31 - 1
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?"
_GATEWAY = re.compile(rf"(?:{_NAME}/)?{_NAME}")


def gateway_refs(fields: Fields, namespace: str) -> tuple[GatewayRef, ...] | None:
    """`gateways`: `mesh` is every sidecar, anything else a Gateway as NAMESPACE/NAME; None is not said."""
    cursor = fields.get("gateways")
    if cursor is None:
        return None
    found = []
    for item in cursor.items():
        text = item.text()
        space, slash, name = text.rpartition("/")
        if not _GATEWAY.fullmatch(text):
            item.problem(f"{text!r} is no gateway", "write mesh, NAME or NAMESPACE/NAME")
        found.append(GatewayRef(space if slash else namespace if text != MESH else "", name, item.place))
    return tuple(found)


def destinations(cursor: Cursor, *, has_headers: bool = True) -> tuple[DestinationDoc, ...]:
    """`route`: at least one destination; the weights' sum is positive."""
    items = cursor.items()
    found = tuple(_destination(item, single=len(items) == 1, has_headers=has_headers) for item in items)
    if found and sum(target.weight for target in found) == 0:
        cursor.problem("the weights' sum is 0, nothing can be chosen", "give a destination a positive weight")
    return found


def _destination(cursor: Cursor, *, single: bool, has_headers: bool) -> DestinationDoc:
    fields = cursor.fields(("destination", "weight", "headers") if has_headers else ("destination", "weight"))
    weight = fields.integer("weight", 0, _MAX_WEIGHT)
    if weight is None and not single:
        cursor.problem("has no weight, which is 0 next to others", "write weight: N on every destination")
    request, response = header_ops(fields.get("headers"))
    target = fields.required("destination", "destination: {host: my-service}")
    if target is None:
        return DestinationDoc(HostRef("", cursor.place))
    found = destination(target)
    shares = 100 if weight is None else weight
    return DestinationDoc(found.host, found.subset, found.port, shares, request, response)


def destination(cursor: Cursor) -> DestinationDoc:
    """`destination`, also as a mirror's: host, subset and port."""
    fields = cursor.fields(("host", "subset", "port"))
    named, at_port, port = fields.required("host", "host: my-service"), fields.get("port"), None
    if at_port is not None:
        number = at_port.fields(("number",)).required("number", "number: 80")
        port = number.integer(1, 65535) if number is not None else None
    host = host_ref(named) if named is not None else HostRef("", cursor.place)
    return DestinationDoc(host, fields.text("subset"), port)
