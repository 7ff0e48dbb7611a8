"""HTTPRoute and GRPCRoute, attached to Services. Source: gateway-api.sigs.k8s.io, GAMMA (GEP-1294)."""

from __future__ import annotations

import re
from collections.abc import Callable

from meshpy.model.match import SegmentPrefix
from meshpy.model.resilience import ConsistentHash, HashBy, RetryOn, RetryPolicy
from meshpy.policy.gateway_filters import GRPC_FILTERS, HTTP_FILTERS, read_filters
from meshpy.policy.gateway_matches import grpc_matches, http_matches
from meshpy.policy.gateway_refs import backends, hostname, parents
from meshpy.policy.meta import Meta
from meshpy.policy.reader import Cursor, Fields, Refusal, duration_s, no_meaning
from meshpy.policy.retries import MAX_ATTEMPTS
from meshpy.policy.route_docs import GatewayMatchDoc, GatewayRouteDoc, GatewayRuleDoc
from meshpy.policy.strings import header_name

__all__ = ["grpc_route", "http_route"]

_SPEC_REFUSED: dict[str, Refusal] = {
    "useDefaultGateways": no_meaning("there is no Gateway by default", "write parentRefs"),
}
_HTTP_RULE = ("name", "matches", "filters", "backendRefs", "timeouts", "retry", "sessionPersistence")
_GRPC_RULE = ("name", "matches", "filters", "backendRefs", "sessionPersistence")
_DURATION = re.compile(r"([0-9]{1,5}(h|m|s|ms)){1,4}")
_RETRY_ON = frozenset(
    {RetryOn.CONNECT_FAILURE, RetryOn.REFUSED_STREAM, RetryOn.RESET, RetryOn.RETRIABLE_STATUS_CODES}
)

_Matches = Callable[[Fields], tuple[GatewayMatchDoc, ...]]


def http_route(meta: Meta, spec: Cursor) -> GatewayRouteDoc:
    """HTTPRoute."""
    return _route(meta, spec, _HTTP_RULE, HTTP_FILTERS, http_matches)


def grpc_route(meta: Meta, spec: Cursor) -> GatewayRouteDoc:
    """GRPCRoute."""
    return _route(meta, spec, _GRPC_RULE, GRPC_FILTERS, grpc_matches)


def _route(
    meta: Meta, spec: Cursor, known: tuple[str, ...], filters: tuple[str, ...], matches: _Matches
) -> GatewayRouteDoc:
    fields = spec.fields(("parentRefs", "hostnames", "rules"), _SPEC_REFUSED)
    rules = fields.required("rules", "rules: [{backendRefs: [{name: my-service, port: 8080}]}]")
    items = rules.items() if rules is not None else []
    found = tuple(
        _rule(item, item.fields(known), f"rules[{number}]", meta.namespace, filters, matches)
        for number, item in enumerate(items)
    )
    services, gateways = parents(fields, meta.namespace)
    at_names = fields.get("hostnames")
    if at_names is not None and services:
        what = "a Service's route is for every name of the Service"
        at_names.problem(
            f"`hostnames` has no meaning on Swarm: {what}", "remove it, or attach to Gateways alone"
        )
    names = tuple(hostname(item) for item in fields.items("hostnames"))
    return GatewayRouteDoc(meta, services, found, gateways, names)


def _rule(
    cursor: Cursor, fields: Fields, name: str, namespace: str, known: tuple[str, ...], matches: _Matches
) -> GatewayRuleDoc:
    filters = read_filters(fields, namespace, known)
    found = matches(fields)
    targets, persistence = fields.get("backendRefs"), fields.get("sessionPersistence")
    if filters.redirect is not None and targets is not None:
        targets.problem("`backendRefs` cannot stand next to RequestRedirect", "keep one of them")
    if filters.replaces_prefix is not None and not _is_one_prefix(found):
        what = "ReplacePrefixMatch needs one match, and a PathPrefix in it"
        filters.replaces_prefix.problem(what, "write one match with path.type PathPrefix in this rule")
    timeout_s, try_s = _timeouts(fields)
    return GatewayRuleDoc(
        cursor.place,
        fields.text("name", name),
        found,
        backends(targets, namespace) if targets is not None else (),
        filters.redirect,
        filters.rewrite,
        filters.mirrors,
        filters.cors,
        filters.request_headers,
        filters.response_headers,
        timeout_s,
        _retry(fields.get("retry"), try_s),
        _affinity(persistence) if persistence is not None else None,
    )


