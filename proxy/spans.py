"""Spans of exchanges that are over: of sampled traces, and of what failed or was slow.

The caller's sidecar makes a CLIENT span for each attempt, the callee's one SERVER span. Names and attributes
are OpenTelemetry's (semantic conventions for HTTP and RPC spans), the mesh's own begin with `meshpy.`.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from proxy.decide.tracing import is_sampled
from proxy.span_tags import NO_TAGS, SpanTags

if TYPE_CHECKING:
    from proxy.exchange import Exchange
    from proxy.sides import ClientConnection

__all__ = ["Attempt", "Spans"]

MAX_SPANS = 500
"""Kept between two reports, which are a second apart; what comes above is counted as dropped."""
MAX_TEXT = 512
_GRPC_SERVER_ERRORS = frozenset((2, 4, 12, 13, 14, 15))
"""UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS (RPC conventions, gRPC)."""


class Attempt(NamedTuple):
    """A try that was given up.

    Args:
        started_at, ended_at: of the monotonic clock.
        status: 0 when no response came.
    """

    span_id: str
    started_at: float
    ended_at: float
    status: int
    reason: str
    host: str


class Spans:
    """Args:
    slow_s: an exchange that took longer is kept although its trace is not sampled.
    """

    __slots__ = ("_kept", "dropped", "slow_s")

    def __init__(self, slow_s: float = 1.0) -> None:
        self._kept: deque[dict[str, object]] = deque()
        self.slow_s = slow_s
        self.dropped = 0

    def take(self) -> list[dict[str, object]]:
        """What was kept since the last call, as the control plane reads it."""
        kept, self._kept = list(self._kept), deque()
        return kept

    def is_wanted(self, exchange: Exchange, took_s: float) -> bool:
        """Whether an exchange that is over leaves spans."""
        trace = exchange.trace
        if not trace:
            return False
        return is_sampled(trace) or took_s > self.slow_s or _is_failed(exchange, is_client=False)

    def record(
        self,
        down: ClientConnection,
        exchange: Exchange,
        took_s: float,
        tags: SpanTags = NO_TAGS,
        *,
        is_client: bool,
    ) -> None:
        """Keep the spans of an exchange."""
        trace = exchange.trace.decode("latin-1")
        now = time.time()
        shared = tags.of_request(exchange.head.fields) | _shared(down, exchange, is_client=is_client)
        base = {
            "trace": trace[3:35],
            "parent": exchange.parent.decode("latin-1"),
            "kind": "CLIENT" if is_client else "SERVER",
            "name": _name(exchange),
        }
        ended_at = exchange.started_at + took_s
        for number, attempt in enumerate(exchange.attempt_log or ()):
            attributes = {
                **shared,
                **_resent(number),
                "error.type": attempt.reason[:MAX_TEXT] or str(attempt.status),
            }
            attributes |= {"server.address": attempt.host.rpartition(":")[0]} if attempt.host else {}
            if attempt.status:
                attributes["http.response.status_code"] = attempt.status
            began_us = _micros(now - (ended_at - attempt.started_at))
            took_us = _micros(attempt.ended_at - attempt.started_at)
            self._keep({**base, "span": attempt.span_id, "start_us": began_us, "duration_us": took_us,
                        "error": True, "attributes": attributes})  # fmt: skip
        resent = len(exchange.attempt_log or ())
        began_at = exchange.upstream_started_at if resent else exchange.started_at
        last = {**shared, **_outcome(exchange), **_resent(resent)}
        self._keep(
            {
                **base,
                "span": trace[36:52],
                "start_us": _micros(now - (ended_at - began_at)),
                "duration_us": _micros(ended_at - began_at),
                "error": _is_failed(exchange, is_client=is_client),
                "attributes": last,
            }
        )

    def _keep(self, span: dict[str, object]) -> None:
        if len(self._kept) >= MAX_SPANS:
            self.dropped += 1
        else:
            self._kept.append(span)


def _micros(seconds: float) -> int:
    return max(0, int(seconds * 1_000_000))


def _resent(number: int) -> dict[str, object]:
    return {"http.request.resend_count": number} if number else {}


def _route(exchange: Exchange) -> str:
    plan, reply = exchange.plan, exchange.reply
    return (plan.route_name if plan is not None else "") or (reply.route_name if reply is not None else "")


def _name(exchange: Exchange) -> str:
    """Low in cardinality: method and route, or the RPC's full name."""
    if exchange.grpc is not None:
        return exchange.head.path.lstrip("/")[:MAX_TEXT]
    route = _route(exchange)
    return f"{exchange.head.method} {route}" if route else exchange.head.method


def _shared(down: ClientConnection, exchange: Exchange, *, is_client: bool) -> dict[str, object]:
    head = exchange.head
    authority, path = head.authority.text[:MAX_TEXT], head.path[:MAX_TEXT]
    found: dict[str, object] = {"http.request.method": head.method}
    if is_client:
        found["url.full"] = f"http://{authority}{path}"
        plan = exchange.plan
        found["peer.service"] = plan.service if plan is not None else ""
    else:
        found |= {"url.scheme": "http", "url.path": path, "client.address": down.peer_address}
    host, _, port = authority.rpartition(":")
    found["server.address"] = host or authority
    if host and port.isdecimal():
        found["server.port"] = int(port)
    agent = head.fields.get(b"user-agent")
    if agent is not None and not is_client:
        found["user_agent.original"] = agent.decode("latin-1")[:MAX_TEXT]
    if exchange.grpc is not None:
        service, _, method = head.path.lstrip("/").rpartition("/")
        found |= {"rpc.system": "grpc", "rpc.service": service[:MAX_TEXT], "rpc.method": method[:MAX_TEXT]}
    return found


def _is_failed(exchange: Exchange, *, is_client: bool) -> bool:
    """As the conventions have it: a 4xx is an error for who asked, some gRPC codes for who served."""
    call = exchange.grpc
    if call is not None and call.status is not None:
        return call.status != 0 if is_client else call.status in _GRPC_SERVER_ERRORS
    return exchange.status >= 500 or (exchange.status >= 400 and is_client)


def _outcome(exchange: Exchange) -> dict[str, object]:
    found: dict[str, object] = {}
    status, reply = exchange.status, exchange.reply
    if status:
        found["http.response.status_code"] = status
    if exchange.grpc is not None and exchange.grpc.status is not None:
        found["rpc.grpc.status_code"] = exchange.grpc.status
    if status >= 400 or not status:
        found["error.type"] = str(status) if status else exchange.flags
    if exchange.flags not in ("-", ""):
        found["meshpy.response_flags"] = exchange.flags
    if exchange.request_id:
        found["meshpy.request_id"] = exchange.request_id.decode("latin-1")[:MAX_TEXT]
    if reply is not None and reply.policy:
        found |= {"meshpy.policy": reply.policy, "meshpy.rule": reply.rule, "meshpy.stage": reply.stage}
    return found
