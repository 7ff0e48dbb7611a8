"""Spans of exchanges that are over: of sampled traces, and of what failed, was denied or was slow.

The caller's sidecar makes a CLIENT span for each attempt, the callee's one SERVER span. Names and attributes
are OpenTelemetry's (semantic conventions 1.44 for HTTP and RPC spans), the mesh's own begin with `meshpy.`.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from meshpy.model.grpc import GRPC_CODES
from proxy.decide.tracing import is_sampled
from proxy.recent import MAX_TEXT, Attempt, Recent, Record, Seen, seen_of
from proxy.span_tags import NO_TAGS, SpanTags

if TYPE_CHECKING:
    from proxy.downstream.life import HttpConnection
    from proxy.exchange import Exchange

__all__ = ["Outbox", "Spans"]

MAX_SPANS = 500
"""Kept between two reports, which are a second apart; what comes above is counted as dropped."""
MAX_WAITING = 1000
MAX_RECALLED = 1000
RECALLED_S = 10.0
"""For so long the exchanges that end are looked at for a trace: its root ends last."""
_GRPC_SERVER_ERRORS = frozenset((2, 4, 12, 13, 14, 15))
"""UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS (RPC conventions, gRPC)."""
_METHODS = frozenset(
    ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY")
)
_VERSIONS = ("1.0", "1.1", "2")
_STATUS_NAMES = {code: name for name, code in GRPC_CODES.items()}

Attributes = dict[str, object]
_Ended = tuple[Record, str, bytes, bytes, Attributes]
"""An exchange, the caller's address, its user agent, the request's id, tags."""


class Spans:
    """Args:
    slow_s: an exchange that took longer is kept although its trace is not sampled.
    recent: where the rest of a trace is looked for.
    """

    __slots__ = ("_ended", "_kept", "_recalled", "dropped", "recent", "slow_s")

    def __init__(self, slow_s: float = 1.0, recent: Recent | None = None) -> None:
        self._ended: list[_Ended] = []
        """Exchanges whose spans are made when they are taken: many at once cost half of one at a time."""
        self._kept: deque[dict[str, object]] = deque()
        self._recalled: dict[bytes, float] = {}
        self.slow_s = slow_s
        self.recent = recent if recent is not None else Recent()
        self.dropped = 0

    def take(self) -> list[dict[str, object]]:
        """What was kept since the last call, as the control plane reads it."""
        ended, self._ended = self._ended, []
        for record, peer_address, agent, request_id, more in ended:
            seen = seen_of(record)
            self._record(seen, _with_known(more, seen, peer_address, agent, request_id))
        kept, self._kept = list(self._kept), deque()
        return kept

    def forget(self) -> None:
        """Nobody wants them."""
        self._ended.clear()
        self._kept.clear()

    def is_wanted(self, exchange: Exchange, took_s: float) -> bool:
        """Whether an exchange that is over leaves spans."""
        trace, reply = exchange.trace, exchange.reply
        if not trace:
            return False
        if is_sampled(trace) or took_s > self.slow_s or exchange.status >= 500:
            return True
        if reply is not None and reply.stage:
            return True
        call = exchange.grpc
        return not exchange.status or (call is not None and call.status in _GRPC_SERVER_ERRORS)

    def record(
        self,
        seen: Record,
        down: HttpConnection,
        exchange: Exchange,
        tags: SpanTags = NO_TAGS,
    ) -> None:
        """Keep the spans of an exchange, with what is known of it only now."""
        if len(self._ended) >= MAX_SPANS:
            self.dropped += 1
            return
        fields = exchange.head.fields
        agent, request_id = fields.get(b"user-agent", b"")[:MAX_TEXT], exchange.request_id[:MAX_TEXT]
        self._ended.append((seen, down.peer_address, agent, request_id, tags.of_request(fields)))

    def recall(self, traces: Collection[str], now: float) -> None:
        """Keep what is known of traces that others kept for a failure, and what ends soon."""
        for each in traces:
            if len(self._recalled) < MAX_RECALLED:
                self._recalled[each.encode("latin-1")] = now + RECALLED_S
        self.look_back(now)

    def look_back(self, now: float) -> None:
        """Keep what has ended meanwhile of the traces that were asked for."""
        if not self._recalled:
            return
        for seen in self.recent.of_traces(self._recalled.keys()):
            self._record(seen, {})
        self._recalled = {trace: until for trace, until in self._recalled.items() if until > now}

    def _record(self, seen: Seen, more: Attributes) -> None:
        trace = seen.trace.decode("latin-1")
        now_s, now = time.time(), time.monotonic()
        shared = {**more, **_shared(seen)}
        base = {
            "trace": trace[3:35],
            "parent": seen.parent.decode("latin-1"),
            "kind": "CLIENT" if seen.is_client else "SERVER",
            "name": _name(seen),
            "sampled": is_sampled(seen.trace),
        }
        attempts = seen.attempt_log or ()
        for number, attempt in enumerate(attempts):
            began_us = _micros(now_s - (now - attempt.started_at))
            took_us = _micros(attempt.ended_at - attempt.started_at)
            self._keep({**base, "span": attempt.span_id, "start_us": began_us, "duration_us": took_us,
                        "error": True, "attributes": _given_up(shared, number, attempt)})  # fmt: skip
        began_at = seen.upstream_started_at if attempts else seen.started_at
        last = {**shared, **_outcome(seen), **_resent(len(attempts), is_rpc=seen.call is not None)}
        if seen.is_client and seen.host is not None:
            last |= _peer(seen.host.name)
        self._keep(
            {
                **base,
                "span": trace[36:52],
                "start_us": _micros(now_s - (now - began_at)),
                "duration_us": _micros(seen.ended_at - began_at),
                "error": _is_failed(seen),
                "attributes": last,
            }
        )

    def _keep(self, span: dict[str, object]) -> None:
        if len(self._kept) >= MAX_SPANS:
            self.dropped += 1
        else:
            self._kept.append(span)


def _with_known(
    more: Attributes, seen: Seen, peer_address: str, agent: bytes, request_id: bytes
) -> Attributes:
    """Add what an exchange alone knew to the tags of a document."""
    if not seen.is_client:
        more |= {"client.address": peer_address, "network.peer.address": peer_address}
        if agent:
            more["user_agent.original"] = agent.decode("latin-1")
    if request_id:
        more["meshpy.request_id"] = request_id.decode("latin-1")
    return more


class Outbox:
    """Spans for the control plane; while it is away the oldest wait, and no more than MAX_WAITING."""

    __slots__ = ("_waiting", "dropped")

    def __init__(self) -> None:
        self._waiting: list[dict[str, object]] = []
        self.dropped = 0

    def offer(self, spans: Sequence[dict[str, object]]) -> None:
        """Keep what there is room for."""
        room = MAX_WAITING - len(self._waiting)
        self._waiting += spans[:room]
        self.dropped += max(0, len(spans) - room)

    def take(self) -> list[dict[str, object]]:
        """What waits."""
        waiting, self._waiting = self._waiting, []
        return waiting


def _micros(seconds: float) -> int:
    return max(0, int(seconds * 1_000_000))


def _resent(number: int, *, is_rpc: bool) -> Attributes:
    return {"meshpy.resend_count" if is_rpc else "http.request.resend_count": number} if number else {}


def _given_up(shared: Attributes, number: int, attempt: Attempt) -> Attributes:
    is_rpc = "rpc.system.name" in shared
    reason = attempt.reason[:MAX_TEXT].replace(" ", "_")
    found = {
        **shared,
        **_resent(number, is_rpc=is_rpc),
        "error.type": str(attempt.status or reason or "_OTHER"),
    }
    if attempt.host:
        found |= _peer(attempt.host)
    if attempt.status and not is_rpc:
        found["http.response.status_code"] = attempt.status
    if attempt.reason:
        found["meshpy.failure"] = attempt.reason[:MAX_TEXT]
    return found


def _peer(name: str) -> Attributes:
    """The host that was spoken to, `10.0.1.7:8080`."""
    address, _, port = name.rpartition(":")
    found: Attributes = {"network.peer.address": address or name}
    if address and port.isdecimal():
        found["network.peer.port"] = int(port)
    return found


def _name(seen: Seen) -> str:
    """Low in cardinality: method and route, or the RPC's full name."""
    if seen.call is not None:
        return seen.path.lstrip("/") or "_OTHER"
    method = seen.method if seen.method in _METHODS else "HTTP"
    return f"{method} {seen.route}" if seen.route else method


