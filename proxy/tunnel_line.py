"""The log's line of an opaque connection: the shapes and modes that requests have hold for it too."""

from __future__ import annotations

import json

from meshpy.model.tap import verdict_of
from proxy.access_log import AccessLog, Line, time_text
from proxy.log_shape import ECS_VERSION, LogOptions, LogShape, end_point, logfmt, without_empty
from proxy.telemetry import EdgeKey

__all__ = ["log_tunnel"]


def log_tunnel(log: AccessLog, options: LogOptions, key: EdgeKey, line: Line, started: float) -> None:
    """Write one line, or none where the mode has none of it.

    Args:
        started: when the connection began, of the wall clock.
    """
    is_odd = bool(line.stage or line.failure) or line.flags != "-"
    if not log.is_on or not options.draws((line.remote_address, started), is_odd=is_odd):
        return
    if options.shape is LogShape.ECS:
        log.write(_ecs(key, line, started))
    elif options.shape is LogShape.LOKI:
        log.write(_logfmt(key, line, started))
    else:
        log.tcp(line, started=started)


def _verdict(line: Line) -> str:
    is_failed = bool(line.failure) or line.flags != "-"
    return verdict_of(is_denied=bool(line.stage), is_failed=is_failed, is_audited=bool(line.audit))


def _ecs(key: EdgeKey, line: Line, started: float) -> bytes:
    verdict, target = _verdict(line), key.destination or key.service
    namespace, _, service = target.rpartition("/")
    upstream = line.upstream_host or line.local_address
    record = {
        "@timestamp": time_text(started),
        "ecs": {"version": ECS_VERSION},
        "message": f"TCP {line.remote_address} {upstream}",
        "log": {"level": "error" if verdict == "ERROR" else "info"},
        "event": {
            "kind": "event", "dataset": "meshpy.access", "category": ["network"],
            "type": ["connection", "denied"] if verdict == "DENIED" else ["connection"],
            "outcome": "failure" if verdict in ("DENIED", "ERROR") else "success",
            "duration": line.duration_ms * 1_000_000, "action": verdict.lower(),
        },
        "source": {**end_point(line.remote_address), "bytes": line.bytes_received},
        "destination": {**end_point(upstream), "bytes": line.bytes_sent},
        "network": {"direction": key.direction, "transport": "tcp",
                    "bytes": line.bytes_received + line.bytes_sent},
        "service": {"name": service or target, "namespace": namespace},
        "tls": {"client": {"server_name": line.server_name}},
        "user": {"id": line.principal},
        "rule": {"name": line.rule, "ruleset": line.policy or line.audit, "category": line.stage},
        "meshpy": {
            "source": key.source, "destination": target, "mtls": key.is_mtls,
            "response_flags": line.flags, "connection_termination_details": line.details,
            "upstream_cluster": line.upstream_cluster, "upstream_transport_failure_reason": line.failure,
        },
    }  # fmt: skip
    return json.dumps(without_empty(record), separators=(",", ":")).encode() + b"\n"


def _logfmt(key: EdgeKey, line: Line, started: float) -> bytes:
    verdict = _verdict(line)
    return logfmt(
        (
            ("ts", time_text(started)), ("level", "error" if verdict == "ERROR" else "info"),
            ("direction", key.direction), ("source", key.source),
            ("destination", key.destination or key.service), ("verdict", verdict), ("protocol", "tcp"),
            ("mtls", str(key.is_mtls).lower()), ("authority", line.server_name), ("flags", line.flags),
            ("details", line.details), ("failure", line.failure), ("duration_ms", line.duration_ms),
            ("bytes_received", line.bytes_received), ("bytes_sent", line.bytes_sent),
            ("cluster", line.upstream_cluster), ("upstream", line.upstream_host),
            ("peer", line.remote_address), ("principal", line.principal),
            ("policy", line.policy or line.audit), ("rule", line.rule), ("stage", line.stage),
        )
    )  # fmt: skip
