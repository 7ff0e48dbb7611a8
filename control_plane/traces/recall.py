"""The tail rule, whole: a trace that one sidecar kept for a failure is asked of all the others.

Sidecars hold their last exchanges for some seconds (`proxy.recent`). A span of a trace that was not sampled
says that its sidecar saw a failure, a denial or slowness; the quick and fine spans of that trace are with the
others, and come when they are asked for.
"""

from __future__ import annotations

import asyncio
import json
from collections import OrderedDict

from control_plane.asks import Asks
from meshpy.model.span import Span

__all__ = ["Recall"]

EVERY_S = 0.5
MAX_AT_ONCE = 200
"""Traces of one question; of a storm of failures more than so many need not be whole."""
MAX_ASKED = 10_000


class Recall:
    """Each trace is asked for once."""

    def __init__(self, asks: Asks) -> None:
        self._asks = asks
        self._asked: OrderedDict[str, None] = OrderedDict()
        self._waiting: list[str] = []
        self.skipped = 0

    def note(self, span: Span) -> None:
        """A span has come."""
        if span.is_sampled or span.trace_id in self._asked:
            return
        if len(self._waiting) >= MAX_AT_ONCE:
            self.skipped += 1
            return
        self._asked[span.trace_id] = None
        if len(self._asked) > MAX_ASKED:
            self._asked.popitem(last=False)
        self._waiting.append(span.trace_id)

    async def run(self) -> None:
        """Ask, until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            self.ask()

    def ask(self) -> None:
        """Ask for what was noted since the last time."""
        if self._waiting:
            self._asks.ask(json.dumps({"type": "recall", "traces": self._waiting}))
            self._waiting = []
