"""Spans and metrics of one process, each to its collector, where there is one."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from meshpy.export.exporter import Exporter, Pusher
from meshpy.export.transport import open_transport
from meshpy.otlp.settings import Destination

__all__ = ["Exports"]

Item = TypeVar("Item")


class Exports(Generic[Item]):
    """Args:
    encode: a request of spans; runs in a thread.
    collect: a request of metrics, and how many are in it; runs in a thread.
    """

    def __init__(
        self,
        traces: Destination | None,
        metrics: Destination | None,
        encode: Callable[[Sequence[Item]], bytes],
        collect: Callable[[], tuple[bytes, int]],
    ) -> None:
        self.spans: Exporter[Item] | None = None
        self.metrics: Pusher | None = None
        if traces is not None:
            self.spans = Exporter(traces, open_transport(traces), encode, random.random)
        if metrics is not None:
            self.metrics = Pusher(metrics, open_transport(metrics), collect, random.random)

    async def run_spans(self) -> None:
        """Send spans until cancelled."""
        if self.spans is not None:
            await self.spans.run()

    async def run_metrics(self) -> None:
        """Push metrics until cancelled."""
        if self.metrics is not None:
            await self.metrics.run()
