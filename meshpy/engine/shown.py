"""A route as people read it: who wrote it, and all that it does beside forwarding."""

from __future__ import annotations

from typing import Any

from meshpy.model.match import Present, StringMatch
from meshpy.model.route import Cors, Destination, Fault, Mirror, RouteRule, TcpRoute

__all__ = ["shown_destination", "shown_rule", "shown_tcp"]


def shown_rule(rule: RouteRule, host: str, port: int) -> dict[str, Any]:
    """The `route` object of an explanation; what a rule does not do is null or empty."""
    return {
        "host": host,
        "port": port,
        "policy": rule.policy or None,
        "delegated_by": rule.via or None,
        "rule": rule.name or None,
        "timeout_s": rule.timeout_s,
        "retries": rule.retry.attempts,
        "per_try_timeout_s": rule.retry.per_try_timeout_s,
        "fault": _shown_fault(rule.fault) if rule.fault is not None else None,
        "mirrors": [_shown_mirror(mirror) for mirror in rule.mirrors],
        "cors": _shown_cors(rule.cors) if rule.cors is not None else None,
    }


def shown_tcp(route: TcpRoute, port: int) -> dict[str, Any]:
    """The same for an opaque connection."""
    return {
        "host": route.host,
        "port": port,
        "policy": route.policy or None,
        "server_names": list(route.sni_hosts),
        "subnets": list(route.subnets),
    }


def shown_destination(destination: Destination, share: float) -> dict[str, Any]:
    return {
        "host": destination.host,
        "subset": destination.subset or None,
        "cluster": destination.cluster,
        "share": round(share, 6),
    }


def _shown_mirror(mirror: Mirror) -> dict[str, Any]:
    shown = shown_destination(mirror.destination, mirror.pct / 100)
    return {key: value for key, value in shown.items() if key != "share"} | {"percent": mirror.pct}


def _shown_fault(fault: Fault) -> dict[str, Any]:
    return {
        "delay_s": fault.delay_s or None,
        "delay_percent": fault.delay_pct,
        "abort_status": fault.abort_status or None,
        "abort_grpc_status": fault.abort_grpc_status,
        "abort_percent": fault.abort_pct,
    }


def _shown_cors(cors: Cors) -> dict[str, Any]:
    return {
        "origins": [_shown_match(match) for match in cors.allow_origins],
        "methods": list(cors.allow_methods),
        "headers": list(cors.allow_headers),
        "credentials": cors.allow_credentials,
    }


def _shown_match(match: StringMatch) -> str:
    return "*" if isinstance(match, Present) else f"{type(match).__name__.lower()} {match.value}"
