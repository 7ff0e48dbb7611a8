"""Spans by trace, in bounded memory: the trace that was quiet for longest goes first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from meshpy.model.span import Kind, Span

__all__ = ["Query", "Trace", "TraceStore"]

MAX_BYTES = 64 * 1024 * 1024
MAX_SPANS_OF_TRACE = 2_000
MAX_SERVICES = 5_000
MAX_OPERATIONS = 200
"""Names of one service: sidecars use methods and route names, so more is a mistake."""


@dataclass(slots=True, eq=False)
class Trace:
    """The spans of one trace, in the order they came; a span that comes twice counts once."""

    trace_id: str
    spans: dict[str, Span] = field(default_factory=dict)
    size_bytes: int = 0

    @property
    def start_us(self) -> int:
        return min(span.start_us for span in self.spans.values())

    @property
    def duration_us(self) -> int:
        ends = (span.start_us + span.duration_us for span in self.spans.values())
        return max(ends) - self.start_us


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for: a trace of which one span has all of it.

    Args:
        tags: attributes as text; `error` is `true` for a span that failed.
        since_us, until_us: when that span began.
    """

    service: str
    operation: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    min_us: int = 0
    max_us: int | None = None
    since_us: int = 0
    until_us: int | None = None
    limit: int = 20

    def holds(self, span: Span) -> bool:
        return (
            span.service == self.service
            and (not self.operation or span.name == self.operation)
            and span.start_us >= self.since_us
            and (self.until_us is None or span.start_us <= self.until_us)
            and span.duration_us >= self.min_us
            and (self.max_us is None or span.duration_us <= self.max_us)
            and all(_tag(span, name) == value for name, value in self.tags.items())
        )


def _tag(span: Span, name: str) -> str | None:
    if name == "error":
        return "true" if span.is_error else "false"
    if name == "span.kind":
        return span.kind.value.lower()
    value = span.attributes.get(name)
    return None if value is None else str(value).lower() if isinstance(value, bool) else str(value)


class TraceStore:
    """Args:
    max_bytes: about how much memory all spans may take.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._traces: OrderedDict[str, Trace] = OrderedDict()
        self._operations: dict[str, dict[tuple[str, Kind], None]] = {}
        self.size_bytes = 0
        self.dropped = 0

    def add(self, span: Span) -> None:
        """Keep a span; makes room by dropping whole traces."""
        trace = self._traces.get(span.trace_id)
        if trace is None:
            trace = self._traces[span.trace_id] = Trace(span.trace_id)
        self._traces.move_to_end(span.trace_id)
        if span.span_id in trace.spans or len(trace.spans) >= MAX_SPANS_OF_TRACE:
            self.dropped += 1
            return
        trace.spans[span.span_id] = span
        trace.size_bytes += span.size_bytes
        self.size_bytes += span.size_bytes
        self._note_operation(span)
        while self.size_bytes > self._max_bytes and len(self._traces) > 1:
            _, oldest = self._traces.popitem(last=False)
            self.size_bytes -= oldest.size_bytes

    def _note_operation(self, span: Span) -> None:
        known = self._operations.get(span.service)
        if known is None:
            if len(self._operations) >= MAX_SERVICES:
                return
            known = self._operations[span.service] = {}
        if len(known) < MAX_OPERATIONS:
            known[span.name, span.kind] = None

    def __len__(self) -> int:
        return len(self._traces)

    @property
    def services(self) -> list[str]:
        return sorted(self._operations)

    def operations(self, service: str) -> list[tuple[str, Kind]]:
        """The names of a service's spans, each with its kind, in order."""
        return sorted(self._operations.get(service, {}))

    def get(self, trace_id: str) -> Trace | None:
        return self._traces.get(trace_id)

    def find(self, query: Query) -> list[Trace]:
        """The newest traces that hold it, newest first."""
        return list(self._matching(query))

    def _matching(self, query: Query) -> Iterator[Trace]:
        found = 0
        for trace in reversed(self._traces.values()):
            if found >= query.limit:
                return
            if any(query.holds(span) for span in trace.spans.values()):
                found += 1
                yield trace

    def dependencies(self, since_us: int, until_us: int) -> dict[tuple[str, str], int]:
        """How often one service called another: a SERVER span whose parent is a CLIENT span of another."""
        calls: dict[tuple[str, str], int] = {}
        for trace in self._traces.values():
            for parent, child in _calls(trace.spans, trace.spans.values()):
                if since_us <= child.start_us <= until_us:
                    key = (parent.service, child.service)
                    calls[key] = calls.get(key, 0) + 1
        return calls


def _calls(spans: Mapping[str, Span], children: Iterable[Span]) -> Iterator[tuple[Span, Span]]:
    for child in children:
        parent = spans.get(child.parent_id)
        if parent is not None and parent.service != child.service:
            yield parent, child
