"""`/v1/services/{namespace}/{name}`: one service as the mesh knows it, and the snapshot its sidecars get."""

from __future__ import annotations

from dataclasses import asdict

from aiohttp import web

from control_plane.api.operators import Role, require
from control_plane.api.routes import Route
from control_plane.api.schemas import SERVICE_DETAIL
from control_plane.errors import NotFound
from control_plane.parts import Parts
from control_plane.tokens import checked_service

__all__ = ["ServiceRoutes"]


class ServiceRoutes:
    """Handlers of one service."""

    def __init__(self, parts: Parts) -> None:
        self._registry = parts.registry

    def routes(self) -> list[Route]:
        answer = (200, "the service", SERVICE_DETAIL)
        path = "/v1/services/{namespace}/{name}"
        return [Route("GET", path, self.show_service, Role.VIEWER, "One service and its snapshot", answer)]

    async def show_service(self, request: web.Request) -> web.Response:
        require(request, Role.VIEWER)
        named = request.match_info
        name = checked_service(f"{named['namespace']}/{named['name']}")
        service = self._registry.view.inventory.services.get(name)
        if service is None:
            raise NotFound(f"there is no service {name}")
        printed = self._registry.shelf.newest(name)
        return web.json_response(
            {
                "service": str(name),
                "exempt": service.exempt,
                "labels": dict(service.labels),
                "ports": [asdict(port) for port in service.ports],
                "hosts": list(service.hosts),
                "networks": sorted(service.networks),
                "endpoints": [
                    {"address": each.address, "port": each.port, "node": each.node}
                    for each in service.endpoints
                ],
                "snapshot": printed.data if printed is not None else None,
            }
        )
