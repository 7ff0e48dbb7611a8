"""The class of a path: identifiers in it give way to `{*}`, so that few classes stand for many paths."""

from __future__ import annotations

import re

__all__ = ["ANY", "MAX_SEGMENTS", "path_class"]

ANY = "{*}"
MAX_SEGMENTS = 8
MAX_CHARS = 120
_IDENTIFIER = re.compile(
    r"[0-9]+"
    r"|[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
    r"|(?=[0-9a-fA-F]*[0-9])(?=[0-9]*[a-fA-F])[0-9a-fA-F]{8,}"
    r"|[0-9A-HJKMNP-TV-Z]{26}"
    r"|.{33,}"
    r"|(?=.*[0-9].*[0-9])[A-Za-z0-9_=.-]{12,}"
)
"""Numbers, UUIDs, hashes, ULIDs; what is longer than words are; long words with several digits."""


def path_class(path: str) -> str:
    """`/orders/17/items` → `/orders/{*}/items`; what is deeper than eight segments ends with `…`."""
    segments = path.split("/")
    shown = [ANY if _IDENTIFIER.fullmatch(each) else each for each in segments[: MAX_SEGMENTS + 1]]
    if len(segments) > MAX_SEGMENTS + 1:
        shown.append("…")
    return "/".join(shown)[:MAX_CHARS]
