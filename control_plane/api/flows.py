"""`GET /v1/flows`: what callees let in, how long they are watched, and which rules decided."""

from __future__ import annotations

from aiohttp import web

from control_plane.api.operators import Role, require
from control_plane.api.routes import Route
from control_plane.api.schemas import FLOWS
from control_plane.gathered import all_flows
from control_plane.parts import Parts

__all__ = ["FlowRoutes"]


class FlowRoutes:
    """Handler of the flows."""

    def __init__(self, parts: Parts) -> None:
        self._flows, self._siblings = parts.reports.flows, parts.siblings

    def routes(self) -> list[Route]:
        answer = (200, "flows by callee, and rules by their last use", FLOWS)
        return [Route("GET", "/v1/flows", self.show, Role.VIEWER, "What callees let in", answer)]

    async def show(self, request: web.Request) -> web.Response:
        require(request, Role.VIEWER)
        flows = self._flows
        told = await self._siblings.ask(request, "/v1/flows")
        found = all_flows([flows.told(), *told.answers])
        return web.json_response({**found, "silent": told.missing})
