"""References of Gateway API documents: parents, backends, and the grants for those of other namespaces.

Source: gateway-api.sigs.k8s.io, GEP-1294 (routes attached to Services), GEP-709 (ReferenceGrant).
"""

from __future__ import annotations

import re

from meshpy.policy.gateway_headers import header_changes
from meshpy.policy.meta import HostRef, Meta
from meshpy.policy.reader import Cursor, Fields, no_meaning
from meshpy.policy.route_docs import BackendDoc, GatewayRef, ParentDoc, ReferenceGrantDoc
from meshpy.policy.strings import host_ref, is_address

__all__ = ["backend", "backends", "hostname", "parents", "reference_grant"]

_MAX_WEIGHT = 1_000_000
_CORE = ("", "core")
_ROUTES = ("HTTPRoute", "GRPCRoute")
_GATEWAY_GROUP = "gateway.networking.k8s.io"
_ANY_GATEWAY = "Gateway"
_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOSTNAME = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*")
_SECTION = no_meaning("a Service has no sections", "write port: N")


def parents(spec: Fields, namespace: str) -> tuple[tuple[ParentDoc, ...], tuple[GatewayRef, ...]]:
    """`parentRefs`: Services for whose callers the route is, and Gateways at which it is for strangers."""
    example = 'parentRefs: [{group: "", kind: Service, name: my-service}], or [{name: my-gateway}]'
    cursor = spec.required("parentRefs", example)
    services: list[ParentDoc] = []
    gateways: list[GatewayRef] = []
    for item in cursor.items() if cursor is not None else ():
        parent = _parent(item, namespace)
        if isinstance(parent, GatewayRef):
            is_twice = parent in gateways
            gateways.append(parent)
        else:
            is_twice = any(parent.host.host == p.host.host and parent.port == p.port for p in services)
            services.append(parent)
        if is_twice:
            item.problem("the parent is listed twice", "remove one of them")
    return tuple(services), tuple(gateways)


def hostname(cursor: Cursor) -> HostRef:
    """A name, or `*.` before one; without it every name is meant (RFC 1123, less addresses)."""
    text = cursor.text().lower()
    if text == "*":
        cursor.problem("`*` alone is no host of Gateway API", "leave it out: every host is meant then")
    elif not _HOSTNAME.fullmatch(text) or is_address(text):
        cursor.problem(f"{text!r} is no host", "write shop.example.com or *.example.com")
    return HostRef(text, cursor.place)


def _parent(cursor: Cursor, namespace: str) -> ParentDoc | GatewayRef:
    fields = cursor.fields(("group", "kind", "name", "namespace", "port", "sectionName"))
    at_kind, at_section, at_group = fields.get("kind"), fields.get("sectionName"), fields.get("group")
    kind = at_kind.choice((_ANY_GATEWAY, "Service")) if at_kind is not None else _ANY_GATEWAY
    space, port = fields.text("namespace", namespace), fields.integer("port", 1, 65535)
    if kind == "Service":
        _check_core(fields, is_required=True)
        if at_section is not None:
            at_section.problem(f"`sectionName` {_SECTION[0]}", _SECTION[1])
        return ParentDoc(_name(fields), space, port)
    if at_group is not None and at_group.text() != _GATEWAY_GROUP:
        at_group.problem(f"a Gateway is not of the group {at_group.text()!r}", "remove it")
    named = fields.required("name", "name: my-gateway")
    name = named.text() if named is not None else ""
    return GatewayRef(space, name, cursor.place, fields.text("sectionName"), port)


def _check_core(fields: Fields, *, is_required: bool) -> None:
    """A Service is of the core group; `parentRefs` has another default."""
    group = fields.get("group")
    if group is None:
        if is_required:
            fields.at.problem("`group` is missing, which means Gateway API's own", 'write group: ""')
    elif group.text() not in _CORE:
        group.problem(f"a Service is not of the group {group.text()!r}", 'write group: ""')


def _name(fields: Fields) -> HostRef:
    named = fields.required("name", "name: my-service")
    return host_ref(named) if named is not None else HostRef("", fields.at.place)


def backends(cursor: Cursor, namespace: str) -> tuple[BackendDoc, ...]:
    """`backendRefs` of a rule."""
    return tuple(backend(item, namespace, is_weighted=True) for item in cursor.items(empty=True))


def backend(cursor: Cursor, namespace: str, *, is_weighted: bool) -> BackendDoc:
    """One backend; those of mirrors have neither weight nor filters."""
    known = ("group", "kind", "name", "namespace", "port")
    fields = cursor.fields((*known, "weight", "filters") if is_weighted else known)
    kind = fields.get("kind")
    if kind is not None and kind.text() != "Service":
        kind.problem(f"{kind.text()!r} is no backend here", "write kind: Service, or remove it")
    _check_core(fields, is_required=False)
    port = fields.required("port", "port: 8080")
    weight = fields.integer("weight", 0, _MAX_WEIGHT)
    request, response = header_changes(fields.items("filters"))
    return BackendDoc(
        _name(fields),
        fields.text("namespace", namespace),
        port.integer(1, 65535) if port is not None else 0,
        1 if weight is None else weight,
        request,
        response,
    )


def reference_grant(meta: Meta, spec: Cursor) -> ReferenceGrantDoc:
    """ReferenceGrant: `from` routes of other namespaces `to` Services of its own."""
    fields = spec.fields(("from", "to"))
    sources, targets = fields.required("from"), fields.required("to")
    names: set[str] | None = set()
    for item in targets.items() if targets is not None else ():
        name = _target(item)
        if not name:
            names = None
        elif names is not None:
            names.add(name)
    granted = {_source(item) for item in (sources.items() if sources is not None else ())}
    return ReferenceGrantDoc(meta, frozenset(granted), frozenset(names) if names is not None else None)


def _source(cursor: Cursor) -> tuple[str, str]:
    fields = cursor.fields(("group", "kind", "namespace"))
    group, kind = fields.required("group", f"group: {_GATEWAY_GROUP}"), fields.required("kind")
    fields.required("namespace", "namespace: my-stack")
    if group is not None and group.text() != _GATEWAY_GROUP:
        group.problem(f"nothing of the group {group.text()!r} needs a grant here", f"write {_GATEWAY_GROUP}")
    return kind.choice(_ROUTES) if kind is not None else "", fields.text("namespace")


def _target(cursor: Cursor) -> str:
    fields = cursor.fields(("group", "kind", "name"))
    kind = fields.required("kind", "kind: Service")
    _check_core(fields, is_required=True)
    if kind is not None:
        kind.choice(("Service",))
    return fields.text("name")