def _shared(seen: Seen) -> Attributes:
    host, colon, port = seen.authority.rpartition(":")
    has_port = bool(colon) and port.isdecimal() and not host.endswith(":")
    found: Attributes = {"server.address": (host if has_port else seen.authority).strip("[]")}
    if has_port or seen.is_client:
        found["server.port"] = int(port) if has_port else 80
    if seen.call is not None:
        found |= {"rpc.system.name": "grpc", "rpc.method": seen.path.lstrip("/") or "_OTHER"}
    else:
        found |= _http(seen)
    if seen.is_client:
        service, _, namespace = (seen.plan.service if seen.plan is not None else "").partition(".")
        found |= {"service.peer.name": service} if service else {}
        found |= {"service.peer.namespace": namespace} if namespace else {}
    elif seen.edge.key.source:
        namespace, _, service = seen.edge.key.source.rpartition("/")
        found |= {"service.peer.name": service, "service.peer.namespace": namespace}
    if seen.route:
        found["meshpy.route"] = seen.route
    return found


def _http(seen: Seen) -> Attributes:
    is_known = seen.method in _METHODS
    found: Attributes = {"http.request.method": seen.method if is_known else "_OTHER"}
    if not is_known:
        found["http.request.method_original"] = seen.method[:MAX_TEXT]
    if seen.is_client:
        found["url.full"] = f"http://{seen.authority}{seen.path}"
    else:
        found |= {"url.scheme": "http", "url.path": seen.path}
    found["network.protocol.version"] = _VERSIONS[seen.minor]
    return found


def _is_failed(seen: Seen) -> bool:
    """As the conventions have it: a 4xx is an error for who asked, some gRPC codes for who served."""
    call = seen.call
    if call is not None and call.status is not None:
        return call.status != 0 if seen.is_client else call.status in _GRPC_SERVER_ERRORS
    return not seen.status or seen.status >= 500 or (seen.status >= 400 and seen.is_client)


def _outcome(seen: Seen) -> Attributes:
    found: Attributes = {}
    status, reply, call = seen.status, seen.reply, seen.call
    kind = str(status) if status else seen.flags
    if call is not None:
        if call.status is not None:
            kind = found["rpc.response.status_code"] = _STATUS_NAMES.get(call.status, str(call.status))
    elif status:
        found["http.response.status_code"] = status
    if _is_failed(seen):
        found["error.type"] = kind
    if seen.flags not in ("-", ""):
        found["meshpy.response_flags"] = seen.flags
    if reply is not None and reply.policy:
        found |= {"meshpy.policy": reply.policy, "meshpy.rule": reply.rule, "meshpy.stage": reply.stage}
    if seen.is_denied:
        found["meshpy.verdict"] = "DENIED"
    elif seen.audit:
        found |= {"meshpy.verdict": "AUDIT", "meshpy.policy": seen.audit}
    return found
