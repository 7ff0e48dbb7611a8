"""Authorities: the value of Host and the authority of an absolute-form or CONNECT target."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["Authority", "known_authorities", "parse_authority"]

_GRAMMAR = re.compile(
    r"(?P<host>[A-Za-z0-9._~-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::(?P<port>[0-9]{1,5}))?",
)
"""RFC 3986 §3.2 without userinfo, escapes and sub-delims: no service can be named with them, and servers
disagree on them (`a,b`, `a@b`, `a/b`). Underscores are allowed: Swarm's own names hold one."""

_SEEN_LIMIT = 1024
known_authorities: dict[bytes, Authority] = {}
"""Authorities already read. Callers use few; a flood of others only empties it.

Filled by `parse_authority` alone; the compiled codec reads it.
"""


class Authority(NamedTuple):
    """A host with an optional port.

    Args:
        text: lower case, as received otherwise; goes into logs and comparisons with the port.
        host: lower case, no port, no trailing dot: `SECRET.com`, `secret.com.` and `secret.com:80` are one
            host to every rule (CVE-2021-39155, ISTIO-2021-008). An IPv6 host keeps its brackets.
        port: 1..65535, None when absent.
    """

    text: str
    host: str
    port: int | None


def parse_authority(raw: bytes) -> Authority | None:
    """Read `host` or `host:port`; None when it is anything else."""
    known = known_authorities.get(raw)
    if known is not None:
        return known
    text = raw.decode("latin-1").lower()
    match = _GRAMMAR.fullmatch(text)
    if match is None:
        return None
    host = match["host"].removesuffix(".")
    port = int(match["port"]) if match["port"] else None
    if not host or ".." in host or host.startswith(".") or (port is not None and not 1 <= port <= 65535):
        return None
    if len(known_authorities) >= _SEEN_LIMIT:
        known_authorities.clear()
    authority = known_authorities[raw] = Authority(text, host, port)
    return authority
