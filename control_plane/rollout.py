"""A careful change of the policies: what is asked for, what was seen, and the verdict. Pure.

A canary is decided by some sidecars of each service that the change touches, while the others keep the
revision in force; it becomes a revision when it is promoted. A watched change is in force everywhere and is
taken back by a new revision. Both are judged by the same two shares: requests that policies denied, and
requests that ended in a 5xx, each against the same share without the change.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from control_plane.errors import BadRequest

__all__ = ["NOTHING", "Bounds", "Figures", "Phase", "Plan", "Share", "breach", "parse_plan"]

MIN_REQUESTS = 20
MAX_WATCH_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Share:
    """How many sidecars of a service: a number of them, or percent of them; always at least one."""

    number: int = 0
    percent: float = 0.0

    def of(self, sidecars: int) -> int:
        """How many of `sidecars` that is."""
        wanted = self.number or math.ceil(sidecars * self.percent / 100)
        return min(sidecars, max(1, wanted))

    def __str__(self) -> str:
        return f"{self.percent:g}%" if self.percent else str(self.number)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How far a share may rise, in points of percent."""

    denied_pct: float = 5.0
    error_pct: float = 5.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What the author asked for.

    Args:
        canary: None puts the change in force everywhere, watched.
        watch_s: how long it is watched; then a canary is promoted, unless `is_held`.
    """

    canary: Share | None
    watch_s: float = 60.0
    bounds: Bounds = Bounds()
    is_held: bool = False


class Phase(StrEnum):
    """Where a rollout stands; the last four are ends."""

    WATCHING = "WATCHING"
    HELD = "HELD"
    PROMOTED = "PROMOTED"
    KEPT = "KEPT"
    ROLLED_BACK = "ROLLED_BACK"
    ABORTED = "ABORTED"

    @property
    def is_over(self) -> bool:
        return self not in (Phase.WATCHING, Phase.HELD)


@dataclass(frozen=True, slots=True)
class Figures:
    """Requests (or connections) that some sidecars saw, how many were denied, how many ended in a 5xx."""

    requests: int = 0
    denied: int = 0
    errors: int = 0

    def __add__(self, other: Figures) -> Figures:
        return Figures(self.requests + other.requests, self.denied + other.denied, self.errors + other.errors)

    def __sub__(self, other: Figures) -> Figures:
        return Figures(self.requests - other.requests, self.denied - other.denied, self.errors - other.errors)

    @property
    def is_enough(self) -> bool:
        """Whether a share of it says anything."""
        return self.requests >= MIN_REQUESTS

    def share_pct(self, count: int) -> float:
        return 100.0 * count / self.requests if self.requests else 0.0

    def to_json(self) -> dict[str, int]:
        return {"requests": self.requests, "denied": self.denied, "errors": self.errors}


NOTHING = Figures()


def breach(bounds: Bounds, without: Figures, seen: Figures) -> str | None:
    """Why the change must be taken back; None while it need not be.

    Args:
        without: the same services without the change; its shares count as 0 when it is too little.
    """
    if not seen.is_enough:
        return None
    base = without if without.is_enough else NOTHING
    for what, bound, count, before in (
        ("denied", bounds.denied_pct, seen.denied, base.share_pct(base.denied)),
        ("answered with 5xx", bounds.error_pct, seen.errors, base.share_pct(base.errors)),
    ):
        share = seen.share_pct(count)
        if share - before > bound:
            return (
                f"{share:.1f} % of {seen.requests} requests were {what}, {before:.1f} % without the change:"
                f" more than {bound:g} points"
            )
    return None


_SHARE = re.compile(r"([0-9]{1,6})|([0-9]{1,3}(?:\.[0-9]{1,3})?)%")
_KEYS = ("canary", "watch_s", "max_denied_pct", "max_error_pct", "hold")


def parse_plan(value: Mapping[str, Any]) -> Plan:
    """Read the member `rollout` of a change.

    Raises:
        BadRequest: an unknown key, or a value out of its range.
    """
    unknown = sorted(set(value) - set(_KEYS))
    if unknown:
        raise BadRequest(f"`rollout` has no {unknown[0]!r}; it has {', '.join(_KEYS)}")
    canary = value.get("canary")
    is_held = value.get("hold", False)
    if not isinstance(is_held, bool):
        raise BadRequest("`rollout.hold` is true or false")
    if is_held and canary is None:
        raise BadRequest("`rollout.hold` goes with a canary: what is in force everywhere is not held back")
    return Plan(
        canary=None if canary is None else _share(canary),
        watch_s=_within(value, "watch_s", 60.0, 1.0, MAX_WATCH_S),
        bounds=Bounds(
            denied_pct=_within(value, "max_denied_pct", 5.0, 0.0, 100.0),
            error_pct=_within(value, "max_error_pct", 5.0, 0.0, 100.0),
        ),
        is_held=is_held,
    )


def _share(value: object) -> Share:
    found = _SHARE.fullmatch(value) if isinstance(value, str) else None
    share = Share(int(found[1] or 0), float(found[2] or 0)) if found else Share()
    if share == Share() or share.percent > 100:
        raise BadRequest('`rollout.canary` is a number of replicas, "1", or a share of them, "25%"')
    return share


def _within(value: Mapping[str, Any], name: str, default: float, low: float, high: float) -> float:
    number = value.get(name, default)
    if isinstance(number, bool) or not isinstance(number, int | float) or not low <= number <= high:
        raise BadRequest(f"`rollout.{name}` is a number from {low:g} to {high:g}")
    return float(number)
