"""The one spelling of a request target: what policy judges is what the application receives.

The rules are Istio's DECODE_AND_MERGE_SLASHES, applied once, at the first sidecar that reads the target:

1. raw bytes outside `!`..`~`, a `#`, a malformed escape (`%`, `%2`, `%zz`) and `%00` are refused;
2. escapes of unreserved characters (RFC 3986 §2.3) are decoded, and `%2F`, `%5C` and `\\` become `/`;
3. visible characters that no path may hold raw (`"<>^`{|}`) are escaped;
4. dot segments are removed (RFC 3986 §5.2.4), then runs of `/` are merged to one;
5. every other escape stays an escape. Decoding is single: `%252e` stays `%252e`, so a backend that decodes
   once reads `%2e` as data, exactly what policy saw, and never a dot.

Two texts come out, equal but for the case of hex digits in the escapes that remain. `forward` keeps the
sender's digits (signatures over the path stay valid; Istio's table expects it); `path`, which policy and
routes see, has upper-case digits (RFC 3986 §6.2.2.1), so `%c3` and `%C3` are one path to every rule.
Kept on purpose: the case of letters, a trailing `/`, path parameters (`/..;/`, `/a;b=c`: only some
servers give them a meaning), encoded controls other than NUL, over-long UTF-8, and the whole query.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["SAFE_TARGET", "NormalisedTarget", "TargetRefusal", "canonical_path", "normalise_target"]

_FIRST = rb"[A-Za-z0-9_~!$&'()*+,;=:@-]"
"""A path character (RFC 3986 §3.3 pchar, raw) that begins no dot segment."""

_SEGMENTS = rb"(?:/" + _FIRST + rb"[A-Za-z0-9._~!$&'()*+,;=:@-]*+)"

SAFE_TARGET = re.compile(rb"(" + _SEGMENTS + rb"++/?+|/)(?:\?([!\"$-~]*+))?+")
"""Targets that are their own normal form; group 1 is the path, group 2 the query or None."""

_NOT_VISIBLE = re.compile(rb"[^!-~]")
_MALFORMED_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_ESCAPE = re.compile(rb"%[0-9A-Fa-f]{2}")
_TO_ESCAPE = re.compile(rb"[\"<>^`{|}]")
_SLASHES = re.compile(rb"//++")
_UNRESERVED = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"


def _spellings(octet: int) -> set[bytes]:
    upper, lower = f"{octet:02X}", f"{octet:02x}"
    return {f"%{high}{low}".encode("ascii") for high in (upper[0], lower[0]) for low in (upper[1], lower[1])}


_DECODED = {spelling: bytes((octet,)) for octet in _UNRESERVED for spelling in _spellings(octet)}
_DECODED |= {spelling: b"/" for octet in b"/\\" for spelling in _spellings(octet)}


class NormalisedTarget(NamedTuple):
    """An origin-form target in its one spelling.

    Args:
        path: what policy and routes compare; begins with `/`, ASCII, escapes in upper case.
        query: as received, without the `?`; empty when there is none.
        forward: path and query as the next hop receives them.
    """

    path: str
    query: str
    forward: bytes


class TargetRefusal(NamedTuple):
    """A target that has no safe spelling; answered with 400."""

    reason: str
    detail: str


def normalise_target(raw: bytes) -> NormalisedTarget | TargetRefusal:
    """Bring an origin-form target (`/path?query`, RFC 9112 §3.2.1) to its one spelling.

    Invariants: idempotent over `forward`; a target that SAFE_TARGET matches is returned as it is.
    """
    safe = SAFE_TARGET.fullmatch(raw)
    if safe is not None:
        path, query = safe.groups()
        return NormalisedTarget(path.decode("ascii"), query.decode("ascii") if query else "", raw)
    if not raw.startswith(b"/"):
        return TargetRefusal("target-form", "a request target begins with '/'")
    if (stray := _NOT_VISIBLE.search(raw)) is not None:
        return TargetRefusal("target-character", f"byte 0x{stray[0][0]:02x} must be percent-encoded")
    if b"#" in raw:
        return TargetRefusal("target-fragment", "a fragment is never sent to a server (RFC 9110 §7.1)")
    return _normalise_slow(raw)


def _normalise_slow(raw: bytes) -> NormalisedTarget | TargetRefusal:
    path, mark, query = raw.partition(b"?")
    if _MALFORMED_ESCAPE.search(path) is not None:
        return TargetRefusal("target-escape", "'%' must be followed by two hex digits")
    if b"%00" in path:
        return TargetRefusal("target-nul", "a path holds no NUL (CVE-2019-9900)")
    path = _ESCAPE.sub(lambda escape: _DECODED.get(escape[0], escape[0]), path)
    path = _TO_ESCAPE.sub(lambda char: b"%%%02X" % char[0][0], path.replace(b"\\", b"/"))
    path = _SLASHES.sub(b"/", _without_dot_segments(path))
    judged = _ESCAPE.sub(lambda escape: escape[0].upper(), path)
    return NormalisedTarget(judged.decode("ascii"), query.decode("ascii"), path + mark + query)


def _without_dot_segments(path: bytes) -> bytes:
    """RFC 3986 §5.2.4 over a path that begins with `/`; empty segments count as segments there."""
    kept: list[bytes] = []
    segments = path.split(b"/")[1:]
    last = len(segments) - 1
    for position, segment in enumerate(segments):
        if segment not in (b".", b".."):
            kept.append(segment)
            continue
        if segment == b".." and kept:
            kept.pop()
        if position == last:
            kept.append(b"")
    return b"/" + b"/".join(kept)


def canonical_path(text: str) -> str:
    """The spelling that a path written in a policy must have to meet `NormalisedTarget.path`.

    Escapes get upper-case digits, unreserved escapes are decoded, non-ASCII becomes UTF-8 escapes; slashes
    and dots stay, for a policy's path may be a prefix, a suffix or a template. Not for regular expressions.
    """
    raw = _ESCAPE.sub(_canonical_escape, text.encode("utf-8"))
    return "".join(chr(octet) if octet < 0x80 else f"%{octet:02X}" for octet in raw)


def _canonical_escape(escape: re.Match[bytes]) -> bytes:
    decoded = _DECODED.get(escape[0], b"/")
    return escape[0].upper() if decoded == b"/" else decoded
