"""What ServiceEntry and Telemetry documents say, as frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from meshpy.errors import Place
from meshpy.model.endpoint import Protocol
from meshpy.model.telemetry import LogRule, MetricOverride, SpanTag
from meshpy.policy.kinds import NOWHERE, HostRef, Meta, ServiceRef

__all__ = [
    "EntryEndpoint",
    "EntryPort",
    "LogEntry",
    "MetricEntry",
    "ServiceEntryDoc",
    "TelemetryDoc",
    "TraceEntry",
]


@dataclass(frozen=True, slots=True)
class EntryPort:
    """A port by which callers know the host, and the one that is dialled."""

    number: int
    protocol: Protocol
    name: str
    target: int


@dataclass(frozen=True, slots=True)
class EntryEndpoint:
    """Where the host is: an address, or a name that is looked up.

    Args:
        ports: name of a port of the entry → the port there.
        labels: for subsets of a DestinationRule.
    """

    address: str
    place: Place
    is_name: bool = False
    ports: Mapping[str, int] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ServiceEntryDoc:
    """Hosts outside the mesh.

    Args:
        endpoints: none: the host's own name is looked up.
        export_to: namespaces whose services see it, `.` being its own; `*` is every one.
    """

    meta: Meta
    hosts: tuple[HostRef, ...]
    ports: tuple[EntryPort, ...]
    endpoints: tuple[EntryEndpoint, ...] = ()
    export_to: frozenset[str] = frozenset({"*"})

    def is_visible(self, namespace: str) -> bool:
        """Whether services of a namespace see it."""
        own = namespace == self.meta.namespace
        return "*" in self.export_to or namespace in self.export_to or (own and "." in self.export_to)


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One of `accessLogging`; `modes` are CLIENT and SERVER."""

    modes: frozenset[str]
    rule: LogRule


@dataclass(frozen=True, slots=True)
class TraceEntry:
    """One of `tracing`; None is 'not said'."""

    modes: frozenset[str]
    sampling_pct: float | None = None
    is_silent: bool | None = None
    tags: tuple[SpanTag, ...] | None = None


@dataclass(frozen=True, slots=True)
class MetricEntry:
    """One of `metrics[].overrides`."""

    modes: frozenset[str]
    override: MetricOverride


@dataclass(frozen=True, slots=True)
class TelemetryDoc:
    """`selector` None and no `target_refs`: every workload of the namespace, of the mesh in the root's."""

    meta: Meta
    logging: tuple[LogEntry, ...] = ()
    tracing: tuple[TraceEntry, ...] = ()
    selector: Mapping[str, str] | None = None
    selector_place: Place = NOWHERE
    target_refs: tuple[ServiceRef, ...] = ()
    metrics: tuple[MetricEntry, ...] = ()
