"""`GET /v1/events`: what was unusual, with its evidence."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from control_plane.anomalies.event import Kind
from control_plane.api.operators import Role, require
from control_plane.api.routes import Route
from control_plane.api.tap import number_of, whole_of
from control_plane.errors import BadRequest
from control_plane.parts import Parts

__all__ = ["EventRoutes"]

_CHANGED = "only events that began, went on or ended since `now` of an earlier answer"


class EventRoutes:
    """Handler of the events."""

    def __init__(self, parts: Parts) -> None:
        self._watch = parts.watch

    def routes(self) -> list[Route]:
        query: dict[str, tuple[dict[str, Any], str]] = {
            "after": ({"type": "integer", "minimum": 0, "maximum": 2**53}, "only events with a higher id"),
            "kind": ({"enum": [str(kind) for kind in Kind]}, "only of this kind"),
            "changed": (
                {"type": "number", "minimum": 0},
                _CHANGED,
            ),
            "open": ({"enum": ["true", "false"]}, "`true`: only what is still unusual"),
        }
        answer = (200, "the last events, oldest first, and what is known", {"type": "object"})
        return [Route("GET", "/v1/events", self.events, Role.VIEWER, "What was unusual", answer, query)]

    async def events(self, request: web.Request) -> web.Response:
        require(request, Role.VIEWER)
        query = request.query
        unknown = sorted(set(query) - {"after", "kind", "open", "changed"})
        kind = query.get("kind", "")
        if unknown or kind not in ("", *Kind) or query.get("open", "false") not in ("true", "false"):
            raise BadRequest(f"`kind` is one of {', '.join(Kind)}; `open` is true or false; `after` is an id")
        after = whole_of(query.get("after", 0), "after", 0, 2**53)
        changed_s = number_of(query.get("changed", 0), "changed", 0, 2.0**53)
        is_open, now_s = query.get("open") == "true", self._watch.now_s
        found = self._watch.events.after(after, kind, only_open=is_open, changed_s=changed_s)
        events = [event.to_json() for event in found]
        told = {"events": events, "now": now_s, "newest": self._watch.events.newest}
        return web.json_response({**told, "baseline": self._watch.summary()})
