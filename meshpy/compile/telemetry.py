"""Telemetry documents -> what one workload's sidecar reports.

Workload, namespace, mesh: the narrowest that speaks of a thing decides it, as in Istio. In a list the last
entry for a mode counts. Overrides of metrics add up, the wider first.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from meshpy.compile.attachment import check_attachment, is_attached
from meshpy.compile.findings import Notes
from meshpy.compile.selection import Selection
from meshpy.model.names import ROOT_NAMESPACE, ServiceName
from meshpy.model.telemetry import LogRule, Reporting, TelemetrySettings
from meshpy.policy import PolicySet
from meshpy.policy.mesh_docs import TelemetryDoc, TraceEntry

__all__ = ["check_telemetry", "telemetry_of"]


def telemetry_of(workload: ServiceName, policies: PolicySet, selection: Selection) -> TelemetrySettings:
    """The settings in force for a workload."""
    levels = _narrowest_first([d for d in policies.telemetries if is_attached(d, workload, selection)])
    shares = (entry.sampling_pct for doc in levels for entry in reversed(doc.tracing))
    return TelemetrySettings(
        client=_reporting(levels, "CLIENT"),
        server=_reporting(levels, "SERVER"),
        sampling_pct=next((share for share in shares if share is not None), None),
    )


def _narrowest_first(documents: Sequence[TelemetryDoc]) -> list[TelemetryDoc]:
    return sorted(documents, key=lambda doc: (_level(doc), doc.meta.name))


def _level(document: TelemetryDoc) -> int:
    if document.selector is not None or document.target_refs:
        return 0
    return 2 if document.meta.namespace == ROOT_NAMESPACE else 1


def _reporting(levels: Sequence[TelemetryDoc], mode: str) -> Reporting:
    rules = (entry.rule for doc in levels for entry in reversed(doc.logging) if mode in entry.modes)
    silent = (entry.is_silent for entry in _tracing(levels) if mode in entry.modes)
    is_silent = next((each for each in silent if each is not None), False)
    tags = (entry.tags for entry in _tracing(levels) if mode in entry.modes)
    return Reporting(
        next(rules, LogRule()),
        not is_silent,
        next((each for each in tags if each is not None), ()),
        tuple(entry.override for doc in reversed(levels) for entry in doc.metrics if mode in entry.modes),
    )


def _tracing(levels: Sequence[TelemetryDoc]) -> Iterator[TraceEntry]:
    return (entry for doc in levels for entry in reversed(doc.tracing))


def check_telemetry(policies: PolicySet, selection: Selection, notes: Notes) -> None:
    """What attaches to nothing, and two that speak of one workload at one level (IST0159, IST0160)."""
    taken: dict[tuple[int, str, ServiceName], TelemetryDoc] = {}
    for document in policies.telemetries:
        for service in check_attachment(document, selection, notes):
            key = (_level(document), document.meta.namespace, service.name)
            first = taken.setdefault(key, document)
            if first is not document:
                what = f"{document.meta.title} and {first.meta.title} both speak of {service.name}"
                notes.error(document.meta.place, what, "merge them, or narrow one by its selector")
                break
