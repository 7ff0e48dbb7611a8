"""Frames of a sidecar's stream: one JSON object each, its fields short and printable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from control_plane.errors import BadRequest

__all__ = ["field_of", "read_frame"]

MAX_FIELD = 256


def read_frame(text: str) -> dict[str, Any]:
    """What a sidecar said.

    Raises:
        BadRequest: it is no JSON object.
    """
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise BadRequest("a frame is one JSON object")
    return message


def field_of(message: Mapping[str, Any], name: str) -> str:
    """A text of a frame; empty where it does not say.

    Raises:
        BadRequest: it is no text, too long, or not to be printed.
    """
    value = message.get(name, "")
    if not isinstance(value, str) or len(value) > MAX_FIELD or not (value.isprintable() or not value):
        raise BadRequest(f"`{name}` is a printable text of at most {MAX_FIELD} characters")
    return value