def _is_one_prefix(matches: tuple[GatewayMatchDoc, ...]) -> bool:
    return len(matches) == 1 and isinstance(matches[0].request.path, SegmentPrefix)


def _timeouts(rule: Fields) -> tuple[float | None, float | None]:
    """`timeouts`: of the whole request, and of each request to a backend; zero is none."""
    cursor = rule.get("timeouts")
    if cursor is None:
        return None, None
    fields = cursor.fields(("request", "backendRequest"))
    if not fields:
        cursor.problem("says nothing", "write request: or backendRequest:")
    request, each = fields.get("request"), fields.get("backendRequest")
    request_s = _duration(request) if request is not None else None
    each_s = _duration(each) if each is not None else None
    if each is not None and each_s and request_s and each_s > request_s:
        each.problem("`backendRequest` is longer than `request`", "write at most that")
    return request_s or None, each_s or None


def _duration(cursor: Cursor) -> float:
    """GEP-2257: up to four whole numbers with h, m, s or ms."""
    text = getattr(cursor.node, "text", "")
    if not _DURATION.fullmatch(text):
        cursor.problem(f"{text!r} is no duration", 'write "10s", "500ms" or "1m30s"')
        return 0.0
    return duration_s(text) or 0.0


def _retry(cursor: Cursor | None, try_s: float | None) -> RetryPolicy | None:
    """`retry`: on these codes, and as GEP-1731 asks on connections that fail."""
    if cursor is None:
        return RetryPolicy(per_try_timeout_s=try_s) if try_s is not None else None
    fields = cursor.fields(("codes", "attempts", "backoff"))
    attempts, backoff = fields.get("attempts"), fields.get("backoff")
    number = attempts.integer(0, 2**31 - 1) if attempts is not None else RetryPolicy().attempts
    if attempts is not None and number > MAX_ATTEMPTS:
        what = f"{number} retries of one request would multiply an outage"
        attempts.problem(what, f"write at most {MAX_ATTEMPTS}; 2 or 3 is usual")
    return RetryPolicy(
        attempts=number,
        per_try_timeout_s=try_s,
        on=_RETRY_ON,
        status_codes=frozenset(item.integer(400, 599) for item in fields.items("codes")),
        backoff_s=(_duration(backoff) if backoff is not None else 0.0) or RetryPolicy().backoff_s,
    )


_SESSION_REFUSED: dict[str, Refusal] = {
    "idleTimeout": ("would need a table of sessions, endpoints are found by hash", "write absoluteTimeout:"),
}


def _affinity(cursor: Cursor) -> ConsistentHash:
    """`sessionPersistence` by a cookie (GEP-1619): the cookie's hash finds the endpoint."""
    fields = cursor.fields(("sessionName", "type", "cookieConfig", "absoluteTimeout"), _SESSION_REFUSED)
    kind = fields.get("type")
    if kind is not None and kind.choice(("Cookie", "Header")) == "Header":
        kind.problem("a header is not given back by clients of its own accord", "write type: Cookie")
    config, timeout = fields.get("cookieConfig"), fields.get("absoluteTimeout")
    lifetime = config.fields(("lifetimeType",)).get("lifetimeType") if config is not None else None
    is_permanent = lifetime is not None and lifetime.choice(("Session", "Permanent")) == "Permanent"
    if is_permanent and timeout is None and config is not None:
        config.problem("a permanent cookie needs an end", "write absoluteTimeout:")
    if timeout is not None and not is_permanent:
        timeout.problem("a session's cookie ends with the browser", "write lifetimeType: Permanent")
    named = fields.get("sessionName")
    name = header_name(named, named.text()) if named is not None else "meshpy-session"
    ttl_s = _duration(timeout) if timeout is not None and is_permanent else 0.0
    return ConsistentHash(HashBy.COOKIE, name, "/", ttl_s)
