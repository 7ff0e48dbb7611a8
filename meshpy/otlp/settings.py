"""Where spans and metrics are sent: OpenTelemetry's own environment variables, read strictly.

Source: opentelemetry.io/docs/specs/otel/protocol/exporter. A variable of one signal wins over that of both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import unquote, urlsplit

from meshpy.errors import MeshpyError

__all__ = ["Destination", "OtlpError", "Protocol", "Signal", "read_destination", "read_resource"]

_PREFIX = "OTEL_EXPORTER_OTLP_"
_GRPC_PORT, _HTTP_PORT = 4317, 4318


class OtlpError(MeshpyError):
    """The exporter cannot be set up like this."""


class Protocol(StrEnum):
    GRPC = "grpc"
    HTTP = "http/protobuf"


class Signal(StrEnum):
    TRACES = "traces"
    METRICS = "metrics"


@dataclass(frozen=True, slots=True)
class Destination:
    """Args:
    url: http:// or https://; of gRPC its path is not used.
    headers: sent with every request: lower-case names.
    certificate: roots to verify the collector by; None: the system's.
    client_certificate, client_key: to be verified by.
    queue: how many spans may wait; more are dropped and counted.
    interval_s: how long spans gather, or the time between two pushes of metrics.
    give_up_s: how long a batch is tried again.
    """

    signal: Signal
    protocol: Protocol
    url: str
    headers: tuple[tuple[str, str], ...] = ()
    certificate: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None
    is_compressed: bool = False
    timeout_s: float = 10.0
    queue: int = 2048
    batch: int = 512
    interval_s: float = 5.0
    give_up_s: float = 60.0


def read_destination(signal: Signal, environment: Mapping[str, str]) -> Destination | None:
    """None when no endpoint is named, or OTEL_SDK_DISABLED or OTEL_…_EXPORTER=none says so.

    Raises:
        OtlpError: a variable has a value that cannot be; the text says what to write.
    """
    word = signal.name
    exporter = environment.get(f"OTEL_{word}_EXPORTER", "otlp")
    if exporter not in ("otlp", "none"):
        raise OtlpError(f"OTEL_{word}_EXPORTER={exporter!r}: write otlp or none")
    if exporter == "none" or environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    own, both = environment.get(f"{_PREFIX}{word}_ENDPOINT", ""), environment.get(f"{_PREFIX}ENDPOINT", "")
    if not (own or both):
        return None

    def value(name: str, default: str = "") -> str:
        return environment.get(f"{_PREFIX}{word}_{name}") or environment.get(_PREFIX + name) or default

    protocol = _protocol(value("PROTOCOL", Protocol.HTTP))
    url = _url(own or both, protocol, is_insecure=value("INSECURE", "false").lower() == "true")
    if protocol is Protocol.HTTP and not own:
        url = f"{url.rstrip('/')}/v1/{signal}"
    compression = value("COMPRESSION", "none")
    if compression not in ("none", "gzip"):
        raise OtlpError(f"{_PREFIX}COMPRESSION={compression!r}: write gzip or none")
    certificate, key = _file(value("CLIENT_CERTIFICATE")), _file(value("CLIENT_KEY"))
    if (certificate is None) != (key is None):
        raise OtlpError(f"{_PREFIX}CLIENT_CERTIFICATE and {_PREFIX}CLIENT_KEY belong together")
    is_traces = signal is Signal.TRACES
    interval = ("OTEL_BSP_SCHEDULE_DELAY", 5000) if is_traces else ("OTEL_METRIC_EXPORT_INTERVAL", 60_000)
    queue = _whole(environment, "OTEL_BSP_MAX_QUEUE_SIZE", 2048, 1_000_000)
    return Destination(
        signal,
        protocol,
        url,
        _headers(value("HEADERS"), _file(environment.get("MESHPY_OTLP_HEADERS_FILE", ""))),
        _file(value("CERTIFICATE")),
        certificate,
        key,
        is_compressed=compression == "gzip",
        timeout_s=_whole({"": value("TIMEOUT", "10000")}, "", 10_000, 600_000, _PREFIX + "TIMEOUT") / 1000,
        queue=queue,
        batch=min(queue, _whole(environment, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512, 10_000)),
        interval_s=_whole(environment, interval[0], interval[1], 3_600_000) / 1000,
    )


def read_resource(environment: Mapping[str, str]) -> dict[str, str]:
    """The attributes of OTEL_RESOURCE_ATTRIBUTES.

    Raises:
        OtlpError: it is not `name=value,name=value`.
    """
    return dict(_pairs(environment.get("OTEL_RESOURCE_ATTRIBUTES", ""), "OTEL_RESOURCE_ATTRIBUTES"))


def _protocol(text: str) -> Protocol:
    try:
        return Protocol(text)
    except ValueError:
        raise OtlpError(f"{_PREFIX}PROTOCOL={text!r}: write http/protobuf or grpc") from None


def _url(text: str, protocol: Protocol, *, is_insecure: bool) -> str:
    if "://" not in text and protocol is Protocol.GRPC:
        text = f"{'http' if is_insecure else 'https'}://{text}"
    parts = urlsplit(text)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in ("http", "https") or not parts.hostname or port == -1 or parts.username:
        raise OtlpError(f"{_PREFIX}ENDPOINT={text!r}: write http://HOST:{_HTTP_PORT} or https://…")
    if port is None and protocol is Protocol.GRPC:
        return parts._replace(netloc=f"{parts.netloc}:{_GRPC_PORT}").geturl()
    return text


def _headers(text: str, file: Path | None) -> tuple[tuple[str, str], ...]:
    """A secret's file holds one `name=value` a line, so that no token stands in a stack file."""
    found = _pairs(text, _PREFIX + "HEADERS")
    if file is not None:
        try:
            lines = file.read_text("utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise OtlpError(f"MESHPY_OTLP_HEADERS_FILE {file} cannot be read: {error}") from error
        for line in filter(None, map(str.strip, lines)):
            name, mark, value = line.partition("=")
            if not mark:
                raise OtlpError(f"MESHPY_OTLP_HEADERS_FILE {file}: write name=value, one a line")
            found.append((name.strip(), value.strip()))
    for name, value in found:
        is_named = bool(name) and name.isascii() and name.replace("-", "").replace("_", "").isalnum()
        if not is_named or not value.isprintable():
            raise OtlpError(f"{_PREFIX}HEADERS: {name!r} is no name of a header, or its value does not print")
    return tuple((name.lower(), value) for name, value in found)


def _pairs(text: str, what: str) -> list[tuple[str, str]]:
    found = []
    for item in filter(None, map(str.strip, text.split(","))):
        name, mark, value = item.partition("=")
        if not mark or not name.strip():
            raise OtlpError(f"{what}: {item!r} is no name=value")
        found.append((unquote(name.strip()), unquote(value.strip())))
    return found


def _file(text: str) -> Path | None:
    return Path(text) if text else None


def _whole(environment: Mapping[str, str], name: str, default: int, highest: int, shown: str = "") -> int:
    text = environment.get(name) or str(default)
    if not text.isdecimal() or not 0 < int(text) <= highest:
        raise OtlpError(f"{shown or name}={text!r}: write a whole number from 1 to {highest}")
    return int(text)
