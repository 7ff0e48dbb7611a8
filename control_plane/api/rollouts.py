"""`/v1/rollout`: the rollout under way, or the last one; canaries are promoted and aborted here."""

from __future__ import annotations

import time

from aiohttp import web

from control_plane.api.operators import Role, require
from control_plane.api.routes import Route
from control_plane.api.schemas import ROLLOUT
from control_plane.parts import Parts
from control_plane.rollouts import Rollout

__all__ = ["RolloutRoutes"]


class RolloutRoutes:
    """Handlers of the one rollout."""

    def __init__(self, parts: Parts) -> None:
        self._rollouts = parts.rollouts

    def routes(self) -> list[Route]:
        answer = (200, "where it stands", ROLLOUT)
        path = "/v1/rollout"
        edit = Role.EDITOR
        return [
            Route("GET", path, self.show_rollout, Role.VIEWER, "The rollout under way, or the last", answer),
            Route("POST", f"{path}/promote", self.promote, edit, "Put the canary in force", answer),
            Route("POST", f"{path}/abort", self.abort, edit, "Take the canary back", answer),
        ]

    async def show_rollout(self, request: web.Request) -> web.Response:
        require(request, Role.VIEWER)
        return _answer(self._rollouts.newest)

    async def promote(self, request: web.Request) -> web.Response:
        return _answer(await self._rollouts.promote(require(request, Role.EDITOR)))

    async def abort(self, request: web.Request) -> web.Response:
        return _answer(await self._rollouts.abort(require(request, Role.EDITOR)))


def _answer(rollout: Rollout | None) -> web.Response:
    shown = rollout.to_json(time.monotonic()) if rollout is not None else None
    return web.json_response({"rollout": shown})
