"""What leaves this machine in a report carries no secret: by key in JSON, by shape in any text."""

from __future__ import annotations

import re
from typing import Any

__all__ = ["redacted", "scrubbed"]

HIDDEN = "REDACTED"

_SECRET_KEYS = re.compile(
    r"token|secret|password|passphrase|credential|cookie|jwks|authorization$|private", re.IGNORECASE
)
_HEADER_KEYS = re.compile(r"headers$", re.IGNORECASE)
_SHAPES = (
    (
        re.compile(
            r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
        ),
        HIDDEN,
    ),
    (re.compile(r"\beyJ[\w-]+\.[\w-]+\.[\w-]*"), HIDDEN),  # a JWT
    (re.compile(r"\b(Bearer|Basic|Digest)\s+[\w.~+/=-]{6,}", re.IGNORECASE), rf"\1 {HIDDEN}"),
    (re.compile(r"(?<=://)[^/\s@\"]+@"), f"{HIDDEN}@"),  # user and password in a URL
    (re.compile(r"(?<=[\w/.])\?[^\s\"'\\<>]+"), f"?{HIDDEN}"),  # a query
    (re.compile(r"SWMTKN-[\w-]+"), HIDDEN),  # what joins a node to a Swarm
)


def redacted(value: Any, *, hide: bool = False) -> Any:
    """The JSON value with secrets replaced; names of headers stay, their values go.

    Args:
        hide: replace every text below here.
    """
    if isinstance(value, dict):
        return {key: redacted(each, hide=hide or _hides(key, each)) for key, each in value.items()}
    if isinstance(value, list):
        return [redacted(each, hide=hide) for each in value]
    return HIDDEN if hide and isinstance(value, str) and value else value


def _hides(key: str, value: object) -> bool:
    """Numbers and truths under such a key are counts and settings."""
    is_text = isinstance(value, (str, list, dict))
    return is_text and bool(_SECRET_KEYS.search(key) or _HEADER_KEYS.search(key))


def scrubbed(text: str) -> str:
    """The text without what has the shape of a secret: keys, JWTs, credentials, queries."""
    for shape, instead in _SHAPES:
        text = shape.sub(instead, text)
    return text
