"""What is to become of one request: forwarded as a Plan says, or answered with a Reply."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Final

from meshpy.model.resilience import RetryPolicy
from meshpy.model.route import Fault
from proxy.decide.headers import FoldedOps, fold
from proxy.http.events import Header
from proxy.net.pool import Upstream

if TYPE_CHECKING:
    from proxy.exchange import Exchange

__all__ = ["NO_OPS", "NO_RETRY", "Plan", "Reply"]

NO_OPS: Final = fold(())
NO_RETRY = RetryPolicy(attempts=0)


@dataclass(slots=True)
class Plan:
    """How to forward; made once per route and connection, shared by requests, never changed.

    Args:
        service: the destination as logs and metrics show it, `catalog.shop`.
        target: replaces the request target (a rewrite), None leaves it.
        host: replaces Host.
        refusal_is_trusted: the upstream is a sidecar, whose word on what was not sent counts.
        reply_headers: of answers that the mesh makes in the upstream's place.
        copies: sends the mirrored copies of a request that is complete.
        is_straight: has nothing that `exchange.straight` does not know of. A field that is added here takes
            plans that set it off that road until it is named in _STRAIGHT.
    """

    upstream: Upstream
    service: str
    route_name: str = ""
    retry: RetryPolicy = NO_RETRY
    timeout_s: float | None = None
    target: bytes | None = None
    host: bytes | None = None
    request_ops: FoldedOps = NO_OPS
    response_ops: FoldedOps = NO_OPS
    fault: Fault | None = None
    refusal_is_trusted: bool = False
    reply_headers: tuple[Header, ...] = ()
    copies: Callable[[Exchange], None] | None = None
    is_straight: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.is_straight = all(
            each.name in _STRAIGHT or getattr(self, each.name) == each.default for each in fields(self)
        )


_STRAIGHT: Final = frozenset((
    "is_straight", "upstream", "service", "route_name", "retry", "timeout_s", "target", "host",
    "refusal_is_trusted",
))  # fmt: skip


@dataclass(slots=True)
class Reply:
    """An answer of the mesh itself.

    Args:
        flags: Envoy's response flags, `-` for none.
        details: Envoy's response code details; names the cause.
        grpc_status: of an answer to a call of gRPC, where it does not follow from `status`.
        policy, rule, stage: who denied, for the log and the metrics.
    """

    status: int
    flags: str = "-"
    details: str = ""
    body: bytes = b""
    headers: tuple[Header, ...] = ()
    service: str = ""
    route_name: str = ""
    policy: str = ""
    rule: str = ""
    stage: str = ""
    grpc_status: int | None = None
    content_type: bytes = field(default=b"text/plain; charset=utf-8")
