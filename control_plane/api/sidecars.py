"""`/v1/sidecars`: every sidecar and where it stands, in pages; and what one of them decides by."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from control_plane.api.operators import Role, require
from control_plane.api.routes import Route
from control_plane.api.schemas import SIDECAR_CONFIG, SIDECARS
from control_plane.errors import BadRequest, NotFound
from control_plane.gathered import all_sidecars
from control_plane.parts import Parts
from control_plane.streams import SyncState

__all__ = ["SidecarRoutes"]

MAX_PAGE = 1_000
DEFAULT_PAGE = 200
MIN_PREFIX = 3
QUERY: dict[str, tuple[dict[str, Any], str]] = {
    "service": ({"type": "string"}, "only those of NAMESPACE/SERVICE"),
    "state": ({"enum": ["", *map(str, SyncState)]}, "only those in this state; empty: all"),
    "limit": ({"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": DEFAULT_PAGE}, "how many"),
    "after": ({"type": "string"}, "`next` of the page before"),
}


class SidecarRoutes:
    """Handlers of sidecars."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def routes(self) -> list[Route]:
        listed = (200, "by service and task", SIDECARS)
        config = (200, "the snapshot that it holds, and its certificate", SIDECAR_CONFIG)
        view, one = Role.VIEWER, "/v1/sidecars/{task}/config"
        return [
            Route("GET", "/v1/sidecars", self.sidecars, view, "Sidecars and their state", listed, QUERY),
            Route("GET", one, self.config, view, "What a sidecar decides by", config),
        ]

    async def sidecars(self, request: web.Request) -> web.Response:
        require(request, Role.VIEWER)
        query = request.query
        service, state = query.get("service", ""), query.get("state", "")
        if state not in ("", *SyncState):
            raise BadRequest(f"`state` is one of {', '.join(SyncState)}")
        limit, after = _limit(query.get("limit", "")), query.get("after", "")
        told = await self._parts.siblings.ask(request, "/v1/replica")
        own = self._parts.distribution.sidecars(self._parts.registry.view)
        found = [
            row
            for row in all_sidecars([own, *(answer["sidecars"] for answer in told.answers)])
            if service in ("", row["service"]) and state in ("", row["state"]) and _key(row) > after
        ]
        page = found[:limit]
        following = _key(page[-1]) if len(found) > limit else None
        return web.json_response({"sidecars": page, "next": following, "silent": told.missing})

    async def config(self, request: web.Request) -> web.Response:
        require(request, Role.VIEWER)
        wanted = request.match_info["task"]
        parts = self._parts
        rows = parts.distribution.sidecars(parts.registry.view)
        meant = [row for row in rows if row["task"] == wanted] or [
            row for row in rows if len(wanted) >= MIN_PREFIX and row["task"].startswith(wanted)
        ]
        if not meant:
            told = await parts.siblings.ask(request)
            if told.answers:
                return web.json_response(told.answers[0])
            unsure = "".join(f"; {each} does not answer" for each in told.silent)
            what = f"no sidecar's task begins with {wanted[:64]!r}"
            raise NotFound(f"{what}; see `meshpy proxy status`{unsure}")
        if len(meant) > 1:
            few = ", ".join(row["task"] for row in meant[:5])
            raise BadRequest(f"{len(meant)} tasks begin with {wanted[:64]!r}: {few}; write more of it")
        row = meant[0]
        held = parts.distribution.held(row["service"], row["held"])
        bundle = parts.signing.authority.bundle
        return web.json_response(
            {
                "sidecar": row,
                "snapshot": held,
                "trust_domain": parts.signing.trust_domain,
                "roots": list(bundle.fingerprints),
            }
        )


def _key(row: dict[str, Any]) -> str:
    return f"{row['service']} {row['task']}"


def _limit(text: str) -> int:
    is_number = text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_PAGE))
    if text and not (is_number and 1 <= int(text) <= MAX_PAGE):
        raise BadRequest(f"`limit` is a whole number from 1 to {MAX_PAGE}")
    return int(text or DEFAULT_PAGE)
