"""A request as the next hop judges it: after rewrites and header changes of its route."""

from __future__ import annotations

from meshpy.engine.request import Request
from meshpy.engine.route import Routed
from meshpy.model.route import HeaderOps

__all__ = ["as_forwarded"]


def as_forwarded(routed: Routed, request: Request) -> Request:
    """Apply what the route does, in Envoy's order: the destination's headers, then the rule's."""
    headers = {name: list(values) for name, values in request.headers.items()}
    for operations in (routed.destination.request_headers, routed.rule.request_headers):
        _apply(headers, operations)
    authority = routed.authority.lower() if routed.authority is not None else request.authority
    named = headers.pop(":authority", None) or headers.get("host")
    if named and routed.authority is None and named != list(request.headers.get("host", ())):
        authority = named[-1].lower()
    target = routed.target
    return Request(
        request.method,
        target.path if target is not None else request.path,
        target.query if target is not None else request.query,
        authority,
        request.scheme,
        headers,
        request.auth,
    )


def _apply(headers: dict[str, list[str]], operations: HeaderOps) -> None:
    for name in operations.remove:
        headers.pop(name.lower(), None)
    for name, value in operations.set:
        headers[name.lower()] = [value]
    for name, value in operations.add:
        headers.setdefault(name.lower(), []).append(value)
