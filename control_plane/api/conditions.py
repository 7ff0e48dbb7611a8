"""Conditional requests (RFC 9110 §13): an entity tag is the number of a revision, in quotes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from control_plane.errors import BadRequest

__all__ = ["expected_by", "tagged"]

_TAG = re.compile(r'"([0-9]{1,15})"')


def expected_by(request: web.Request) -> int | None:
    """The revision that `If-Match` expects; None where it is not sent, or is `*`.

    Raises:
        BadRequest: it is neither one strong tag of ours nor `*`.
    """
    text = request.headers.get("If-Match", "*").strip()
    found = _TAG.fullmatch(text)
    if found is None and text != "*":
        raise BadRequest('`If-Match` is one entity tag as an answer had it, "7", or *')
    return int(found[1]) if found is not None else None


def tagged(request: web.Request, number: int, body: Mapping[str, Any]) -> web.Response:
    """An answer that carries its revision as a tag; 304 where the client holds that already."""
    tag = f'"{number}"'
    held = [part.strip().removeprefix("W/") for part in request.headers.get("If-None-Match", "").split(",")]
    if request.method == "GET" and (tag in held or "*" in held):
        return web.Response(status=304, headers={"ETag": tag})
    return web.json_response(body, headers={"ETag": tag})
