"""What a sidecar reports of its traffic: which requests it logs, which traces it samples, its spans."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

__all__ = [
    "LogAll",
    "LogAny",
    "LogField",
    "LogFilter",
    "LogNot",
    "LogRule",
    "LogTerm",
    "Reporting",
    "TelemetrySettings",
]


class LogField(StrEnum):
    """Envoy's attributes that a filter may look at."""

    CODE = "response.code"
    METHOD = "request.method"
    PATH = "request.url_path"
    HOST = "request.host"


@dataclass(frozen=True, slots=True)
class LogTerm:
    """`operator` is a comparison, startsWith, endsWith or contains; codes are numbers as text."""

    field: LogField
    operator: str
    value: str


@dataclass(frozen=True, slots=True)
class LogNot:
    operand: LogFilter


@dataclass(frozen=True, slots=True)
class LogAll:
    operands: tuple[LogFilter, ...]


@dataclass(frozen=True, slots=True)
class LogAny:
    operands: tuple[LogFilter, ...]


LogFilter: TypeAlias = LogTerm | LogNot | LogAll | LogAny


@dataclass(frozen=True, slots=True)
class LogRule:
    """Without a filter every request is logged; opaque connections are where there is none."""

    is_off: bool = False
    filter: LogFilter | None = None


@dataclass(frozen=True, slots=True)
class Reporting:
    """Of one direction: as caller (client) or callee (server)."""

    log: LogRule = field(default_factory=LogRule)
    sends_spans: bool = True


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """`sampling_pct`: of the traces that begin here; None leaves it to the sidecar's own option."""

    client: Reporting = field(default_factory=Reporting)
    server: Reporting = field(default_factory=Reporting)
    sampling_pct: float | None = None
