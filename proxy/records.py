"""An exchange as tap, logs and `top` tell it: no header, no query, no content; and paths by their class."""

from __future__ import annotations

from typing import Any

from meshpy.model.paths import path_class
from proxy.recent import Seen

__all__ = ["SIDES", "class_of", "record_of"]

SIDES = {"inbound": "in", "outbound": "out"}


def record_of(seen: Seen, at: float) -> dict[str, Any]:
    """Args:
    at: when it ended, seconds since the epoch.
    """
    key, reply = seen.edge.key, seen.reply
    return {
        "at": round(at, 3),
        "direction": SIDES[key.direction],
        "source": key.source,
        "destination": key.destination or key.service,
        "protocol": key.protocol,
        "mtls": key.is_mtls,
        "method": seen.method,
        "authority": seen.authority,
        "path": seen.path,
        "route": seen.route,
        "status": seen.status,
        "flags": seen.flags,
        "verdict": seen.verdict,
        "duration_ms": round(seen.took_s * 1000, 3),
        "bytes_sent": seen.bytes_sent,
        "bytes_received": seen.bytes_received,
        "attempts": seen.attempts,
        "policy": seen.policy,
        "rule": reply.rule if reply is not None else "",
        "trace_id": seen.trace[3:35].decode("latin-1"),
    }


def class_of(seen: Seen) -> str:
    """What its path is one of."""
    return path_class(seen.path)
