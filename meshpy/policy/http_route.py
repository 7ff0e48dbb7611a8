"""One rule of VirtualService `http[]`."""

from __future__ import annotations

from meshpy.model.match import HeaderMatch, Regex, RequestMatch, StringMatch
from meshpy.model.route import DirectResponse, Fault, Redirect, Rewrite
from meshpy.policy.kinds import HttpMatchDoc, HttpRouteDoc
from meshpy.policy.reader import NOT_YET, Cursor, Fields
from meshpy.policy.retries import retry_policy
from meshpy.policy.route_targets import destinations, mesh_gateways
from meshpy.policy.strings import header_name, header_ops, regex, string_match

__all__ = ["http_route"]

_ROUTE = (
    "name",
    "match",
    "route",
    "redirect",
    "directResponse",
    "rewrite",
    "timeout",
    "retries",
    "fault",
    "headers",
)
_ROUTE_REFUSED = dict.fromkeys(
    ("mirror", "mirrorPercentage", "mirror_percent", "mirrorPercent", "mirrors", "corsPolicy", "delegate"),
    NOT_YET,
)
_MATCH = (
    "name",
    "uri",
    "scheme",
    "method",
    "authority",
    "headers",
    "withoutHeaders",
    "queryParams",
    "port",
    "sourceLabels",
    "sourceNamespace",
    "gateways",
    "ignoreUriCase",
)
_PSEUDO = ("uri", "scheme", "method", "authority")


def http_route(cursor: Cursor) -> HttpRouteDoc:
    """Read one rule: exactly one of `route`, `redirect` and `directResponse`."""
    fields = cursor.fields(_ROUTE, _ROUTE_REFUSED)
    action = fields.only_one("route", "redirect", "directResponse")
    if not action:
        example = "route: [{destination: {host: my-service}}]"
        cursor.problem("has none of `route`, `redirect` and `directResponse`", f"write {example}")
    elif action != "route":
        for name in ("rewrite", "fault"):
            if (extra := fields.get(name)) is not None:
                extra.problem(f"`{name}` cannot stand next to `{action}`", "keep one of them")
    route, request_and_response = fields.get("route"), header_ops(fields.get("headers"))
    timeout_s = fields.duration("timeout")
    retries, fault, rewrite = fields.get("retries"), fields.get("fault"), fields.get("rewrite")
    return HttpRouteDoc(
        place=cursor.place,
        name=fields.text("name"),
        matches=tuple(_match(item) for item in fields.items("match")),
        destinations=destinations(route) if route is not None and action == "route" else (),
        answer=_answer(fields),
        rewrite=_rewrite(rewrite) if rewrite is not None else None,
        timeout_s=timeout_s or None,
        retry=retry_policy(retries) if retries is not None else None,
        fault=_fault(fault) if fault is not None else None,
        request_headers=request_and_response[0],
        response_headers=request_and_response[1],
    )


def _match(cursor: Cursor) -> HttpMatchDoc:
    fields = cursor.fields(_MATCH, {"statPrefix": NOT_YET})
    mesh_gateways(fields)
    ignore_case = fields.boolean("ignoreUriCase")
    path = _optional_match(fields, "uri")
    if ignore_case and isinstance(path, Regex):
        cursor.problem("`ignoreUriCase` has no effect on a regex", "begin the regex with (?i)")
    query = fields.get("queryParams")
    request = RequestMatch(
        name=fields.text("name"),
        path=path,
        ignore_path_case=ignore_case,
        method=_optional_match(fields, "method"),
        scheme=_optional_match(fields, "scheme"),
        authority=_optional_match(fields, "authority"),
        port=fields.integer("port", 1, 65535),
        headers=_header_matches(fields, "headers") + _header_matches(fields, "withoutHeaders", invert=True),
        query=dict(_query(query)) if query is not None else {},
    )
    return HttpMatchDoc(request, fields.labels("sourceLabels"), fields.text("sourceNamespace"))


def _optional_match(fields: Fields, name: str) -> StringMatch | None:
    cursor = fields.get(name)
    if cursor is None:
        return None
    found = string_match(cursor)
    if found is None:
        cursor.problem(f"`{name}` says nothing", "write exact:, prefix: or regex:")
    return found


def _header_matches(fields: Fields, name: str, *, invert: bool = False) -> tuple[HeaderMatch, ...]:
    cursor = fields.get(name)
    if cursor is None:
        return ()
    found = []
    for header, value in cursor.pairs():
        if header in _PSEUDO:
            value.problem(f"{header!r} is no header here", f"write `{header}:` beside `{name}:`")
        found.append(HeaderMatch(header_name(value, header).lower(), string_match(value), invert))
    return tuple(found)


