"""One rule of VirtualService `http[]`: its matches and what becomes of the requests."""

from __future__ import annotations

from meshpy.model.match import Exact, HeaderMatch, Regex, RequestMatch, StringMatch
from meshpy.model.route import DirectResponse, Redirect
from meshpy.policy.http_actions import direct_response, fault, redirect, rewrite
from meshpy.policy.http_extras import cors, mirrors
from meshpy.policy.kinds import DelegateRef, HttpMatchDoc, HttpRouteDoc
from meshpy.policy.reader import Cursor, Fields
from meshpy.policy.retries import retry_policy
from meshpy.policy.route_targets import destinations, gateway_refs
from meshpy.policy.strings import header_name, header_ops, string_match

__all__ = ["http_route"]

_ROUTE = (
    "name",
    "match",
    "route",
    "redirect",
    "directResponse",
    "delegate",
    "rewrite",
    "timeout",
    "retries",
    "fault",
    "mirror",
    "mirrorPercentage",
    "mirrors",
    "corsPolicy",
    "headers",
)
_ACTIONS = ("route", "redirect", "directResponse", "delegate")
_ROUTE_REFUSED = dict.fromkeys(
    ("mirror_percent", "mirrorPercent"), ("is Istio's old form", "write mirrorPercentage: {value: 5}")
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
_STAT_PREFIX = ("names statistics, and meshpy names them by the rule", "write `name:` beside `match:`")
_FOR_FORWARDING = ("rewrite", "fault", "timeout", "retries", "mirror", "mirrorPercentage", "mirrors")


def http_route(cursor: Cursor, namespace: str) -> HttpRouteDoc:
    """Read one rule: exactly one of `route`, `redirect`, `directResponse` and `delegate`."""
    fields = cursor.fields(_ROUTE, _ROUTE_REFUSED)
    action = fields.only_one(*_ACTIONS)
    if not action:
        example = "route: [{destination: {host: my-service}}]"
        what = "has none of `route`, `redirect`, `directResponse` and `delegate`"
        cursor.problem(what, f"write {example}")
    elif action in ("redirect", "directResponse"):
        for name in _FOR_FORWARDING:
            if (extra := fields.get(name)) is not None:
                extra.problem(f"`{name}` cannot stand next to `{action}`", "keep one of them")
    route, delegate, policy = fields.get("route"), fields.get("delegate"), fields.get("corsPolicy")
    request_and_response = header_ops(fields.get("headers"))
    retries, injected, rewritten = fields.get("retries"), fields.get("fault"), fields.get("rewrite")
    return HttpRouteDoc(
        place=cursor.place,
        name=fields.text("name"),
        matches=tuple(_match(item, namespace) for item in fields.items("match")),
        destinations=destinations(route) if route is not None and action == "route" else (),
        answer=_answer(fields),
        rewrite=rewrite(rewritten) if rewritten is not None else None,
        timeout_s=fields.duration("timeout"),
        retry=retry_policy(retries) if retries is not None else None,
        fault=fault(injected) if injected is not None else None,
        request_headers=request_and_response[0],
        response_headers=request_and_response[1],
        mirrors=mirrors(fields),
        cors=cors(policy) if policy is not None else None,
        delegate=_delegate(delegate, namespace) if delegate is not None else None,
    )


def _answer(fields: Fields) -> Redirect | DirectResponse | None:
    redirected, direct = fields.get("redirect"), fields.get("directResponse")
    if redirected is not None:
        return redirect(redirected)
    return direct_response(direct) if direct is not None else None


def _delegate(cursor: Cursor, namespace: str) -> DelegateRef:
    fields = cursor.fields(("name", "namespace"))
    fields.required("name", "name: my-delegate")
    return DelegateRef(fields.text("name"), fields.text("namespace", namespace), cursor.place)


def _match(cursor: Cursor, namespace: str) -> HttpMatchDoc:
    fields = cursor.fields(_MATCH, {"statPrefix": _STAT_PREFIX})
    ignore_case = fields.boolean("ignoreUriCase")
    path = _optional_match(fields, "uri")
    if ignore_case and isinstance(path, Regex):
        cursor.problem("`ignoreUriCase` has no effect on a regex", "begin the regex with (?i)")
    at_path, at_method = fields.get("uri"), fields.get("method")
    if (
        at_path is not None
        and at_method is not None
        and _optional_match(fields, "method") == Exact("CONNECT")
    ):
        at_path.problem("CONNECT has no path, the match would never hold", "remove `uri`")
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
    return HttpMatchDoc(
        request,
        fields.labels("sourceLabels"),
        fields.text("sourceNamespace"),
        gateway_refs(fields, namespace) or (),
    )


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
