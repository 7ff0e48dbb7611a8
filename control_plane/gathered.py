"""The parts of several replicas as one: sidecars by their task, flows and rules by what they are of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["all_flows", "all_sidecars"]

Row = dict[str, Any]
LEFT = "DISCONNECTED"


def all_sidecars(parts: Iterable[Sequence[Row]]) -> list[Row]:
    """Each sidecar once, by service and task: as the replica shows it that it is connected to."""
    found: dict[tuple[str, str], Row] = {}
    for row in (row for part in parts for row in part):
        key = (row["service"], row["task"])
        if key not in found or _rank(row) > _rank(found[key]):
            found[key] = row
    return [found[key] for key in sorted(found)]


def _rank(row: Row) -> tuple[bool, int]:
    """A connection that broke is seen late: of two the one with the newer revision lives."""
    return row["state"] != LEFT, row["revision"]


def all_flows(parts: Sequence[Mapping[str, Any]]) -> Row:
    """What all of them saw, as one of them would tell it.

    A service is watched by the replicas that its sidecars speak to, one after the other or side by side: the
    sum, and never more than the time since the first. Rules are known since the last replica began to look:
    what one saw before it lost its data nobody knows.
    """
    now_s = max(part["now_s"] for part in parts)
    callees: dict[str, Row] = {}
    for callee in (callee for part in parts for callee in part["callees"]):
        held = callees.setdefault(callee["service"], {**callee, "watched_s": 0.0, "lost": 0, "flows": []})
        held["since_s"] = min(held["since_s"], callee["since_s"])
        held["watched_s"] = min(held["watched_s"] + callee["watched_s"], now_s - held["since_s"])
        held["lost"] += callee["lost"]
        held["flows"] = [*held["flows"], *callee["flows"]]
    for held in callees.values():
        held["flows"] = _summed(held["flows"], ("source", "port", "method", "path"))
    rules = _summed([rule for part in parts for rule in part["rules"]], ("policy", "rule"))
    return {
        "now_s": now_s,
        "since_s": max(part["since_s"] for part in parts),
        "callees": [callees[name] for name in sorted(callees)],
        "rules": rules,
    }


def _summed(rows: Iterable[Row], names: tuple[str, ...]) -> list[Row]:
    found: dict[tuple[Any, ...], Row] = {}
    for row in rows:
        key = tuple(row[name] for name in names)
        held = found.setdefault(key, {**row, "requests": 0})
        held["requests"] += row["requests"]
        held["last_s"] = max(held["last_s"], row["last_s"])
        if "first_s" in row:
            held["first_s"] = min(held["first_s"], row["first_s"])
    return [found[key] for key in sorted(found)]
