"""Answers to the control plane's questions about the last exchanges: lines of a log, or groups with figures.

They are looked up in a thread: thousands of records must not hold a request up.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from meshpy.model.tap import TapFilter
from proxy.recent import Recent, Seen
from proxy.records import class_of, record_of
from proxy.telemetry import BOUNDS_MS

__all__ = ["Question", "answer", "read_question"]

MAX_LINES = 500
MAX_GROUPS = 500
BYS = ("", "route", "path")


@dataclass(frozen=True, slots=True)
class Question:
    """Args:
    by: groups by `route` or by `path` (its class); empty asks for lines.
    since_s: how far back.
    """

    number: int
    wanted: TapFilter
    by: str = ""
    limit: int = MAX_LINES
    since_s: float = 30.0


def read_question(frame: dict[str, Any]) -> Question:
    """Raises:
    ValueError: this sidecar does not understand it.
    """
    by = str(frame.get("by", ""))
    if by not in BYS:
        raise ValueError(f"groups by {by!r} are not known")
    limit = min(MAX_LINES, max(0, int(frame.get("limit", MAX_LINES))))
    wanted = TapFilter.read(frame.get("filter") or {})
    return Question(int(frame["id"]), wanted, by, limit, float(frame.get("since_s", 30)))


def answer(recent: Recent, question: Question) -> dict[str, Any]:
    """The `looked` frame."""
    found = _matching(recent, question)
    frame: dict[str, Any] = {"type": "looked", "id": question.number}
    if question.by:
        return {**frame, "groups": _groups(found, question.by), "bounds_ms": list(BOUNDS_MS)}
    return {**frame, "records": [record for _, record in islice(found, question.limit)]}


def _matching(recent: Recent, question: Question) -> Iterator[tuple[Seen, dict[str, Any]]]:
    """The newest first."""
    wall, now = time.time(), time.monotonic()
    for seen in recent.newest():
        if now - seen.ended_at > question.since_s:
            return
        record = record_of(seen, wall - (now - seen.ended_at))
        if question.wanted.holds(record):
            yield seen, record


def _groups(found: Iterator[tuple[Seen, dict[str, Any]]], by: str) -> list[dict[str, Any]]:
    groups: dict[tuple[object, ...], dict[str, Any]] = {}
    for seen, record in found:
        name = record["route"] if by == "route" else class_of(seen)
        method = "" if by == "route" and name else record["method"]
        key = (record["direction"], record["source"], record["destination"], method, name)
        group = groups.get(key)
        if group is None:
            if len(groups) >= MAX_GROUPS:
                continue
            ends = {each: record[each] for each in ("direction", "source", "destination", "protocol", "mtls")}
            figures = {
                "count": 0,
                "errors": 0,
                "denied": 0,
                "worst_ms": 0.0,
                "last_ms": record["duration_ms"],
            }
            latency = {"best_ms": record["duration_ms"], "counts": [0] * (len(BOUNDS_MS) + 1)}
            group = groups[key] = {**ends, "method": method, "name": name, **figures, **latency}
        took_ms = record["duration_ms"]
        group["count"] += 1
        group["errors"] += record["verdict"] == "ERROR"
        group["denied"] += record["verdict"] == "DENIED"
        group["worst_ms"] = max(group["worst_ms"], took_ms)
        group["best_ms"] = min(group["best_ms"], took_ms)
        group["counts"][bisect_left(BOUNDS_MS, took_ms)] += 1
    return list(groups.values())
