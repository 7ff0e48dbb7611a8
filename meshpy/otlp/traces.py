"""Spans as an ExportTraceServiceRequest (opentelemetry/proto/collector/trace/v1)."""

from __future__ import annotations

from collections.abc import Iterable

from meshpy.model.span import Kind, Span
from meshpy.otlp.resource import SCHEMA_URL, SCOPE, Resource, attributes
from meshpy.protobuf import fixed64, message, text, varint
from meshpy.protobuf import read as read_fields

__all__ = ["encode_spans", "read_rejected"]

_KINDS = {Kind.SERVER: 2, Kind.CLIENT: 3}
_STATUS_ERROR = 2
_SAMPLED = 1
_IS_REMOTE_KNOWN, _IS_REMOTE = 0x100, 0x200
"""SpanFlags: whether the parent's context came from another process is known, and it did."""


def encode_spans(spans: Iterable[tuple[Resource, Span]]) -> bytes:
    """One request; spans of one resource stand together."""
    groups: dict[bytes, list[bytes]] = {}
    printed: dict[int, bytes] = {}
    for resource, span in spans:
        key = printed.get(id(resource)) or printed.setdefault(id(resource), resource.encode(1))
        groups.setdefault(key, []).append(message(2, *_span(span)))
    schema = text(3, SCHEMA_URL)
    return b"".join(
        message(1, resource, message(2, SCOPE, *found, schema), schema) for resource, found in groups.items()
    )


def _span(span: Span) -> list[bytes]:
    start_ns = span.start_us * 1000
    flags = _SAMPLED * span.is_sampled | (_IS_REMOTE_KNOWN | _IS_REMOTE if span.parent_id else 0)
    parts = [
        message(1, bytes.fromhex(span.trace_id)),
        message(2, bytes.fromhex(span.span_id)),
        text(5, span.name),
        varint(6, _KINDS[span.kind]),
        fixed64(7, start_ns),
        fixed64(8, start_ns + span.duration_us * 1000),
        *attributes(9, span.attributes.items()),
    ]
    if span.parent_id:
        parts.insert(2, message(4, bytes.fromhex(span.parent_id)))
    if span.is_error:
        parts.append(message(15, varint(3, _STATUS_ERROR)))
    parts.append(_fixed32_flags(flags))
    return parts


def _fixed32_flags(flags: int) -> bytes:
    """Field 16 is a fixed32."""
    return b"\x85\x01" + flags.to_bytes(4, "little")


def read_rejected(data: bytes) -> tuple[int, str]:
    """Of an Export…ServiceResponse: how many items were not taken, and why.

    Raises:
        BadMessageError: it is none.
    """
    count, why = 0, ""
    for field, value in read_fields(data):
        if field == 1 and isinstance(value, bytes):
            for inner, found in read_fields(value):
                if inner == 1 and isinstance(found, int):
                    count = found
                elif inner == 2 and isinstance(found, bytes):
                    why = found.decode("utf-8", "replace")
    return count, why
