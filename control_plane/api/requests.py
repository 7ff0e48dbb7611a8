"""`GET /v1/requests`: the last requests of the mesh, as lines or as figures by route or path; `/v1/stat`."""

from __future__ import annotations

import time
from typing import Any

from aiohttp import web

from control_plane.api.operators import Role, require
from control_plane.api.routes import Route
from control_plane.api.tap import number_of, whole_of
from control_plane.errors import BadRequest
from control_plane.parts import Parts
from control_plane.traffic import added, stat, traffic_from
from meshpy.model.tap import VERDICTS, TapFilter

__all__ = ["RequestRoutes"]

MAX_LINES = 5_000
MAX_SINCE_S = 30.0
NARROW: dict[str, dict[str, Any]] = {
    "direction": {"enum": ["", "in", "out"]},
    "verdict": {"enum": ["", *VERDICTS]},
    "status": {"type": "string", "pattern": "^[0-9]{0,3}$"},
    "min_ms": {"type": "number"},
}
"""Filters that are not any text."""
FILTERS = ("source", "destination", "direction", "method", "path", "status", "verdict", "min_ms")


class RequestRoutes:
    """Handlers that ask the sidecars, and the one that sums up what they tell anyway."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def routes(self) -> list[Route]:
        text: dict[str, Any] = {"type": "string"}
        query = dict.fromkeys(FILTERS, (text, "only such requests"))
        query |= {name: (schema, "only such requests") for name, schema in NARROW.items()}
        back = {"type": "number", "minimum": 0, "maximum": MAX_SINCE_S}
        query["since_s"] = (back, f"how far back, at most {MAX_SINCE_S:g} s")
        lines = {
            **query,
            "limit": ({"type": "integer", "minimum": 1, "maximum": MAX_LINES}, "the newest so many"),
        }
        groups = {**query, "by": ({"enum": ["route", "path"]}, "what requests are put together by")}
        stat = {"by": ({"enum": ["", "service", "namespace", "edge"]}, "what is one row; empty: a service")}
        stat |= dict.fromkeys(("source", "destination"), (text, "only edges of it"))
        view, answer = Role.VIEWER, {"type": "object"}
        return [
            Route("GET", "/v1/requests", self.lines, view, "The last requests", (200, "they", answer), lines),
            Route("GET", "/v1/requests/groups", self.groups, view, "The last requests by route or path",
                  (200, "figures", answer), groups),
            Route("GET", "/v1/stat", self.stat, view, "Traffic of the last ten seconds",
                  (200, "figures", answer), stat),
        ]  # fmt: skip

    async def lines(self, request: web.Request) -> web.Response:
        require(request, Role.VIEWER)
        query = dict(request.query)
        limit = whole_of(query.pop("limit", 100), "limit", 1, MAX_LINES)
        since_s = number_of(query.pop("since_s", MAX_SINCE_S), "since_s", 0, MAX_SINCE_S)
        records, missing = await self._parts.looks.lines(_filter(query), limit, since_s)
        return web.json_response({"requests": records, "sidecars_without_answer": missing})

    async def groups(self, request: web.Request) -> web.Response:
        require(request, Role.VIEWER)
        query = dict(request.query)
        by = query.pop("by", "route")
        if by not in ("route", "path"):
            raise BadRequest("`by` is route or path")
        since_s = number_of(query.pop("since_s", 10), "since_s", 0, MAX_SINCE_S)
        groups, missing = await self._parts.looks.groups(_filter(query), by, since_s)
        return web.json_response({"groups": groups, "since_s": since_s, "sidecars_without_answer": missing})

    async def stat(self, request: web.Request) -> web.Response:
        require(request, Role.VIEWER)
        query = dict(request.query)
        by, source, destination = (query.pop(name, "") for name in ("by", "source", "destination"))
        if query or by not in ("", "service", "namespace", "edge"):
            raise BadRequest(
                "`by` is service, namespace or edge; source and destination are names of services"
            )
        wanted = TapFilter(source=source, destination=destination)
        told = await self._parts.siblings.ask(request, "/v1/replica")
        own = self._parts.reports.telemetry.traffic(time.monotonic())
        traffic = added([own, *(traffic_from(answer["traffic"]) for answer in told.answers)])
        rows = stat(traffic, by or "service", wanted)
        meshed = {str(stream.service) for stream in self._parts.distribution.connected()}
        meshed |= {row["service"] for answer in told.answers for row in answer["sidecars"]}
        for row in rows:
            row["meshed"] = row["name"] in meshed
        return web.json_response({"rows": rows})


def _filter(query: dict[str, str]) -> TapFilter:
    try:
        return TapFilter.read(query)
    except ValueError as error:
        raise BadRequest(str(error)) from error
