"""The roles of operators."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Role"]


class Role(IntEnum):
    """Each may what the one before may."""

    VIEWER = 1
    EDITOR = 2
    ADMIN = 3
