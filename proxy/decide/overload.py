"""What is given up as memory runs out.

Kept connections first, then new requests, then the largest of those in progress.

Source: Envoy's overload manager with the thresholds of its edge guide (92 % and 95 %), and its reset of the
streams that hold most.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Level", "level_of"]


class Level(IntEnum):
    """Each includes those before it."""

    CALM = 0
    SHRINK = 1
    """Connections end with the answer that they carry."""
    REFUSE = 2
    """New requests get 503."""
    SHED = 3
    """Nothing is accepted, and the exchanges that hold most are ended."""


_BEGINS_AT = {Level.SHRINK: 0.92, Level.REFUSE: 0.95, Level.SHED: 0.98}
_SLACK = 0.02
"""So far below its threshold memory must fall before a level ends, or it would come and go."""


def level_of(used_bytes: int, limit_bytes: int, before: Level) -> Level:
    """The level for what is used now."""
    share = used_bytes / limit_bytes
    reached = max((level for level, at in _BEGINS_AT.items() if share >= at), default=Level.CALM)
    if reached < before and share >= _BEGINS_AT[before] - _SLACK:
        return before
    return reached
