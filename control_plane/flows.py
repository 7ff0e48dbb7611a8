"""What callees let in, and since when they are watched: the evidence of least privilege and of unused rules.

Kept in one file of the data directory, so that days of observation outlive a restart. Everything is bounded:
where one caller uses more paths than are worth a row, they become templates, and what still does not fit is
counted as lost.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from control_plane.errors import BadRequest
from meshpy.analysis.templates import templates_of
from meshpy.model.names import ServiceName

__all__ = ["FlowLog"]

MAX_CALLEES = 5_000
MAX_GROUPS = 2_000
"""Of one callee: callers by port and method."""
MAX_PATHS = 200
MAX_RULES = 20_000
MAX_ROWS = 2_000
MAX_TEXT = 512
WATCHED_GAP_S = 30.0
"""A sidecar reports every five seconds; after a longer silence nobody watched."""
KEEP_EVERY_S = 60.0
_OBSERVING = ("audit", "pending")
"""Stages that decide nothing."""
_FORMAT = 1

Group = tuple[str, int, str]
"""Caller (empty without an identity), port, method."""


@dataclass(slots=True)
class Kind:
    """How often, and when for the first and the last time, in seconds since the epoch."""

    count: int
    first_s: float
    last_s: float

    def add(self, count: int, now_s: float) -> None:
        self.count += count
        self.last_s = now_s


@dataclass(slots=True)
class Callee:
    """Args:
    watched_s: how long any of its sidecars reported, gaps left out.
    """

    since_s: float
    last_s: float
    watched_s: float = 0.0
    lost: int = 0
    groups: dict[Group, dict[str, Kind]] = field(default_factory=dict)

    def watch(self, now_s: float) -> None:
        if 0 < now_s - self.last_s <= WATCHED_GAP_S:
            self.watched_s += now_s - self.last_s
        self.last_s = now_s

    def add(self, group: Group, path: str, count: int, now_s: float) -> None:
        paths = self.groups.get(group)
        if paths is None:
            if len(self.groups) >= MAX_GROUPS:
                self.lost += count
                return
            paths = self.groups[group] = {}
        name = _named(paths, path)
        if name not in paths and len(paths) >= MAX_PATHS:
            self.groups[group] = paths = _generalised(paths)
            name = _named(paths, path)
        if name in paths:
            paths[name].add(count, now_s)
        elif len(paths) < MAX_PATHS:
            paths[name] = Kind(count, now_s, now_s)
        else:
            self.lost += count


def _named(paths: Mapping[str, Kind], path: str) -> str:
    """The template that stands for it, or itself."""
    if path in paths:
        return path
    return next((name for name in paths if "{*}" in name and _pattern(name).fullmatch(path)), path)


@functools.lru_cache(maxsize=4096)
def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.escape(template).replace(r"\{\*\}", "[^/]+"))


def _generalised(paths: Mapping[str, Kind]) -> dict[str, Kind]:
    """Fewer rows, by the same rules as a suggested policy merges them."""
    found: dict[str, Kind] = {}
    patterns = [(each.text, _pattern(each.text)) for each in templates_of(paths)]
    for path, kind in paths.items():
        name = next(text for text, pattern in patterns if text == path or pattern.fullmatch(path))
        known = found.get(name)
        if known is None:
            found[name] = kind
        else:
            first_s, last_s = min(known.first_s, kind.first_s), max(known.last_s, kind.last_s)
            found[name] = Kind(known.count + kind.count, first_s, last_s)
    return found


class FlowLog:
    """Args:
    file: where it is kept; None keeps nothing.
    clock: seconds since the epoch.
    """

    def __init__(self, file: Path | None = None, clock: Callable[[], float] = time.time) -> None:
        self._file, self._clock = file, clock
        self._callees: dict[ServiceName, Callee] = {}
        self._rules: dict[tuple[str, str], Kind] = {}
        self.since_s = clock()
        self.dropped = 0
        if file is not None:
            self._read(file)

    def record(self, reporter: ServiceName, message: Mapping[str, Any]) -> None:
        """Take in what a sidecar let in since its last report; it speaks for itself only."""
        now_s = self._clock()
        callee = self._callees.get(reporter)
        if callee is None:
            if len(self._callees) >= MAX_CALLEES:
                self.dropped += 1
                return
            callee = self._callees[reporter] = Callee(now_s, now_s)
        callee.watch(now_s)
        try:
            callee.lost += _count(message.get("lost", 0))
            for source, port, method, path, count in _rows(message.get("flows"), 5):
                group = (_text(source), _count(port), _text(method))
                callee.add(group, _text(path), _count(count), now_s)
            for stage, policy, rule, _allowed, count in _rows(message.get("rules"), 5):
                if stage not in _OBSERVING:
                    self._hit((_text(policy), _text(rule)), _count(count), now_s)
        except BadRequest:
            self.dropped += 1

    def _hit(self, rule: tuple[str, str], count: int, now_s: float) -> None:
        known = self._rules.get(rule)
        if known is not None:
            known.add(count, now_s)
        elif len(self._rules) < MAX_RULES:
            self._rules[rule] = Kind(count, now_s, now_s)
        else:
            self.dropped += 1

    def flows(self) -> list[dict[str, Any]]:
        """Every callee as `/v1/flows` shows it."""
        return [
            {
                "service": str(name),
                "since_s": round(callee.since_s, 3),
                "watched_s": round(callee.watched_s, 3),
                "lost": callee.lost,
                "flows": [
                    {
                        "source": source,
                        "port": port,
                        "method": method,
                        "path": path,
                        "requests": kind.count,
                        "first_s": round(kind.first_s, 3),
                        "last_s": round(kind.last_s, 3),
                    }
                    for (source, port, method), paths in sorted(callee.groups.items())
                    for path, kind in sorted(paths.items())
                ],
            }
            for name, callee in sorted(self._callees.items())
        ]

    def rules(self) -> list[dict[str, Any]]:
        """Every rule that ever decided a request here, as `/v1/flows` shows it."""
        return [
            {"policy": policy, "rule": rule, "requests": kind.count, "last_s": round(kind.last_s, 3)}
            for (policy, rule), kind in sorted(self._rules.items())
        ]

    def told(self) -> dict[str, Any]:
        """All of it, as `/v1/flows` shows what one replica saw."""
        return {
            "now_s": round(self._clock(), 3),
            "since_s": round(self.since_s, 3),
            "callees": self.flows(),
            "rules": self.rules(),
        }

    async def run(self) -> None:
        """Keep it, until cancelled, and once more at the end."""
        try:
            while True:
                await asyncio.sleep(KEEP_EVERY_S)
                text = self._printed()
                await asyncio.to_thread(self._write, text)
        finally:
            self._write(self._printed())

    def _printed(self) -> str:
        return json.dumps(
            {
                "format": _FORMAT,
                "since_s": self.since_s,
                "callees": {
                    str(name): {
                        "since_s": each.since_s,
                        "last_s": each.last_s,
                        "watched_s": each.watched_s,
                        "lost": each.lost,
                        "rows": [
                            [*group, path, kind.count, kind.first_s, kind.last_s]
                            for group, paths in each.groups.items()
                            for path, kind in paths.items()
                        ],
                    }
                    for name, each in self._callees.items()
                },
                "rules": [[*rule, k.count, k.first_s, k.last_s] for rule, k in self._rules.items()],
            }
        )

    def _write(self, text: str) -> None:
        """A disk that is full costs the copy, not the evidence."""
        if self._file is None:
            return
        draft = self._file.with_suffix(".new")
        with suppress(OSError):
            draft.write_text(text)
            os.replace(draft, self._file)

    def _read(self, file: Path) -> None:
        """What was kept; a file that is torn or not ours counts as none."""
        with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
            kept = json.loads(file.read_text())
            if kept["format"] != _FORMAT:
                return
            callees: dict[ServiceName, Callee] = {}
            for name, each in kept["callees"].items():
                callee = Callee(each["since_s"], each["last_s"], each["watched_s"], each["lost"])
                for source, port, method, path, *kind in each["rows"]:
                    callee.groups.setdefault((source, port, method), {})[path] = Kind(*kind)
                callees[ServiceName.parse(name)] = callee
            rules = {(policy, rule): Kind(*kind) for policy, rule, *kind in kept["rules"]}
            self._callees, self._rules, self.since_s = callees, rules, float(kept["since_s"])


def _rows(value: object, width: int) -> list[list[Any]]:
    if value is None:
        return []
    if not isinstance(value, list) or len(value) > MAX_ROWS:
        raise BadRequest(f"seen: a list of at most {MAX_ROWS} rows is needed")
    if any(not isinstance(row, list) or len(row) != width for row in value):
        raise BadRequest(f"seen: a row has {width} values")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT or not (value.isprintable() or not value):
        raise BadRequest(f"seen: texts are printable and of at most {MAX_TEXT} characters")
    return value


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
        raise BadRequest("seen: counts are whole numbers from 0")
    return value
