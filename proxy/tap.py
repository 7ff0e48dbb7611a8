"""The tap: requests as they end, told to the control plane while somebody looks.

It cannot hurt the data path: off, it costs one look at a flag; on, so many records a second and no more,
without headers, queries or content.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from meshpy.model.tap import TapFilter, verdict_of
from proxy.records import SIDES, record_of

if TYPE_CHECKING:
    from proxy.access_log import Line
    from proxy.recent import Seen
    from proxy.telemetry import Edge

__all__ = ["Tap"]

MAX_KEPT = 500
MAX_TEXT = 512


class Tap:
    """Args, once asked: filters: any of which must hold. per_s: the most records a second."""

    __slots__ = ("_filters", "_kept", "_left", "_per_s", "_second", "dropped", "is_on")

    def __init__(self) -> None:
        self.is_on = False
        self._filters: tuple[TapFilter, ...] = ()
        self._per_s = self._left = self._second = 0
        self._kept: deque[dict[str, Any]] = deque(maxlen=MAX_KEPT)
        self.dropped = 0

    def ask(self, filters: Sequence[TapFilter], per_s: int) -> None:
        """Tell what holds from now on; no filter turns it off."""
        self._filters = tuple(filters)
        self._per_s = self._left = max(0, per_s)
        self.is_on = bool(filters)
        if not filters:
            self._kept.clear()

    def take(self) -> list[dict[str, Any]]:
        """What was seen since the last call."""
        kept = list(self._kept)
        self._kept.clear()
        return kept

    def http(self, seen: Seen) -> None:
        """An exchange has ended."""
        self._offer(record_of(seen, time.time()))

    def tcp(self, line: Line, edge: Edge) -> None:
        """An opaque connection has ended."""
        self._offer(
            {
                **_ends(edge),
                "method": "",
                "authority": line.server_name[:MAX_TEXT],
                "path": "",
                "status": 0,
                "flags": line.flags,
                "verdict": verdict_of(
                    is_denied=bool(line.stage), is_failed=bool(line.failure), is_audited=bool(line.audit)
                ),
                "duration_ms": line.duration_ms,
                "bytes_sent": line.bytes_sent,
                "bytes_received": line.bytes_received,
                "attempts": 1,
                "policy": line.policy or line.audit,
                "rule": line.rule,
                "route": "",
                "trace_id": "",
            }
        )

    def _offer(self, record: dict[str, Any]) -> None:
        if not any(each.holds(record) for each in self._filters):
            return
        now = time.time()
        if int(now) != self._second:
            self._second, self._left = int(now), self._per_s
        if self._left <= 0:
            self.dropped += 1
            return
        self._left -= 1
        record["at"] = round(now, 3)
        self._kept.append(record)


def _ends(edge: Edge) -> dict[str, Any]:
    key = edge.key
    return {
        "direction": SIDES[key.direction],
        "source": key.source,
        "destination": key.destination or key.service,
        "protocol": key.protocol,
        "mtls": key.is_mtls,
    }
