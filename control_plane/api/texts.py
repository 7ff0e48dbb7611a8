"""What a text of an operator may be, as a schema says it and as it is checked: the two cannot differ."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["NAME", "PARAMETERS", "SERVICE", "WHOLE", "is_line", "is_prose", "line", "prose"]

_LINE = r"^[^\u0000-\u001f\u007f-\u009f\u2028\u2029]*$"
_PROSE = r"^[^\u0000-\u0009\u000b-\u001f\u007f-\u009f\u2028\u2029]*$"
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

NAME: dict[str, Any] = {"type": "string", "pattern": "^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$"}
"""A stack or service (`tokens.checked_service`)."""
SERVICE: dict[str, Any] = {
    "type": "string",
    "pattern": "^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}/[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$",
    "description": "NAMESPACE/SERVICE",
}
"""A service with its stack (`tokens.checked_service`)."""
WHOLE: dict[str, Any] = {"type": "string", "pattern": "^[0-9]{0,18}$"}
"""A whole number as a query has it; empty takes the default."""

PARAMETERS: dict[str, dict[str, Any]] = {
    "kind": {"type": "string"},
    "namespace": NAME,
    "name": NAME,
    "number": {"type": "integer", "minimum": 0, "maximum": 10**15 - 1},
    "id": {"type": "string", "pattern": "^[0-9a-zA-Z]{1,64}$"},
    "service": {"type": "string"},
    "task": {"type": "string", "minLength": 1},
    "trace": {"type": "string", "pattern": "^[0-9a-fA-F]{1,32}$"},
}
"""Those in paths, by name."""


def line(least: int, most: int) -> dict[str, Any]:
    """The schema of one line of text."""
    return {"type": "string", "minLength": least, "maxLength": most, "pattern": _LINE}


def prose(most: int) -> dict[str, Any]:
    """The schema of lines of text."""
    return {"type": "string", "maxLength": most, "pattern": _PROSE}


def is_line(text: str, least: int, most: int) -> bool:
    """Whether a text is what `line` says."""
    return least <= len(text) <= most and _CONTROL.search(text) is None


def is_prose(text: str, most: int) -> bool:
    """Whether a text is what `prose` says."""
    return is_line(text.replace("\n", " "), 0, most)
