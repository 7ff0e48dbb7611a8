"""How a handler is declared: its route, the role it needs, and what OpenAPI says of it, in one place."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from control_plane.api.operators import Role, require
from control_plane.errors import BadRequest

__all__ = ["Route", "flag", "resources"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """One operation.

    Args:
        role: who may; None is everybody.
        query: parameters by name: (schema, description).
        needs: the names of those that must be there.
        body: the JSON schema of the request body.
        answer: (status, description, JSON schema or None).
        refusal: the schema of refusals, where another program's form takes the place of problem+json.
    """

    method: str
    path: str
    handler: Handler
    role: Role | None
    summary: str
    answer: tuple[int, str, dict[str, Any] | None]
    query: dict[str, tuple[dict[str, Any], str]] = field(default_factory=dict)
    body: dict[str, Any] | None = None
    needs: frozenset[str] = frozenset()
    refusal: dict[str, Any] | None = None


def resources(routes: list[Route]) -> tuple[web.RouteDef, ...]:
    """As aiohttp's router takes them; the role that a route declares is asked for before its handler runs."""
    return tuple(web.route(route.method, route.path, _guarded(route)) for route in routes)


def _guarded(route: Route) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        if route.role is not None:
            require(request, route.role)
        if route.refusal is None:  # Jaeger's tools send more than Jaeger's API says
            _check_query(request, route)
        return await route.handler(request)

    return handle


def _check_query(request: web.Request, route: Route) -> None:
    """Nothing, where every parameter is known and there once: a filter that is misspelt must not show all.

    Raises:
        BadRequest: one is not.
    """
    names = list(request.query)
    for name in names:
        if name not in route.query:
            known = ", ".join(f"`{each}`" for each in route.query) or "none"
            raise BadRequest(f"{name[:100]!r} is no parameter of this call; known are {known}")
        if names.count(name) > 1:
            raise BadRequest(f"`{name}` is there more than once")


def flag(request: web.Request, name: str) -> bool:
    """A parameter that is true or false, which it is when it is not there.

    Raises:
        BadRequest: it is neither.
    """
    text = request.query.get(name, "false")
    if text not in ("true", "false"):
        raise BadRequest(f"`{name}` is true or false")
    return text == "true"
