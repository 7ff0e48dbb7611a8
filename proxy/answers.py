"""What a route answers by itself: redirects, direct responses, preflights, and that there is no route."""

from __future__ import annotations

from collections.abc import Iterable

from meshpy.engine.cors import Grant
from meshpy.engine.route import Direct, NoRoute, Redirected
from meshpy.model.route import HeaderOps
from proxy.decide.headers import FoldedOps, fold
from proxy.http.events import Header
from proxy.plan import Reply

__all__ = ["grant_fields", "granted", "no_route", "route_answer"]

_NO_CHANGES = HeaderOps()
_TEXT = b"text/plain; charset=utf-8"


def no_route(routing: NoRoute) -> Reply:
    """404 (NR), or 500 for a rewrite without a result and a backend that is none."""
    flags = "NR" if routing.status == 404 else "-"
    body = f"{routing.reason}\n".encode()
    return Reply(routing.status, flags, routing.cause, body, service=routing.virtual_host)


def route_answer(routing: Redirected | Direct) -> Reply:
    """The answer of a route, with the response headers that it sets (Envoy does the same)."""
    rule = routing.rule
    headers: list[Header] = []
    details = "direct_response"
    body = b""
    if isinstance(routing, Redirected):
        headers.append((b"location", routing.location.encode("latin-1", "replace")))
    else:
        body = routing.body
        details = "cors_preflight" if routing.is_preflight else details
    if rule.response_headers != _NO_CHANGES:
        headers += fold((rule.response_headers,)).extra
    content_type = next((value for name, value in headers if name.lower() == b"content-type"), None)
    headers = [header for header in headers if header[0].lower() != b"content-type"]
    if routing.grant is not None:
        headers += grant_fields(routing.grant)
    return Reply(
        routing.status,
        "-",
        details,
        body,
        tuple(headers),
        routing.virtual_host,
        rule.name or rule.policy,
        content_type=content_type or _TEXT,
    )


def grant_fields(grant: Grant) -> tuple[Header, ...]:
    """The fields of a grant as bytes."""
    return tuple(
        (name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in grant.headers
    )


def granted(ops: FoldedOps, grant: Grant) -> FoldedOps:
    """A route's response changes, and after them what its CORS policy says."""
    drop = frozenset(name.encode("latin-1") for name in grant.drop)
    kept: Iterable[Header] = (header for header in ops.extra if header[0].lower() not in drop)
    return FoldedOps(ops.drop | drop, (*kept, *grant_fields(grant)), ops.host)
