"""Long answers in gzip for who takes it: the status of 1,000 services is 1.6 MiB, and open pages poll it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

__all__ = ["compressed"]

LEAST_BYTES = 4096
"""What fits into a few packets is sent as it is."""


@web.middleware
async def compressed(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Compress a whole answer of JSON, in a thread; those that go on (tap, flows) are sent as they come."""
    answer = await handler(request)
    if (
        isinstance(answer, web.Response)
        and answer.content_type == "application/json"
        and isinstance(answer.body, bytes)
        and len(answer.body) >= LEAST_BYTES
    ):
        answer.headers["Vary"] = "Accept-Encoding"
        if _takes_gzip(request.headers.get("Accept-Encoding", "")):
            answer.enable_compression(web.ContentCoding.gzip)
    return answer


def _takes_gzip(field: str) -> bool:
    """Whether gzip is named, and not with a weight of zero (RFC 9110 §12.5.3)."""
    for item in field.lower().split(","):
        coding, _, weight = item.partition(";")
        if coding.strip() == "gzip":
            return weight.strip().removeprefix("q=").strip("0.") != "" or not weight
    return False
