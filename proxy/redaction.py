"""What a log does not tell: the values of a query, which carry tokens and names of people."""

from __future__ import annotations

__all__ = ["REDACTED", "redacted", "redacted_target"]

REDACTED = b"REDACTED"
_REMEMBER, _REMEMBER_BYTES = 1024, 200
_known: dict[bytes, bytes] = {}


def redacted_target(target: bytes) -> bytes:
    """A request target whose query keeps its names only; short ones are remembered, as most come again."""
    known = _known.get(target)
    if known is not None:
        return known
    path, mark, query = target.partition(b"?")
    result = path + mark + redacted(query) if mark else target
    if len(target) <= _REMEMBER_BYTES:
        if len(_known) >= _REMEMBER:
            _known.clear()
        _known[target] = result
    return result


def redacted(query: bytes) -> bytes:
    """`a=1&b` → `a=REDACTED&REDACTED`: a part without a name may be a value."""
    return b"&".join(_part(part) for part in query.split(b"&"))


def _part(part: bytes) -> bytes:
    name, mark, _ = part.partition(b"=")
    return name + mark + REDACTED if mark else REDACTED if part else b""
