"""Linkerd HTTPLocalRateLimitPolicy. Source: linkerd.io/2/reference/rate-limiting.

`targetRef` is a Service of the policy's namespace, since there are no Servers here. `matches` is meshpy's
own: the requests that the policy counts, in the words of an HTTPRoute's matches.
"""

from __future__ import annotations

from meshpy.model.match import Exact, HeaderMatch, Regex, RequestMatch, SegmentPrefix, StringMatch
from meshpy.model.names import ServiceName
from meshpy.model.rate_limit import RateLimit, RateOverride
from meshpy.policy.kinds import Meta, RateLimitDoc, ServiceRef
from meshpy.policy.reader import Cursor
from meshpy.policy.strings import header_name, regex

__all__ = ["rate_limit_policy"]

_MAX_RPS = 2**31 - 1
_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")


def rate_limit_policy(meta: Meta, spec: Cursor) -> RateLimitDoc:
    """Read `spec`."""
    fields = spec.fields(("targetRef", "total", "identity", "overrides", "matches"))
    at_target = fields.required("targetRef", "targetRef: {kind: Service, name: api}")
    total, identity = fields.get("total"), fields.get("identity")
    total_rps = _rate(total) if total is not None else 0
    overrides = fields.items("overrides")
    limit = RateLimit(
        meta.title,
        tuple(_match(item) for item in fields.items("matches")),
        total_rps,
        _below(identity, total_rps) if identity is not None else 0,
        tuple(_override(item, meta, total_rps) for item in overrides),
    )
    if total is None and identity is None and not overrides:
        spec.problem("it limits nothing", "write total:, identity: or overrides:")
    target = _target(at_target, meta) if at_target is not None else ServiceRef("", meta.namespace, spec.place)
    return RateLimitDoc(meta, target, limit, tuple(item.place for item in overrides))


def _target(cursor: Cursor, meta: Meta) -> ServiceRef:
    fields = cursor.fields(("group", "kind", "name"))
    at_kind, at_name = fields.required("kind", "kind: Service"), fields.required("name", "name: api")
    kind = at_kind.text() if at_kind is not None else "Service"
    at_group = fields.get("group")
    if at_kind is not None and kind != "Service":
        what = f"the kind {kind!r} has no meaning on Swarm: the HTTP ports of a service are what is limited"
        at_kind.problem(what, "write kind: Service and the service's name, without group")
    elif at_group is not None and at_group.text() not in ("", "core"):
        at_group.problem(f"{at_group.text()!r} is not the group of Service", 'write group: "", or remove it')
    return ServiceRef(at_name.text() if at_name is not None else "", meta.namespace, cursor.place)


def _rate(cursor: Cursor) -> int:
    at = cursor.fields(("requestsPerSecond",)).required("requestsPerSecond", "requestsPerSecond: 100")
    return at.integer(1, _MAX_RPS) if at is not None else 0


def _below(cursor: Cursor, total_rps: int) -> int:
    rps = _rate(cursor)
    _check_below(cursor, rps, total_rps)
    return rps


def _check_below(cursor: Cursor, rps: int, total_rps: int) -> None:
    if total_rps and rps > total_rps:
        cursor.problem(f"{rps} is more than the total of {total_rps}", f"write {total_rps} or less")


def _override(cursor: Cursor, meta: Meta, total_rps: int) -> RateOverride:
    fields = cursor.fields(("requestsPerSecond", "clientRefs"))
    at_rate = fields.required("requestsPerSecond", "requestsPerSecond: 100")
    rps = at_rate.integer(1, _MAX_RPS) if at_rate is not None else 0
    if at_rate is not None:
        _check_below(at_rate, rps, total_rps)
    at_clients = fields.required("clientRefs", "clientRefs: [{kind: ServiceAccount, name: web}]")
    clients = at_clients.items() if at_clients is not None else []
    return RateOverride(rps, tuple(_client(item, meta) for item in clients))


def _client(cursor: Cursor, meta: Meta) -> ServiceName:
    fields = cursor.fields(("group", "kind", "name", "namespace"))
    at_kind = fields.required("kind", "kind: ServiceAccount")
    at_name = fields.required("name", "name: web")
    if at_kind is not None and at_kind.text() != "ServiceAccount":
        what = f"the kind {at_kind.text()!r} is no client"
        at_kind.problem(what, "write kind: ServiceAccount and the name of a service")
    at_group = fields.get("group")
    if at_group is not None and at_group.text() not in ("", "core"):
        what = f"{at_group.text()!r} is not the group of ServiceAccount"
        at_group.problem(what, 'write group: "", or remove it')
    namespace = fields.text("namespace", meta.namespace)
    return ServiceName(namespace, at_name.text() if at_name is not None else "")


def _match(cursor: Cursor) -> RequestMatch:
    fields = cursor.fields(("path", "method", "headers", "queryParams"))
    if not fields:
        cursor.problem("an empty match counts every request", "write path:, method: or headers:")
    path, method = fields.get("path"), fields.get("method")
    query = {}
    for item in fields.items("queryParams"):
        name, value = _named(item)
        query[name] = value
    return RequestMatch(
        path=_path(path) if path is not None else None,
        method=Exact(method.choice(_METHODS)) if method is not None else None,
        headers=tuple(_header(item) for item in fields.items("headers")),
        query=query,
    )


def _path(cursor: Cursor) -> StringMatch:
    fields = cursor.fields(("type", "value"))
    at_type, at_value = fields.get("type"), fields.required("value", "value: /search")
    kinds = ("PathPrefix", "Exact", "RegularExpression")
    kind = at_type.choice(kinds) if at_type is not None else "PathPrefix"
    if at_value is None:
        return SegmentPrefix("/")
    if kind == "RegularExpression":
        return Regex(regex(at_value))
    value = at_value.text()
    if not value.startswith("/"):
        at_value.problem(f"{value!r} is no path", "write a path that begins with /")
    return Exact(value) if kind == "Exact" else SegmentPrefix(value)


def _header(cursor: Cursor) -> HeaderMatch:
    name, value = _named(cursor)
    return HeaderMatch(header_name(cursor, name).lower(), value)


def _named(cursor: Cursor) -> tuple[str, StringMatch]:
    fields = cursor.fields(("type", "name", "value"))
    at_type, at_name = fields.get("type"), fields.required("name", "name: x-tenant")
    at_value = fields.required("value", "value: acme")
    kind = at_type.choice(("Exact", "RegularExpression")) if at_type is not None else "Exact"
    name = at_name.text() if at_name is not None else "x"
    if at_value is None:
        return name, Exact("")
    return name, Regex(regex(at_value)) if kind == "RegularExpression" else Exact(at_value.text())
