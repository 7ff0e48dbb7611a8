"""`GET /v1/capture`: what one sidecar reads from and writes to its app, one JSON object a line."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from control_plane.api.lines import stream_lines
from control_plane.api.operators import Role, require
from control_plane.api.routes import Route
from control_plane.api.tap import number_of
from control_plane.api.texts import SERVICE
from control_plane.errors import NotFound
from control_plane.parts import Parts
from control_plane.tokens import checked_service

__all__ = ["CaptureRoutes"]

MIN_FOR_S, MAX_FOR_S = 0.1, 600.0
MAX_BYTES = 256 * 1024 * 1024
DEFAULT_BYTES = 10 * 1024 * 1024
NEEDED = frozenset({"service"})


class CaptureRoutes:
    """Handler of captures. It shows plaintext, so it is the administrator's, and is written down."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def routes(self) -> list[Route]:
        query: dict[str, tuple[dict[str, Any], str]] = {
            "service": (SERVICE, "`shop/api`"),
            "task": ({"type": "string"}, "of the sidecar; the first that answers without it"),
            "for_s": ({"type": "number", "minimum": MIN_FOR_S, "maximum": MAX_FOR_S}, "how long"),
            "max_bytes": (
                {"type": "integer", "minimum": 1, "maximum": MAX_BYTES},
                "the most that is recorded",
            ),
            "redact": ({"enum": ["true", "false"]}, "credentials and queries as x"),
        }
        answer = (200, "application/x-ndjson, until the time is over", None)
        title = "The plaintext side of a sidecar"
        return [Route("GET", "/v1/capture", self.capture, Role.ADMIN, title, answer, query, needs=NEEDED)]

    async def capture(self, request: web.Request) -> web.StreamResponse:
        author = require(request, Role.ADMIN)
        query = request.query
        for_s = number_of(query.get("for_s", 10), "for_s", MIN_FOR_S, MAX_FOR_S)
        max_bytes = int(number_of(query.get("max_bytes", DEFAULT_BYTES), "max_bytes", 1, MAX_BYTES))
        service = checked_service(query.get("service", ""))
        task = query.get("task", "")
        known = [s for s in self._parts.distribution.streams({service}) if task in ("", s.task)]
        if not known:
            raise NotFound(f"no sidecar of {service} {task} is connected".replace("  ", " "))
        is_redacted = query.get("redact") == "true"
        await self._parts.audit.write("capture", author=author, service=str(service), task=task)
        capture = self._parts.captures.open(
            service, task or known[0].task, max_bytes, is_redacted=is_redacted
        )
        try:
            return await stream_lines(request, capture.waiting, for_s)
        finally:
            self._parts.captures.close(capture)
