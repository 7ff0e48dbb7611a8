"""Who speaks: the resource of spans and metrics, and attributes as OTLP has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache

from meshpy.model.span import Attribute
from meshpy.protobuf import double, message, text, varint

__all__ = ["SCHEMA_URL", "SCOPE", "Resource", "attributes"]

SCHEMA_URL = "https://opentelemetry.io/schemas/1.44.0"
SCOPE = message(1, text(1, "meshpy"), text(2, "0.1.0"))
"""InstrumentationScope: who measured."""
_REMEMBERED = 1024


@dataclass(frozen=True, slots=True)
class Resource:
    """Args:
    service, namespace: the app that is spoken for: `web`, `shop`.
    instance: what tells its replicas apart: the task.
    more: further attributes; they do not override those above.
    """

    service: str
    namespace: str
    instance: str = ""
    node: str = ""
    more: Mapping[str, str] = field(default_factory=dict)

    def encode(self, field_number: int) -> bytes:
        """As the field of a Resource… message."""
        known = {
            **self.more,
            "service.name": self.service,
            "service.namespace": self.namespace,
            "service.instance.id": self.instance,
            "host.name": self.node,
            "telemetry.sdk.name": "meshpy",
            "telemetry.sdk.language": "python",
            "telemetry.sdk.version": "0.1.0",
        }
        return message(field_number, *attributes(1, ((k, v) for k, v in known.items() if v)))


def attributes(field_number: int, items: Iterable[tuple[str, Attribute]]) -> list[bytes]:
    """KeyValue messages (common/v1)."""
    return [_pair(field_number, name, value) for name, value in items]


@lru_cache(maxsize=_REMEMBERED, typed=True)
def _pair(field_number: int, name: str, value: Attribute) -> bytes:
    """Most attributes of a span are those of the one before: three times as fast remembered."""
    return message(field_number, text(1, name), message(2, _value(value)))


def _value(value: Attribute) -> bytes:
    if isinstance(value, bool):
        return varint(2, value)
    if isinstance(value, int):
        return varint(3, value)
    if isinstance(value, float):
        return double(4, value)
    return text(1, value)
