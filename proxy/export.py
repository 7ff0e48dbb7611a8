"""A sidecar's spans and metrics to a collector of the operator's, beside what the control plane gets."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

from meshpy.export import Counts, Exports
from meshpy.model.metrics import Family, MetricKind, numbers
from meshpy.model.names import ServiceName
from meshpy.model.span import Kind, Span
from meshpy.otlp import Resource, encode_metrics, encode_spans
from proxy.options import OtlpOptions
from proxy.series import families
from proxy.telemetry import Telemetry

__all__ = ["Export"]

SpanRecord = Mapping[str, object]


class Export(Exports[SpanRecord]):
    """Args:
    started_at: seconds since the epoch, since when the counters count.
    """

    def __init__(
        self,
        options: OtlpOptions,
        telemetry: Telemetry,
        service: ServiceName,
        *,
        task: str,
        node: str,
        started_at: float,
    ) -> None:
        self._telemetry = telemetry
        self._service = f"{service.name}.{service.namespace}"
        self._resource = Resource(service.name, service.namespace, task, node, dict(options.resource))
        self._since_ns = int(started_at * 1e9)
        super().__init__(options.traces, options.metrics, self._encode, self._collect)
        telemetry.sources.append(self._families)

    def _encode(self, records: Sequence[SpanRecord]) -> bytes:
        return encode_spans((self._resource, self._span(record)) for record in records)

    def _span(self, record: SpanRecord) -> Span:
        attributes = record["attributes"]
        assert isinstance(attributes, dict)  # noqa: S101 - `spans` has made it
        return Span(
            str(record["trace"]),
            str(record["span"]),
            str(record["parent"]),
            self._service,
            Kind(str(record["kind"])),
            str(record["name"]),
            int(str(record["start_us"])),
            int(str(record["duration_us"])),
            record["error"] is True,
            attributes,
            record["sampled"] is True,
        )

    def _collect(self) -> tuple[bytes, int]:
        found = list(families(self._telemetry))
        now_ns = time.time_ns()
        return encode_metrics(self._resource, found, since_ns=self._since_ns, now_ns=now_ns), len(found)

    def _families(self) -> Iterator[Family]:
        counted: list[tuple[str, Counts]] = []
        if self.spans is not None:
            counted.append(("traces", self.spans.counts))
        if self.metrics is not None:
            counted.append(("metrics", self.metrics.counts))
        samples = [
            ((("signal", signal), ("outcome", outcome)), getattr(counts, outcome))
            for signal, counts in counted
            for outcome in ("sent", "dropped", "failed", "rejected")
        ]
        text = "Spans and metrics for the collector, by what became of them."
        yield numbers("meshpy_otlp_items_total", MetricKind.COUNTER, text, samples)
