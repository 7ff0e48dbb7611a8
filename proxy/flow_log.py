"""The flow log: who spoke to whom and what the policies said of it, summed over some seconds a line.

It reads the counters that are there; only a denial or an audit writes something down as it happens.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

from proxy.access_log import AccessLog
from proxy.telemetry import Edge, EdgeKey, Telemetry

__all__ = ["FlowLog"]

MAX_DECISIONS = 1000
"""Kept between two flushes; what comes above is told without its policy."""

_Decision = tuple[EdgeKey, str, str, str, str]


class FlowLog:
    """Args:
    log: where lines go; one that is off keeps nothing.
    """

    def __init__(self, log: AccessLog, telemetry: Telemetry) -> None:
        self.log = log
        self._telemetry = telemetry
        self._decisions: dict[_Decision, int] = {}
        self._before: dict[EdgeKey, tuple[int, int, int, int]] = {}
        self._since = time.time()

    def decide(self, key: EdgeKey, verdict: str, policy: str, rule: str, stage: str) -> None:
        """Note a denial or an audit."""
        if not self.log.is_on:
            return
        decision = (key, verdict, policy, rule, stage)
        if decision not in self._decisions and len(self._decisions) >= MAX_DECISIONS:
            decision = (key._replace(source="", destination=""), verdict, "", "", stage)
        self._decisions[decision] = self._decisions.get(decision, 0) + 1

    def flush(self) -> None:
        """Write a line for each edge and decision since the last time."""
        if not self.log.is_on:
            return
        now = time.time()
        for line in self._lines(self._since, now):
            self.log.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")
        self._since = now
        self._decisions = {}
        self.log.flush()

    def _lines(self, since: float, until: float) -> Iterator[dict[str, object]]:
        times = {"start_time": _text(since), "end_time": _text(until)}
        for key, edge in self._telemetry.edges.items():
            now = _counts(edge)
            before = self._before.get(key, (0, 0, 0, 0))
            self._before[key] = now
            flows, denied, received, sent = (a - b for a, b in zip(now, before, strict=True))
            # Of a connection that goes on the bytes of this time are told: it began in an earlier line.
            goes_on = edge.opened > edge.closed and (received or sent)
            if flows > denied or goes_on:
                ends = _ends(key)
                yield {**times, "verdict": "FORWARDED", **ends, "flows": max(0, flows - denied),
                       "bytes_in": received, "bytes_out": sent}  # fmt: skip
        for (key, verdict, policy, rule, stage), count in self._decisions.items():
            named = {"policy": policy, "rule": rule, "stage": stage}
            yield {**times, "verdict": verdict, **_ends(key), "flows": count, **named}


def _counts(edge: Edge) -> tuple[int, int, int, int]:
    flows = sum(edge.responses.values()) or edge.opened
    return flows, sum(edge.denied.values()), edge.bytes_received, edge.bytes_sent


def _ends(key: EdgeKey) -> dict[str, object]:
    return {
        "reporter": "source" if key.direction == "outbound" else "destination",
        "source": key.source,
        "destination": key.destination or key.service,
        "protocol": key.protocol,
        "mtls": key.is_mtls,
    }


def _text(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03d}Z"
