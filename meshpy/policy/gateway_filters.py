"""Filters of HTTPRoute and GRPCRoute rules."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from meshpy.model.match import Exact, Regex, StringMatch
from meshpy.model.route import Cors, DerivePort, HeaderOps, Redirect, Rewrite
from meshpy.policy.gateway_headers import header_modifier
from meshpy.policy.gateway_refs import backend
from meshpy.policy.reader import Cursor, Fields, Refusal
from meshpy.policy.route_docs import BackendMirrorDoc
from meshpy.policy.strings import header_name, host_ref

__all__ = ["Filters", "read_filters"]

HTTP_FILTERS = (
    "RequestHeaderModifier",
    "ResponseHeaderModifier",
    "RequestMirror",
    "RequestRedirect",
    "URLRewrite",
    "CORS",
)
GRPC_FILTERS = HTTP_FILTERS[:3]
_FIELD_OF = {
    "RequestHeaderModifier": "requestHeaderModifier",
    "ResponseHeaderModifier": "responseHeaderModifier",
    "RequestMirror": "requestMirror",
    "RequestRedirect": "requestRedirect",
    "URLRewrite": "urlRewrite",
    "CORS": "cors",
}
_REFUSED: dict[str, Refusal] = {
    "ExtensionRef": ("names a filter of some other implementation", "write one of the filters"),
    "ExternalAuth": (
        "is not read in a route: it would guard one caller's way and not the service",
        "write an AuthorizationPolicy with action: CUSTOM for the service",
    ),
}
_ORIGIN = re.compile(r"(\*|https?)://(\*\.)?([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\]|\*)(:[0-9]{1,5})?")
_CORS = ("allowOrigins", "allowCredentials", "allowMethods", "allowHeaders", "exposeHeaders", "maxAge")
_CORS_MAX_AGE_S = 5


@dataclass(slots=True)
class Filters:
    """All filters of a rule."""

    request_headers: HeaderOps = field(default_factory=HeaderOps)
    response_headers: HeaderOps = field(default_factory=HeaderOps)
    mirrors: tuple[BackendMirrorDoc, ...] = ()
    redirect: Redirect | None = None
    rewrite: Rewrite | None = None
    cors: Cors | None = None
    replaces_prefix: Cursor | None = None


def read_filters(rule: Fields, namespace: str, known: tuple[str, ...]) -> Filters:
    """`filters` of a rule, each once but mirrors."""
    found = Filters()
    seen: set[str] = set()
    for item in rule.items("filters"):
        fields = item.fields(("type", *_FIELD_OF.values(), "externalAuth", "extensionRef"))
        at_type = fields.required("type", f"type: {known[0]}")
        if at_type is None:
            continue
        kind = at_type.text()
        if kind in _REFUSED:
            what, instead = _REFUSED[kind]
            at_type.problem(f"{kind} {what}", instead)
            continue
        if at_type.choice(known) not in known:
            continue
        if kind in seen and kind != "RequestMirror":
            at_type.problem(f"{kind} is written twice", "merge them")
        seen.add(kind)
        if (body := fields.required(_FIELD_OF[kind])) is not None:
            _take(found, kind, body, namespace)
        for name in fields:
            if name not in ("type", _FIELD_OF[kind]) and (extra := fields.get(name)) is not None:
                extra.problem(f"`{name}` is not of the type {kind}", "remove it, or change the type")
    if found.redirect is not None and found.rewrite is not None:
        rule.at.problem("RequestRedirect cannot stand next to URLRewrite", "keep one of them")
    return found


def _take(found: Filters, kind: str, body: Cursor, namespace: str) -> None:
    match kind:
        case "RequestHeaderModifier":
            found.request_headers = header_modifier(body)
        case "ResponseHeaderModifier":
            found.response_headers = header_modifier(body)
        case "RequestMirror":
            found.mirrors = (*found.mirrors, _mirror(body, namespace))
        case "RequestRedirect":
            found.redirect = _redirect(body, found)
        case "URLRewrite":
            found.rewrite = _rewrite(body, found)
        case _:
            found.cors = _cors(body)


def _mirror(cursor: Cursor, namespace: str) -> BackendMirrorDoc:
    fields = cursor.fields(("backendRef", "percent", "fraction"))
    fields.only_one("percent", "fraction")
    at_backend = fields.required("backendRef", "backendRef: {name: my-service, port: 8080}")
    target = backend(at_backend if at_backend is not None else cursor, namespace, is_weighted=False)
    percent, fraction = fields.integer("percent", 0, 100), fields.get("fraction")
    pct = 100.0 if percent is None else float(percent)
    if fraction is not None:
        inner = fraction.fields(("numerator", "denominator"))
        at_numerator = inner.required("numerator", "numerator: 1")
        denominator = inner.integer("denominator", 1, 2**31 - 1) or 100
        numerator = at_numerator.integer(0, denominator) if at_numerator is not None else 0
        pct = 100.0 * numerator / denominator
    return BackendMirrorDoc(target, pct)


def _hostname(fields: Fields) -> str | None:
    cursor = fields.get("hostname")
    return host_ref(cursor).host if cursor is not None else None


def _replacement(fields: Fields, found: Filters) -> tuple[str | None, str | None]:
    """`path`: what replaces the whole path, and what replaces the prefix that matched."""
    cursor = fields.get("path")
    if cursor is None:
        return None, None
    inner = cursor.fields(("type", "replaceFullPath", "replacePrefixMatch"))
    at_type = inner.required("type", "type: ReplacePrefixMatch")
    if at_type is None:
        return None, None
    names = {"ReplaceFullPath": "replaceFullPath", "ReplacePrefixMatch": "replacePrefixMatch"}
    word = at_type.choice(tuple(names))
    wanted = names.get(word, "replaceFullPath")
    inner.only_one(wanted, *(name for name in names.values() if name != wanted))
    value = inner.required(wanted, f"{wanted}: /path")
    text = value.text() if value is not None else ""
    if value is not None and text and not text.startswith("/"):
        value.problem(f"{text!r} is no path", f"begin with a slash: /{text}")
    if word == "ReplacePrefixMatch":
        found.replaces_prefix = cursor
        return None, text
    return text or "/", None


def _redirect(cursor: Cursor, found: Filters) -> Redirect:
    fields = cursor.fields(("scheme", "hostname", "path", "port", "statusCode"))
    scheme, code = fields.get("scheme"), fields.get("statusCode")
    number = code.integer(300, 399) if code is not None else 302
    if code is not None and number not in (301, 302, 303, 307, 308):
        code.problem(f"{number} is no redirect with a location", "write 301, 302, 303, 307 or 308")
    if not any(name in fields for name in ("scheme", "hostname", "path", "port")):
        cursor.problem("changes nothing, the client would loop", "write scheme:, hostname:, path: or port:")
    full, prefix = _replacement(fields, found)
    port = fields.integer("port", 1, 65535)
    derived = DerivePort.FROM_PROTOCOL_DEFAULT if scheme is not None else DerivePort.FROM_REQUEST_PORT
    return Redirect(
        uri=full,
        prefix_rewrite=prefix,
        authority=_hostname(fields),
        port=port,
        scheme=scheme.choice(("http", "https")) if scheme is not None else None,
        code=number,
        derive_port=derived if port is None else None,
    )


def _rewrite(cursor: Cursor, found: Filters) -> Rewrite:
    fields = cursor.fields(("hostname", "path"))
    if not fields:
        cursor.problem("rewrites nothing", "write hostname: or path:")
    full, prefix = _replacement(fields, found)
    return Rewrite(uri=prefix, authority=_hostname(fields), full_path=full)


def _cors(cursor: Cursor) -> Cors:
    """GEP-1767: origins with one `*` for subdomains, `*` for any; a preflight is kept 5 s unless said."""
    fields = cursor.fields(_CORS)
    origins = fields.required("allowOrigins", "allowOrigins: ['https://example.com']")
    age_s = fields.integer("maxAge", 1, 2**31 - 1)
    return Cors(
        allow_origins=tuple(_origin(item) for item in origins.items()) if origins is not None else (),
        allow_methods=tuple(header_name(item, item.text()) for item in fields.items("allowMethods")),
        allow_headers=tuple(header_name(item, item.text()) for item in fields.items("allowHeaders")),
        expose_headers=tuple(header_name(item, item.text()) for item in fields.items("exposeHeaders")),
        max_age_s=_CORS_MAX_AGE_S if age_s is None else age_s,
        allow_credentials=fields.boolean("allowCredentials"),
    )


def _origin(cursor: Cursor) -> StringMatch:
    text = cursor.text()
    if text == "*":
        return Exact("*")
    if not _ORIGIN.fullmatch(text):
        cursor.problem(f"{text!r} is no origin", "write https://example.com, https://*.example.com or *")
        return Exact("")
    if "*" not in text:
        return Exact(text)
    return Regex(re.escape(text).replace(r"\*://", "https?://").replace(r"\*", ".+"))
