"""`timeout`, `retries` and `routes` -> the HTTP routes of a VirtualService.

A route is `{path, method, headers, to, timeout, retries}`. `path: /v1/*` is a prefix; `to` is a service, with
`:PORT` where it has several, or `{SERVICE: WEIGHT, …}`. What no route takes goes where it went before.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from meshpy.inject.members import Member, Plan
from meshpy.inject.place_tree import plain
from meshpy.policy.documents import Mapping as MappingTree
from meshpy.policy.documents import Scalar, Sequence
from meshpy.policy.reader import Cursor, suggestion
from meshpy.policy.retries import retry_policy

__all__ = ["HttpHost", "http_routes", "limits_of", "route_of"]

_ROUTE = ("path", "method", "headers", "to", "timeout", "retries")


@dataclass(frozen=True, slots=True)
class HttpHost:
    """A name that callers use, and its HTTP ports."""

    name: str
    ports: tuple[int, ...]
    is_only_port: bool

    @classmethod
    def of(cls, name: str, members: Iterable[Member]) -> HttpHost:
        facts = {fact.number: fact for member in members for fact in member.ports}
        http = tuple(sorted(number for number, fact in facts.items() if fact.protocol.is_http))
        return cls(name, http, len(facts) == 1)


def http_routes(
    at: Cursor,
    host: HttpHost,
    plan: Plan,
    given: Mapping[str, Cursor | None],
    inherited: Mapping[str, Cursor | None],
) -> list[dict[str, Any]]:
    """All routes of a host, the rest last.

    Args:
        given: `routes` with what the host itself says.
        inherited: `timeout` and `retries` in force for it.
    """
    if not host.ports:
        at.problem(f"{host.name} has no HTTP port, and timeouts, retries and routes need one", "remove it")
        return []
    limits = limits_of(inherited)
    at_routes = given.get("routes")
    items = at_routes.items() if at_routes is not None else []
    routes = [route_of(item, plan, limits) for item in items]
    if routes and "match" not in routes[-1]:
        return routes
    for port in host.ports:
        rest: dict[str, Any] = {"route": [{"destination": _itself(host, port)}], **limits}
        if not host.is_only_port:
            rest["match"] = [{"port": port}]
        routes.append(rest)
    return routes


def _itself(host: HttpHost, port: int) -> dict[str, Any]:
    return {"host": host.name} if host.is_only_port else {"host": host.name, "port": {"number": port}}


def limits_of(given: Mapping[str, Cursor | None]) -> dict[str, Any]:
    """`timeout` and `retries` of a route."""
    limits: dict[str, Any] = {}
    timeout, retries = given.get("timeout"), given.get("retries")
    if timeout is not None:
        timeout.duration()
        limits["timeout"] = str(getattr(timeout.node, "text", ""))
    if retries is not None:
        limits["retries"] = _retries(retries)
    return limits


def _retries(cursor: Cursor) -> dict[str, Any]:
    """A number of attempts, or Istio's `retries`."""
    if isinstance(cursor.node, MappingTree):
        retry_policy(cursor)
        return dict(plain(cursor.node))
    return {"attempts": cursor.integer(0, 100)}


def route_of(cursor: Cursor, plan: Plan, limits: Mapping[str, Any]) -> dict[str, Any]:
    """One route of a host, over the limits in force for it."""
    fields = cursor.fields(_ROUTE)
    at_to = fields.required("to", "to: SERVICE")
    own = {**limits, **limits_of({key: fields.get(key) for key in ("timeout", "retries")})}
    matches = _matches(fields.get("path"), fields.get("method"), fields.get("headers"))
    targets = _targets(at_to, plan) if at_to is not None else []
    route: dict[str, Any] = {"route": targets, **own}
    if matches:
        route["match"] = matches
    return route


def _matches(path: Cursor | None, method: Cursor | None, headers: Cursor | None) -> list[dict[str, Any]]:
    """Every path with every method; all headers must hold."""
    paths = [{"uri": _text(item)} for item in _each(path)] or [{}]
    methods = [{"method": {"exact": item.text()}} for item in _each(method)] or [{}]
    wanted = {name: _text(value) for name, value in (headers.pairs() if headers is not None else ())}
    by_header = {"headers": wanted} if wanted else {}
    return [match for a, b in itertools.product(paths, methods) if (match := {**a, **b, **by_header})]


def _each(cursor: Cursor | None) -> list[Cursor]:
    if cursor is None:
        return []
    return cursor.items() if isinstance(cursor.node, Sequence) else [cursor]


def _text(cursor: Cursor) -> dict[str, str]:
    """`text`, or `text*` for what begins so."""
    text = cursor.text()
    if "*" in text[:-1]:
        cursor.problem(f"{text!r} has a * inside", "write one * only, as the last character")
    return {"prefix": text[:-1]} if text.endswith("*") else {"exact": text}


def _targets(cursor: Cursor, plan: Plan) -> list[dict[str, Any]]:
    if isinstance(cursor.node, Scalar):
        return [{"destination": _destination(cursor, cursor.text(), plan)}]
    found = []
    for name, weight in cursor.pairs():
        target = _destination(weight, name, plan)
        found.append({"destination": target, "weight": weight.integer(0, 1_000_000)})
    if not found:
        cursor.problem("names no service", "write to: SERVICE, or to: {SERVICE: WEIGHT}")
    return found


def _destination(cursor: Cursor, text: str, plan: Plan) -> dict[str, Any]:
    name, colon, port = text.partition(":")
    known = sorted({host for member in plan.members for host in (member.key, *member.hosts)})
    if name not in known and "." not in name:
        cursor.problem(f"{name!r} is no service of the file", suggestion(name, known))
    if not colon:
        return {"host": name}
    if not (port.isascii() and port.isdecimal() and 0 < int(port[:6]) < 65536):
        cursor.problem(f"{text!r}: {port!r} is no port", f"write {name}:8080")
        return {"host": name}
    return {"host": name, "port": {"number": int(port)}}
