"""`GET /v1/tap`: requests of the mesh as they end, one JSON object a line, while the client listens."""

from __future__ import annotations

from aiohttp import web

from control_plane.api.lines import stream_lines
from control_plane.api.operators import Role, require
from control_plane.api.routes import Route
from control_plane.errors import BadRequest
from control_plane.parts import Parts
from meshpy.model.tap import TapFilter

__all__ = ["TapRoutes", "number_of", "whole_of"]

MAX_FOR_S = 3600.0
MAX_PER_S = 1000
DEFAULT_PER_S = 100


class TapRoutes:
    """Handler of the tap."""

    def __init__(self, parts: Parts) -> None:
        self._taps = parts.reports.taps

    def routes(self) -> list[Route]:
        text = {"type": "string"}
        names = ("source", "destination", "direction", "method", "path", "status", "verdict", "min_ms")
        query = dict.fromkeys(names, (text, "only such requests"))
        query["max_rps"] = ({"type": "integer"}, "the most that one sidecar tells in a second")
        query["for_s"] = ({"type": "number"}, "how long")
        answer = (200, "application/x-ndjson, until the client leaves", None)
        return [Route("GET", "/v1/tap", self.tap, Role.VIEWER, "Requests as they end", answer, query)]

    async def tap(self, request: web.Request) -> web.StreamResponse:
        require(request, Role.VIEWER)
        query = dict(request.query)
        per_s = whole_of(query.pop("max_rps", DEFAULT_PER_S), "max_rps", 1, MAX_PER_S)
        for_s = number_of(query.pop("for_s", MAX_FOR_S), "for_s", 0, MAX_FOR_S)
        try:
            wanted = TapFilter.read(query)
        except ValueError as error:
            raise BadRequest(str(error)) from error
        tap = self._taps.open(wanted, int(per_s))
        try:
            return await stream_lines(request, tap.waiting, for_s)
        finally:
            self._taps.close(tap)


def whole_of(text: object, name: str, low: int, high: int) -> int:
    """A whole number of a query.

    Raises:
        BadRequest: it is none, or out of its range.
    """
    value = number_of(text, name, low, high)
    number = int(str(text)) if str(text).isdecimal() else int(value)  # large ones are no floats
    if number != value or number > high:
        raise BadRequest(f"`{name}` is a whole number from {low} to {high}")
    return number


def number_of(text: object, name: str, low: float, high: float) -> float:
    """A number of a query.

    Raises:
        BadRequest: it is none, or out of its range.
    """
    try:
        value = float(str(text)) if str(text).isascii() else low - 1
    except ValueError:
        value = low - 1
    if not low <= value <= high:
        raise BadRequest(f"`{name}` is a number from {low:.15g} to {high:.15g}")
    return value
