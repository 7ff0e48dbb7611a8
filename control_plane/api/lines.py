"""Answers that go on: one JSON object a line, until the time is over or the client leaves."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import web

__all__ = ["stream_lines"]

BEAT_S = 1.0
"""An empty line as often tells a client that went away from one that waits."""


async def stream_lines(
    request: web.Request, waiting: asyncio.Queue[dict[str, Any]], for_s: float
) -> web.StreamResponse:
    """Write what comes."""
    answer = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    try:
        await answer.prepare(request)
        async with asyncio.timeout(for_s):
            while True:
                try:
                    async with asyncio.timeout(BEAT_S):
                        item = await waiting.get()
                except TimeoutError:
                    await answer.write(b"\n")
                else:
                    await answer.write(json.dumps(item, separators=(",", ":")).encode() + b"\n")
    except (TimeoutError, ConnectionError):
        pass
    return answer
