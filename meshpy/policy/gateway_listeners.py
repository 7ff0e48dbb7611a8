"""Gateway API's Gateway: listeners at the published ports of a stack's services.

Source: gateway-api.sigs.k8s.io/reference/spec/#gateway.
"""

from __future__ import annotations

import re

from meshpy.model.ingress import TlsMode
from meshpy.policy.gateway_kinds import GatewayDoc, RoutesFrom, ScopedHost, ServerDoc, TlsDoc
from meshpy.policy.gateway_refs import hostname
from meshpy.policy.meta import Meta
from meshpy.policy.reader import Cursor, Fields, Refusal, no_meaning

__all__ = ["gateway"]

_CLASS = "meshpy"
_SECRET = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,62}[A-Za-z0-9])?")
_PROTOCOLS = ("HTTP", "HTTPS", "TLS", "TCP")
_ROUTES = ("HTTPRoute", "GRPCRoute")
_REFUSED: dict[str, Refusal] = {
    "addresses": no_meaning("ports are published on every node"),
    "infrastructure": no_meaning("the sidecars of the stack's services are the gateway"),
    "backendTLS": no_meaning("apps are reached on their own network, other services by mTLS"),
    "allowedListeners": ("is not read here", "write all listeners in this document"),
    "tls": ("is not read here", "write tls in each listener"),
}
_TLS_REFUSED: dict[str, Refusal] = {
    "options": ("is not read here", "write an Istio Gateway: minProtocolVersion and cipherSuites"),
    "frontendValidation": ("is not read here", "write an Istio Gateway: mode: MUTUAL"),
}


def gateway(meta: Meta, spec: Cursor) -> GatewayDoc:
    """Read `spec`."""
    fields = spec.fields(("gatewayClassName", "listeners"), _REFUSED)
    at_class = fields.required("gatewayClassName", f"gatewayClassName: {_CLASS}")
    if at_class is not None and at_class.text() != _CLASS:
        what = f"nothing here is of the class {at_class.text()!r}"
        at_class.problem(what, f"write gatewayClassName: {_CLASS}")
    fields.required("listeners", "listeners: [{name: https, port: 443, protocol: HTTPS, …}]")
    items = fields.items("listeners")
    servers = tuple(_listener(item, meta.namespace) for item in items)
    seen: set[str] = set()
    for item, each in zip(items, servers, strict=True):
        if each.name in seen:
            item.problem(f"the name {each.name!r} is given twice", "give each listener its own")
        seen.add(each.name)
    return GatewayDoc(meta, servers)


def _listener(cursor: Cursor, namespace: str) -> ServerDoc:
    fields = cursor.fields(("name", "port", "protocol", "hostname", "tls", "allowedRoutes"))
    fields.required("name", "name: https")
    at_port, at_protocol = (
        fields.required("port", "port: 443"),
        fields.required("protocol", "protocol: HTTPS"),
    )
    protocol = at_protocol.choice(_PROTOCOLS) if at_protocol is not None else "HTTP"
    at_tls, at_host = fields.get("tls"), fields.get("hostname")
    if at_tls is None and protocol in ("HTTPS", "TLS"):
        cursor.problem(f"{protocol} without `tls`", "write tls: {certificateRefs: [{name: my-secret}]}")
    elif at_tls is not None and protocol in ("HTTP", "TCP"):
        at_tls.problem(f"{protocol} has no TLS", "write protocol: HTTPS, or remove it")
    if at_host is not None and protocol == "TCP":
        at_host.problem("bytes in plaintext name no host", "remove it")
    at_routes = fields.get("allowedRoutes")
    if at_routes is not None and protocol in ("TLS", "TCP"):
        what = f"{protocol} hands bytes to the app, and no route is for them"
        at_routes.problem(what, "remove it, or write protocol: HTTP or HTTPS")
    return ServerDoc(
        cursor.place,
        at_port.integer(1, 65535) if at_port is not None else 0,
        protocol,
        (ScopedHost(hostname(at_host).host if at_host is not None else "*"),),
        _tls(at_tls, protocol) if at_tls is not None else None,
        name=fields.text("name"),
        routes=_allowed(at_routes, namespace),
    )


def _tls(cursor: Cursor, protocol: str) -> TlsDoc:
    fields = cursor.fields(("mode", "certificateRefs"), _TLS_REFUSED)
    at_mode, at_refs = fields.get("mode"), fields.get("certificateRefs")
    passes = at_mode is not None and at_mode.choice(("Terminate", "Passthrough")) == "Passthrough"
    if passes:
        if at_refs is not None:
            at_refs.problem("with Passthrough the app ends TLS itself", "remove it")
        if protocol == "HTTPS" and at_mode is not None:
            at_mode.problem("HTTPS ends TLS here", "write protocol: TLS, or mode: Terminate")
        return TlsDoc(cursor.place, TlsMode.PASSTHROUGH)
    refs = [_secret(item) for item in at_refs.items()] if at_refs is not None else []
    if at_refs is None:
        cursor.problem("no certificate is named", "write certificateRefs: [{name: my-secret}]")
    elif len(refs) > 1:
        at_refs.problem("several certificates", "write one listener for each host")
    return TlsDoc(cursor.place, TlsMode.SIMPLE, refs[0] if refs else "")


def _secret(cursor: Cursor) -> str:
    away = no_meaning("secrets belong to the stack that publishes the port")
    fields = cursor.fields(("group", "kind", "name"), {"namespace": away})
    for name, known in (("group", ""), ("kind", "Secret")):
        said = fields.get(name)
        if said is not None and said.text() != known:
            said.problem(f"{said.text()!r} is no secret", "write name: alone")
    named = fields.required("name", "name: my-secret")
    text = named.text() if named is not None else ""
    if named is not None and not _SECRET.fullmatch(text):
        named.problem(f"{text!r} is no key of a secret", "write a key of the stack's `secrets`")
    return text


def _allowed(cursor: Cursor | None, own: str) -> RoutesFrom:
    """`allowedRoutes`: by default routes of the Gateway's own namespace."""
    if cursor is None:
        return RoutesFrom(frozenset({own}))
    fields = cursor.fields(("namespaces", "kinds"))
    at_spaces, at_kinds = fields.get("namespaces"), fields.get("kinds")
    kinds = frozenset(_kind(item) for item in at_kinds.items()) if at_kinds is not None else None
    return RoutesFrom(_spaces(at_spaces, own) if at_spaces is not None else frozenset({own}), kinds)


def _spaces(cursor: Cursor, own: str) -> frozenset[str] | None:
    selects = ("selects namespaces by labels, and stacks have none", "write from: All or from: Same")
    fields = cursor.fields(("from",), {"selector": selects})
    where = fields.get("from")
    word = where.text() if where is not None else "Same"
    if where is not None and word not in ("Same", "All", "None"):
        where.problem(f"from: {word} is not read here", "write from: Same, All or None")
    if word == "All":
        return None
    return frozenset({own}) if word == "Same" else frozenset()


def _kind(cursor: Cursor) -> str:
    fields: Fields = cursor.fields(("group", "kind"))
    group, kind = fields.get("group"), fields.required("kind", "kind: HTTPRoute")
    if group is not None and group.text() != "gateway.networking.k8s.io":
        group.problem(f"routes are not of the group {group.text()!r}", "remove it")
    return kind.choice(_ROUTES) if kind is not None else ""
