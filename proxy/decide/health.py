"""Active checks: so many results in a row change what a host is taken for. And gRPC's health messages."""

from __future__ import annotations

from meshpy.model.resilience import HealthCheck
from proxy.decide.outlier import Health

__all__ = ["grpc_request", "is_serving", "note"]

_SERVING = b"\x08\x01"
"""`HealthCheckResponse{status: SERVING}` (grpc.health.v1): field 1, varint 1."""
_PREFIX_BYTES = 5


def note(health: Health, check: HealthCheck, *, is_good: bool) -> bool:
    """Count a result; True when the host is now taken for something else than before."""
    row = health.checks_in_row
    health.checks_in_row = max(row, 0) + 1 if is_good else min(row, 0) - 1
    if is_good:
        changes = health.is_failing and health.checks_in_row >= check.healthy_threshold
    else:
        changes = not health.is_failing and -health.checks_in_row >= check.unhealthy_threshold
    if changes:
        health.is_failing = not is_good
    return changes


def grpc_request(service: str) -> bytes:
    """The content of a call of `grpc.health.v1.Health/Check`."""
    name = service.encode()
    message = b"\x0a" + _varint(len(name)) + name if name else b""
    return b"\0" + len(message).to_bytes(4, "big") + message


def is_serving(content: bytes, grpc_status: bytes | None) -> bool:
    """Whether an answer of `grpc.health.v1.Health/Check` says SERVING."""
    return grpc_status == b"0" and content[_PREFIX_BYTES:] == _SERVING


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)
