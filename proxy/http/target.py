"""Request targets in the forms that SAFE_TARGET does not match (RFC 9112 §3.2), and the methods."""

from __future__ import annotations

import re
from typing import NamedTuple

from meshpy.engine.normalise import TargetRefusal, normalise_target
from proxy.http.authority import Authority, parse_authority
from proxy.http.events import Refused

__all__ = ["METHODS", "Target", "read_target"]

_METHOD_NAMES = (
    "GET HEAD POST PUT DELETE CONNECT OPTIONS TRACE PATCH QUERY ACL BIND CHECKOUT COPY LINK LOCK "
    "M-SEARCH MERGE MKACTIVITY MKCALENDAR MKCOL MOVE NOTIFY PROPFIND PROPPATCH PURGE REBIND "
    "REPORT SEARCH SOURCE SUBSCRIBE UNBIND UNLINK UNLOCK UNSUBSCRIBE"
)
METHODS = {name.encode("ascii"): name for name in _METHOD_NAMES.split()}
"""Methods that IANA registers or that servers widely know; any other is answered 501, as Envoy refuses custom
ones by default: a next hop that does not know a method may read the request in its own way."""

_ABSOLUTE = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?://([^/?]*+)(.*)")


class Target(NamedTuple):
    """A target as policy sees it and as it is forwarded; `authority` is None when Host gives it."""

    path: str
    query: str
    forward: bytes
    authority: Authority | None


def read_target(method: str, raw: bytes, *, allow_connect: bool) -> Target | Refused:
    """Read any form of target; the caller has checked that it is visible ASCII without spaces."""
    if method == "CONNECT":
        return _read_connect(raw, allow_connect=allow_connect)
    if raw == b"*":
        if method == "OPTIONS":
            return Target("*", "", b"*", None)
        return Refused(400, "target-form", "'*' is a target for OPTIONS alone (RFC 9112 §3.2.4)")
    authority: Authority | None = None
    origin = raw
    absolute = _ABSOLUTE.fullmatch(raw)
    if absolute is not None:
        authority = parse_authority(absolute[1])
        if authority is None:
            return Refused(400, "target-authority", "the target's authority is no host with an optional port")
        origin = absolute[2]
        if not origin.startswith(b"/"):
            origin = b"/" + origin
    outcome = normalise_target(origin)
    if isinstance(outcome, TargetRefusal):
        return Refused(400, outcome.reason, outcome.detail)
    return Target(outcome.path, outcome.query, outcome.forward, authority)


def _read_connect(raw: bytes, *, allow_connect: bool) -> Target | Refused:
    if not allow_connect:
        return Refused(405, "connect-not-allowed", "CONNECT is not allowed here")
    authority = parse_authority(raw)
    if authority is None or authority.port is None:
        return Refused(400, "target-form", "CONNECT names host:port (RFC 9112 §3.2.3)")
    return Target("", "", authority.text.encode("ascii"), authority)