def _query(cursor: Cursor) -> list[tuple[str, StringMatch]]:
    found = []
    for name, value in cursor.pairs():
        match = string_match(value)
        # an empty match is presence (Istio: `queryParams: {debug: {}}`)
        found.append((name, match if match is not None else Regex("(?s).*")))
    return found


def _answer(fields: Fields) -> Redirect | DirectResponse | None:
    redirect, direct = fields.get("redirect"), fields.get("directResponse")
    if redirect is not None:
        return _redirect(redirect)
    return _direct_response(direct) if direct is not None else None


def _redirect(cursor: Cursor) -> Redirect:
    fields = cursor.fields(
        ("uri", "prefixRewrite", "authority", "port", "scheme", "redirectCode"),
        {"derivePort": ("is not supported yet by meshpy", "write port: N")},
    )
    fields.only_one("uri", "prefixRewrite")
    code = fields.integer("redirectCode", 300, 399)
    at_code, at_scheme = fields.get("redirectCode"), fields.get("scheme")
    if at_code is not None and code not in (301, 302, 303, 307, 308):
        at_code.problem(f"{code} is no redirect with a location", "write 301, 302, 303, 307 or 308")
    if not fields:
        cursor.problem("changes nothing, the client would loop", "write uri:, authority:, port: or scheme:")
    return Redirect(
        uri=fields.text("uri") if "uri" in fields else None,
        prefix_rewrite=fields.text("prefixRewrite") if "prefixRewrite" in fields else None,
        authority=fields.text("authority") if "authority" in fields else None,
        port=fields.integer("port", 1, 65535),
        scheme=at_scheme.choice(("http", "https")) if at_scheme is not None else None,
        code=code or 301,
    )


def _direct_response(cursor: Cursor) -> DirectResponse:
    fields = cursor.fields(("status", "body"))
    status = fields.required("status", "status: 503")
    body, text = fields.get("body"), ""
    if body is not None:
        inner = body.fields(("string",), {"bytes": ("is not supported yet by meshpy", "write string:")})
        text = inner.text("string")
    return DirectResponse(status.integer(200, 599) if status is not None else 200, text)


def _rewrite(cursor: Cursor) -> Rewrite:
    fields = cursor.fields(("uri", "uriRegexRewrite", "authority"))
    fields.only_one("uri", "uriRegexRewrite")
    if not fields:
        cursor.problem("rewrites nothing", "write uri:, uriRegexRewrite: or authority:")
    pattern, replacement = None, ""
    expression = fields.get("uriRegexRewrite")
    if expression is not None:
        inner = expression.fields(("match", "rewrite"))
        at_match = inner.required("match", "match: ^/v1/(.*)$")
        pattern = regex(at_match) if at_match is not None else None
        inner.required("rewrite", r"rewrite: /\1")
        replacement = inner.text("rewrite")
    uri, authority = fields.get("uri"), fields.get("authority")
    return Rewrite(
        uri.text() if uri is not None else None,
        pattern,
        replacement,
        authority.text() if authority is not None else None,
    )


def _fault(cursor: Cursor) -> Fault:
    fields = cursor.fields(("delay", "abort"))
    if not fields:
        cursor.problem("injects nothing", "write delay: or abort:")
    delay_s, delay_pct, status, abort_pct = 0.0, 0.0, 0, 0.0
    delay, abort = fields.get("delay"), fields.get("abort")
    if delay is not None:
        inner = delay.fields(
            ("fixedDelay", "percentage"),
            {"percent": ("is Istio's old form", "write percentage: {value: 5}"), "exponentialDelay": NOT_YET},
        )
        fixed = inner.required("fixedDelay", "fixedDelay: 2s")
        delay_s = fixed.duration(0.001) if fixed is not None else 0.0
        delay_pct = _percentage(inner)
    if abort is not None:
        inner = abort.fields(
            ("httpStatus", "percentage"),
            {
                "grpcStatus": NOT_YET,
                "http2Error": NOT_YET,
                "percent": ("is Istio's old form", "write percentage: {value: 5}"),
            },
        )
        code = inner.required("httpStatus", "httpStatus: 503")
        status = code.integer(200, 599) if code is not None else 0
        abort_pct = _percentage(inner)
    return Fault(delay_s, delay_pct, status, abort_pct)


def _percentage(fields: Fields) -> float:
    """Istio injects into no request when it is absent; that silence is refused here."""
    cursor = fields.required("percentage", "percentage: {value: 100}")
    if cursor is None:
        return 0.0
    value = cursor.fields(("value",)).required("value", "value: 5")
    return value.number(0, 100) if value is not None else 0.0
