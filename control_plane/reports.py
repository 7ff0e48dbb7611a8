"""What sidecars tell of their traffic, each to its place: figures, spans, tapped requests, looked up ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from control_plane.asks import Asks
from control_plane.errors import BadRequest
from control_plane.flows import FlowLog
from control_plane.streams import Stream
from control_plane.taps import Taps
from control_plane.telemetry import Telemetry
from control_plane.traces.recall import Recall
from control_plane.traces.span import read_span
from control_plane.traces.store import TraceStore
from meshpy.model.names import ServiceName
from meshpy.model.span import Span

__all__ = ["Reports"]

MAX_SPANS = 1_000
"""Of one message; a sidecar sends one a second."""


def _nowhere(_stream: Stream, _span: Span) -> None:
    """No collector is named."""


@dataclass(slots=True)
class Reports:
    """Args:
    asks: what all sidecars are asked.
    forward: where spans go beside the store.
    paths: where new classes of paths go.
    captured: where recorded bytes go.
    looked: where answers about the last requests go.
    """

    telemetry: Telemetry = field(default_factory=Telemetry)
    traces: TraceStore = field(default_factory=TraceStore)
    taps: Taps = field(default_factory=Taps)
    asks: Asks = field(default_factory=Asks)
    flows: FlowLog = field(default_factory=FlowLog)
    recall: Recall = field(init=False)
    forward: Callable[[Stream, Span], None] = _nowhere
    paths: Callable[[ServiceName, Mapping[str, Any]], None] = lambda _service, _message: None
    captured: Callable[[Stream, Mapping[str, Any]], None] = lambda _stream, _message: None
    looked: Callable[[ServiceName, Mapping[str, Any]], None] = lambda _service, _message: None

    def __post_init__(self) -> None:
        self.recall = Recall(self.asks)

    def take(self, stream: Stream, message: Mapping[str, Any], now_s: float) -> bool:
        """Keep a message; False when it is no report.

        What is malformed in a report is counted as dropped: it must not cost a sidecar its stream.
        """
        match message.get("type"):
            case "stats":
                with suppress(BadRequest):
                    figures = self.telemetry.record(stream.service, message.get("records"), now_s)
                    stream.traffic += figures
            case "seen":
                self.flows.record(stream.service, message)
            case "spans":
                self._keep_spans(stream, message.get("spans"))
            case "tapped":
                self.taps.record(stream.service, message.get("records"))
            case "paths":
                self.paths(stream.service, message)
            case "captured":
                self.captured(stream, message)
            case "looked":
                self.looked(stream.service, message)
            case _:
                return False
        return True

    def _keep_spans(self, stream: Stream, items: object) -> None:
        for item in items[:MAX_SPANS] if isinstance(items, list) else ():
            try:
                span = read_span(item, stream.service)
            except BadRequest:
                self.traces.dropped += 1
                continue
            self.traces.add(span)
            self.recall.note(span)
            self.forward(stream, span)
