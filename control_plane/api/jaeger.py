"""Jaeger's query API over the embedded store, as Jaeger UI and Grafana's Jaeger data source ask it.

Source: the JSON of jaeger-query (`/api/…`), internal but stable; errors are `{"errors": [{"code", "msg"}]}`.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from aiohttp import web

from control_plane.api.operators import Role, require
from control_plane.api.routes import Route
from control_plane.api.schemas import JAEGER
from control_plane.api.texts import WHOLE
from control_plane.errors import BadRequest
from control_plane.parts import Parts
from control_plane.traces.store import Query, Trace
from meshpy.model.span import Span

__all__ = ["JaegerRoutes"]

MAX_LIMIT = 1_500
DEFAULT_LIMIT = 20
DEFAULT_LOOKBACK_MS = 3_600_000
_DURATION = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)(ns|us|µs|ms|s|m|h)")
_UNITS_US = {"ns": 0.001, "us": 1, "µs": 1, "ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000}
LASTING: dict[str, Any] = {
    "type": "string",
    "pattern": "^([0-9]{1,15}(\\.[0-9]{1,15})?(ns|us|µs|ms|s|m|h)){0,7}$",
}
_TRACE_ID = re.compile(r"[0-9a-fA-F]{1,32}")


class JaegerRoutes:
    """Handlers of `/api`."""

    def __init__(self, parts: Parts) -> None:
        self._store = parts.reports.traces

    def routes(self) -> list[Route]:
        answer = (200, "Jaeger's envelope", JAEGER)
        view = Role.VIEWER
        text = {"type": "string"}
        query: dict[str, tuple[dict[str, Any], str]] = {
            "service": ({"type": "string", "minLength": 1}, "its name; left out with `traceID` alone"),
            "operation": (text, "as Jaeger has it"),
            "tag": ({"type": "string", "pattern": ":"}, "`key:value`"),
            "tags": ({"type": "string", "enum": ["", "{}"]}, "a JSON object of texts"),
            "lookback": (text, "as Jaeger has it"),
        }
        query |= dict.fromkeys(("limit", "start", "end"), (WHOLE, "as Jaeger has it"))
        query |= dict.fromkeys(("minDuration", "maxDuration"), (LASTING, "`1.5ms`, `2s`"))
        of = {"service": (text, "its name"), "spanKind": (text, "client or server")}
        when = dict.fromkeys(("endTs", "lookback"), (WHOLE, "milliseconds"))
        one, needed = "/api/services/{service}/operations", frozenset({"service"})
        routes = [
            Route("GET", "/api/services", self.services, view, "Services with spans", answer),
            Route("GET", one, self.operation_names, view, "Names of a service's spans", answer),
            Route("GET", "/api/operations", self.operations, view, "Names and kinds", answer, of),
            Route("GET", "/api/traces", self.find, view, "Search traces", answer, query, needs=needed),
            Route("GET", "/api/traces/{trace}", self.trace, view, "One trace", answer),
            Route("GET", "/api/dependencies", self.dependencies, view, "Who called whom", answer, when),
        ]
        return [replace(route, refusal=JAEGER) for route in routes]

    async def services(self, request: web.Request) -> web.Response:
        require(request, Role.VIEWER)
        return _answer(self._store.services)

    async def operation_names(self, request: web.Request) -> web.Response:
        require(request, Role.VIEWER)
        found = self._store.operations(request.match_info["service"])
        return _answer(sorted({name for name, _ in found}))

    async def operations(self, request: web.Request) -> web.Response:
        require(request, Role.VIEWER)
        kind = request.query.get("spanKind", "")
        found = self._store.operations(request.query.get("service", ""))
        listed = [{"name": name, "spanKind": each.value.lower()} for name, each in found]
        return _answer([each for each in listed if kind in ("", each["spanKind"])])

    async def find(self, request: web.Request) -> web.Response:
        require(request, Role.VIEWER)
        wanted = request.query.getall("traceID", [])
        try:
            if wanted:
                ids = [_trace_id(each) for each in wanted[:MAX_LIMIT]]
                found = [trace for trace in map(self._store.get, ids) if trace is not None]
            else:
                found = self._store.find(_query(request))
        except BadRequest as error:
            return _refusal(400, str(error))
        return _answer([_trace(trace) for trace in found])

    async def trace(self, request: web.Request) -> web.Response:
        require(request, Role.VIEWER)
        try:
            found = self._store.get(_trace_id(request.match_info["trace"]))
        except BadRequest as error:
            return _refusal(400, str(error))
        return _answer([_trace(found)]) if found is not None else _refusal(404, "trace not found")

    async def dependencies(self, request: web.Request) -> web.Response:
        require(request, Role.VIEWER)
        try:
            until_ms = _whole(request, "endTs", int(time.time() * 1000))
            lookback_ms = _whole(request, "lookback", DEFAULT_LOOKBACK_MS)
        except BadRequest as error:
            return _refusal(400, str(error))
        calls = self._store.dependencies((until_ms - lookback_ms) * 1000, until_ms * 1000)
        return _answer(
            [
                {"parent": parent, "child": child, "callCount": count}
                for (parent, child), count in sorted(calls.items())
            ]
        )


def _answer(data: Any) -> web.Response:
    total = len(data) if isinstance(data, list) else 0
    return web.json_response({"data": data, "total": total, "limit": 0, "offset": 0, "errors": None})


def _refusal(status: int, text: str) -> web.Response:
    errors = [{"code": status, "msg": text}]
    body = {"data": None, "total": 0, "limit": 0, "offset": 0, "errors": errors}
    return web.json_response(body, status=status)


def _query(request: web.Request) -> Query:
    asked = request.query
    if not asked.get("service"):
        raise BadRequest("parameter 'service' is required")
    maximum = asked.get("maxDuration")
    limit = _whole(request, "limit", DEFAULT_LIMIT)
    return Query(
        service=asked["service"],
        operation=asked.get("operation", ""),
        tags=_tags(request),
        min_us=_duration_us(asked.get("minDuration") or "0s"),
        max_us=_duration_us(maximum) if maximum else None,
        since_us=_whole(request, "start", 0),
        until_us=_whole(request, "end", 0) or None,
        limit=max(1, min(limit, MAX_LIMIT)),
    )


def _tags(request: web.Request) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for pair in request.query.getall("tag", []):
        name, colon, value = pair.partition(":")
        if not colon:
            raise BadRequest(f"malformed 'tag' parameter, expecting key:value, received: {pair[:100]}")
        found[name] = value
    text = request.query.get("tags")
    if text:
        try:
            tags = json.loads(text)
        except (ValueError, RecursionError):
            tags = None
        if not isinstance(tags, dict) or not all(isinstance(value, str) for value in tags.values()):
            raise BadRequest("malformed 'tags' parameter, expecting a JSON object of texts")
        found |= tags
    return found


def _duration_us(text: str) -> int:
    """As Go writes them: `1.5ms`, `1m30s`."""
    found = _DURATION.findall(text[:200])
    if not found or "".join(number + unit for number, unit in found) != text:
        raise BadRequest(f"{text[:50]!r} is no duration; write 1.5ms, 2s or 1m30s")
    return int(sum(float(number) * _UNITS_US[unit] for number, unit in found))


def _whole(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name) or str(default)
    if not text.isascii() or not text.isdecimal() or len(text) > 18:
        raise BadRequest(f"unable to parse param '{name}': a whole number is needed")
    return int(text)


def _trace_id(text: str) -> str:
    if not _TRACE_ID.fullmatch(text):
        raise BadRequest(f"{text[:50]!r} is no trace id")
    return text.lower().rjust(32, "0")


def _trace(trace: Trace) -> dict[str, Any]:
    services = sorted({span.service for span in trace.spans.values()})
    processes = {service: f"p{number}" for number, service in enumerate(services, start=1)}
    spans = sorted(trace.spans.values(), key=lambda span: (span.start_us, span.span_id))
    return {
        "traceID": trace.trace_id,
        "spans": [_span(span, processes[span.service]) for span in spans],
        "processes": {key: _process(service) for service, key in processes.items()},
        "warnings": None,
    }


def _process(service: str) -> dict[str, Any]:
    namespace = service.rpartition(".")[2]
    return {"serviceName": service, "tags": _pairs({"service.namespace": namespace}.items())}


def _span(span: Span, process: str) -> dict[str, Any]:
    parent = {"refType": "CHILD_OF", "traceID": span.trace_id, "spanID": span.parent_id}
    tags = [*_pairs(span.attributes.items()), *_pairs([("span.kind", span.kind.value.lower())])]
    if span.is_error:
        tags += _pairs([("error", True)])
    return {
        "traceID": span.trace_id,
        "spanID": span.span_id,
        "flags": 1,
        "operationName": span.name,
        "references": [parent] if span.parent_id else [],
        "startTime": span.start_us,
        "duration": span.duration_us,
        "tags": tags,
        "logs": [],
        "processID": process,
        "warnings": None,
    }


def _pairs(items: Iterable[tuple[str, Any]]) -> list[dict[str, Any]]:
    return [{"key": key, "type": _type(value), "value": value} for key, value in items]


def _type(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    return "int64" if isinstance(value, int) else "float64" if isinstance(value, float) else "string"
