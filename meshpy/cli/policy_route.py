"""The route of an explanation in words: who wrote it, who delegated, what it does beside forwarding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["route_lines"]


def route_lines(route: Mapping[str, Any] | None) -> Iterator[str]:
    """One line for each thing that a person would want to know; nothing for a host's own default route."""
    if route is None or not route.get("policy"):
        return
    rule = f" rule {route['rule']}" if route.get("rule") else ""
    by = f", delegated by {route['delegated_by']}" if route.get("delegated_by") else ""
    yield f"route: {route['policy']}{rule}{by}"
    if route.get("rewritten_path"):
        yield f"path rewritten to {route['rewritten_path']}"
    for mirror in route.get("mirrors") or ():
        subset = f" subset {mirror['subset']}" if mirror["subset"] else ""
        yield f"mirrored: {mirror['percent']:g} % to {mirror['host']}{subset}"
    if cors := route.get("cors"):
        yield f"CORS: origins {', '.join(cors['origins']) or 'none'}"
    if fault := route.get("fault"):
        yield f"fault: {', '.join(_faults(fault))}"


def _faults(fault: Mapping[str, Any]) -> Iterator[str]:
    if fault["delay_s"]:
        yield f"{fault['delay_percent']:g} % delayed by {fault['delay_s']:g} s"
    if fault["abort_grpc_status"] is not None:
        yield f"{fault['abort_percent']:g} % aborted with gRPC status {fault['abort_grpc_status']}"
    elif fault["abort_status"]:
        yield f"{fault['abort_percent']:g} % aborted with {fault['abort_status']}"
