"""Matches of HTTPRoute and GRPCRoute, and how specific each is.

HTTPRoute: exact path, then expression, then the longest prefix, then a method, then the number of headers,
then of query parameters. Where Gateway API leaves expressions to the implementation, they stand between the
two: behind prefixes the default prefix `/` would hide them all. GRPCRoute: the longest service, the longest
method, the number of headers.
"""

from __future__ import annotations

import re

from meshpy.model.match import Exact, HeaderMatch, Prefix, Regex, RequestMatch, SegmentPrefix, StringMatch
from meshpy.policy.reader import Cursor, Fields
from meshpy.policy.route_docs import GatewayMatchDoc
from meshpy.policy.strings import header_name, regex

__all__ = ["grpc_matches", "http_matches"]

_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH")
_NEVER_IN_A_PATH = ("//", "/./", "/../", "%2f", "%2F", "#")
_GRPC_SERVICE = re.compile(r"[A-Za-z_][A-Za-z_0-9]*(?:\.[A-Za-z_][A-Za-z_0-9]*)*")
_GRPC_METHOD = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")


def http_matches(rule: Fields) -> tuple[GatewayMatchDoc, ...]:
    """`matches` of an HTTPRoute rule; without any, every path."""
    items = rule.items("matches")
    return tuple(_http_match(item) for item in items) or (_ranked(RequestMatch(path=SegmentPrefix("/"))),)


def _http_match(cursor: Cursor) -> GatewayMatchDoc:
    fields = cursor.fields(("path", "headers", "queryParams", "method"))
    path, method, query = fields.get("path"), fields.get("method"), fields.items("queryParams")
    named: dict[str, StringMatch] = {}
    for item in query:
        name, match = _named(item, "query parameter")
        if name in named:
            item.problem(f"{name!r} is listed twice, only the first would count", "remove one of them")
        named.setdefault(name, match)
    verb = method.choice(_METHODS) if method is not None else ""
    if verb == "CONNECT" and path is not None:
        path.problem("CONNECT has no path, the match would never hold", "remove `path`")
    default = SegmentPrefix("/") if verb != "CONNECT" else None
    request = RequestMatch(
        path=_path(path) if path is not None else default,
        method=Exact(verb) if verb else None,
        headers=_headers(fields),
        query=named,
    )
    return _ranked(request)


def _ranked(request: RequestMatch) -> GatewayMatchDoc:
    path = request.path
    sort = 0 if isinstance(path, Exact) else 1 if isinstance(path, Regex) else 2
    length = len(getattr(path, "value", ""))
    rank = (sort, -length, request.method is None, -len(request.headers), -len(request.query))
    return GatewayMatchDoc(request, tuple(int(part) for part in rank))


def _path(cursor: Cursor) -> StringMatch:
    fields = cursor.fields(("type", "value"))
    kind, value = fields.get("type"), fields.get("value")
    word = kind.choice(("Exact", "PathPrefix", "RegularExpression")) if kind is not None else "PathPrefix"
    if value is None:
        return Exact("/") if word == "Exact" else SegmentPrefix("/")
    if word == "RegularExpression":
        return Regex(regex(value))
    text = value.text()
    if not text.startswith("/"):
        value.problem(f"{text!r} matches no path", f"begin with a slash: /{text}")
    bad = next((part for part in _NEVER_IN_A_PATH if part in text), None)
    if bad is None and text.endswith(("/.", "/..")):
        bad = text[text.rindex("/") :]
    if bad is not None:
        value.problem(f"{text!r} can match no path: {bad!r} is in it", "write the path as it is after that")
    return Exact(text) if word == "Exact" else SegmentPrefix(text)


def _headers(fields: Fields) -> tuple[HeaderMatch, ...]:
    found: dict[str, HeaderMatch] = {}
    for item in fields.items("headers"):
        name, match = _named(item, "header")
        name = header_name(item, name).lower()
        if name in found:
            item.problem(f"{name!r} is listed twice, only the first would count", "remove one of them")
        found.setdefault(name, HeaderMatch(name, match))
    return tuple(found.values())


def _named(cursor: Cursor, what: str) -> tuple[str, StringMatch]:
    fields = cursor.fields(("type", "name", "value"))
    kind = fields.get("type")
    word = kind.choice(("Exact", "RegularExpression")) if kind is not None else "Exact"
    name, value = fields.required("name", f"name: of the {what}"), fields.required("value", "value: text")
    match: StringMatch = Exact("")
    if value is not None:
        match = Regex(regex(value)) if word == "RegularExpression" else Exact(value.text())
    return name.text() if name is not None else "", match


def grpc_matches(rule: Fields) -> tuple[GatewayMatchDoc, ...]:
    """`matches` of a GRPCRoute rule; without any, every call."""
    items = rule.items("matches")
    return tuple(_grpc_match(item) for item in items) or (GatewayMatchDoc(RequestMatch(), (0, 0, 0)),)


def _grpc_match(cursor: Cursor) -> GatewayMatchDoc:
    fields = cursor.fields(("method", "headers"))
    if not fields:
        cursor.problem("matches every call without saying so", "write method: or headers:, or remove it")
    method, headers = fields.get("method"), _headers(fields)
    path, service, name = _grpc_path(method) if method is not None else (None, "", "")
    rank = (-len(service), -len(name), -len(headers))
    return GatewayMatchDoc(RequestMatch(path=path, headers=headers), rank)


def _grpc_path(cursor: Cursor) -> tuple[StringMatch | None, str, str]:
    """`/package.Service/Method`, by its two parts."""
    fields = cursor.fields(("type", "service", "method"))
    kind = fields.get("type")
    word = kind.choice(("Exact", "RegularExpression")) if kind is not None else "Exact"
    service, method = fields.get("service"), fields.get("method")
    if service is None and method is None:
        cursor.problem("names neither a service nor a method", "write service: or method:")
        return None, "", ""
    if word == "RegularExpression":
        first = regex(service) if service is not None else ""
        second = regex(method) if method is not None else ""
        path: StringMatch = Regex(f"/(?:{first or '[^/]+'})/(?:{second or '[^/]+'})")
        return path, first, second
    first = _word(service, _GRPC_SERVICE, "package.Service")
    second = _word(method, _GRPC_METHOD, "Method")
    if not second:
        return Prefix(f"/{first}/"), first, second
    path = Exact(f"/{first}/{second}") if first else Regex(f"/[^/]+/{re.escape(second)}")
    return path, first, second


def _word(cursor: Cursor | None, form: re.Pattern[str], example: str) -> str:
    if cursor is None:
        return ""
    text = cursor.text()
    if not form.fullmatch(text):
        cursor.problem(f"{text!r} is no name of gRPC", f"write {example}, or type: RegularExpression")
    return text
