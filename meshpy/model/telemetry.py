"""What a sidecar reports of its traffic: which requests it logs, which traces it samples, spans, metrics."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

__all__ = [
    "METRIC_LABELS",
    "LogAll",
    "LogAny",
    "LogField",
    "LogFilter",
    "LogNot",
    "LogRule",
    "LogTerm",
    "MetricFamily",
    "MetricOverride",
    "MetricTag",
    "Reporting",
    "SpanTag",
    "TagOrigin",
    "TelemetrySettings",
]


class LogField(StrEnum):
    """Envoy's attributes that a filter may look at."""

    CODE = "response.code"
    METHOD = "request.method"
    PATH = "request.url_path"
    HOST = "request.host"
    AGENT = "request.useragent"
    MTLS = "connection.mtls"


@dataclass(frozen=True, slots=True)
class LogTerm:
    """`operator` is a comparison, startsWith, endsWith, contains or has; a code is a number as text, mTLS
    `true` or `false`."""

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


class TagOrigin(StrEnum):
    """Where the value of a span's tag comes from."""

    LITERAL = "literal"
    HEADER = "header"
    ENVIRONMENT = "environment"


@dataclass(frozen=True, slots=True)
class SpanTag:
    """`value` is the text itself, or the name of a header in lower case or of a variable of the sidecar;
    where that is absent the tag has the value `default`, and none when `default` is empty."""

    name: str
    origin: TagOrigin
    value: str
    default: str = ""


class MetricFamily(StrEnum):
    """Istio's standard metrics, as Prometheus sees them."""

    REQUEST_COUNT = "istio_requests_total"
    REQUEST_DURATION = "istio_request_duration_milliseconds"
    REQUEST_SIZE = "istio_request_bytes"
    RESPONSE_SIZE = "istio_response_bytes"
    TCP_OPENED_CONNECTIONS = "istio_tcp_connections_opened_total"
    TCP_CLOSED_CONNECTIONS = "istio_tcp_connections_closed_total"
    TCP_SENT_BYTES = "istio_tcp_sent_bytes_total"
    TCP_RECEIVED_BYTES = "istio_tcp_received_bytes_total"
    GRPC_REQUEST_MESSAGES = "istio_request_messages_total"
    GRPC_RESPONSE_MESSAGES = "istio_response_messages_total"


_SIDES = ("workload", "workload_namespace", "principal", "app", "version", "cluster", "canonical_service",
          "canonical_revision")  # fmt: skip
METRIC_LABELS = (
    "reporter",
    *(f"{side}_{name}" for side in ("source", "destination") for name in _SIDES),
    "destination_service",
    "destination_service_name",
    "destination_service_namespace",
    "request_protocol",
    "connection_security_policy",
    "response_code",
    "response_flags",
    "grpc_response_status",
)
"""What the standard metrics are told apart by."""


@dataclass(frozen=True, slots=True)
class MetricTag:
    """A label that series lose (`value` None), or get: a text, or what their label `value` says."""

    name: str
    value: str | None
    is_label: bool = False


@dataclass(frozen=True, slots=True)
class MetricOverride:
    """`family` None is every standard metric; `is_off` None leaves it as wider documents have it."""

    family: MetricFamily | None = None
    is_off: bool | None = None
    tags: tuple[MetricTag, ...] = ()


@dataclass(frozen=True, slots=True)
class Reporting:
    """Of one direction: as caller (client) or callee (server). `metrics` are applied one after the other."""

    log: LogRule = field(default_factory=LogRule)
    sends_spans: bool = True
    span_tags: tuple[SpanTag, ...] = ()
    metrics: tuple[MetricOverride, ...] = ()


@dataclass(frozen=True, slots=True)
class TelemetrySettings:
    """`sampling_pct`: of the traces that begin here; None leaves it to the sidecar's own option."""

    client: Reporting = field(default_factory=Reporting)
    server: Reporting = field(default_factory=Reporting)
    sampling_pct: float | None = None
