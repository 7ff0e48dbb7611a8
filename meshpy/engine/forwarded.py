"""A request as the next hop judges it: after rewrites and header changes of its route."""

from __future__ import annotations

from collections.abc import Sequence

from meshpy.engine.request import Request
from meshpy.engine.route import Routed
from meshpy.model.route import HeaderOps

__all__ = ["as_forwarded"]


def as_forwarded(routed: Routed, request: Request) -> Request:
    """Apply what the route does, in Envoy's order: the destination's headers, then the rule's."""
    target = routed.target
    operations = (routed.destination.request_headers, routed.rule.request_headers)
    headers, authority = request.headers, routed.authority
    if any(operation.set or operation.add or operation.remove for operation in operations):
        headers, authority = _changed(request, routed.authority, operations)
    elif target is None and authority is None:
        return request
    return Request(
        request.method,
        target.path if target is not None else request.path,
        target.query if target is not None else request.query,
        authority.lower() if authority is not None else request.authority,
        request.scheme,
        headers,
        request.auth,
    )


def _changed(
    request: Request, authority: str | None, operations: Sequence[HeaderOps]
) -> tuple[dict[str, list[str]], str | None]:
    """The headers after the operations, and the authority when they changed it."""
    headers = {name: list(values) for name, values in request.headers.items()}
    for operation in operations:
        _apply(headers, operation)
    named = headers.pop(":authority", None) or headers.get("host")
    if named and authority is None and named != list(request.headers.get("host", ())):
        authority = named[-1]
    return headers, authority


def _apply(headers: dict[str, list[str]], operations: HeaderOps) -> None:
    for name in operations.remove:
        headers.pop(name.lower(), None)
    for name, value in operations.set:
        headers[name.lower()] = [value]
    for name, value in operations.add:
        headers.setdefault(name.lower(), []).append(value)
