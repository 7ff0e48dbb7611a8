"""Fields by which one sidecar tells another what HTTP has no word for."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from proxy.http.head import ResponseHead
from proxy.plan import Plan

__all__ = ["HALF_CLOSE", "NOT_SENT", "TIMEOUT_MS", "names_to_hide"]

TIMEOUT_MS: Final = b"x-meshpy-timeout-ms"
"""From sidecar to sidecar: for how long the caller will wait, from the end of its request on."""

NOT_SENT: Final = b"x-meshpy-not-sent"
"""On a 503 of a sidecar: nothing of the request reached the application, any method may be sent again."""

HALF_CLOSE: Final = b"x-meshpy-half-close"
"""On a request for a tunnel and on the answer that makes one: over TLS too, each direction ends by itself."""

_DENIED_BY: Final = b"x-meshpy-denied-by"
"""On a sidecar's 403: which stage refused."""


def names_to_hide(plan: Plan, head: ResponseHead) -> Collection[bytes]:
    """Names of a response that the client is not to see: those of the route, and the mesh's own."""
    drop, fields = plan.response_ops.drop, head.fields
    if plan.refusal_is_trusted:
        return (*drop, NOT_SENT) if NOT_SENT in fields else drop
    if _DENIED_BY in fields or NOT_SENT in fields:
        return (*drop, _DENIED_BY, NOT_SENT)
    return drop
