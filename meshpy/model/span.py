"""A span: one side of one attempt of a request, as sidecars make it and back ends keep it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

__all__ = ["Attribute", "Kind", "Span"]

_OVERHEAD_BYTES = 400

Attribute: TypeAlias = str | int | float | bool


class Kind(StrEnum):
    """OpenTelemetry's kinds that a sidecar makes."""

    CLIENT = "CLIENT"
    SERVER = "SERVER"


@dataclass(frozen=True, slots=True)
class Span:
    """Args:
    service: `web.shop`: the app that the sidecar speaks for.
    parent_id: empty for the root of a trace.
    start_us: microseconds since the epoch.
    is_sampled: whether its trace is; otherwise a failure, a denial or slowness had it kept.
    """

    trace_id: str
    span_id: str
    parent_id: str
    service: str
    kind: Kind
    name: str
    start_us: int
    duration_us: int
    is_error: bool
    attributes: Mapping[str, Attribute]
    is_sampled: bool = True

    @property
    def size_bytes(self) -> int:
        """About what it takes in memory."""
        texts = sum(len(key) + len(str(value)) + 120 for key, value in self.attributes.items())
        return _OVERHEAD_BYTES + len(self.name) + texts
