"""One HTTP exchange: a request of a downstream connection, its tries upstream, the response.

Both sides are known through the seam of `sides` alone: the exchange hands heads, content and ends on, each
side writes them in its own protocol.

Hot file: a callback state machine. A task with an await costs 2 µs and a timeout object 2.3 µs, against some
30 µs for the whole exchange (PERFORMANCE.md); here the straight road allocates one object, one list and two
byte strings. Head and body leave in one write: joining them saves 7 µs.

Life: `begin` (head judged) → `flush` (content for the upstream) … → a connection → `on_response` … →
`_complete`, or `_fail` from anywhere. After `is_over` every callback is ignored.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import replace
from time import monotonic
from typing import TYPE_CHECKING

from meshpy.model.resilience import ConsistentHash
from proxy.decide.affinity import key_of, made_cookie, wants_cookie
from proxy.decide.grpc import CONTENT_TYPE, DEADLINE_EXCEEDED, UNAVAILABLE, Call, status_of_http, trailers_of
from proxy.decide.outlier import Reply as HostReply
from proxy.decide.retry import (
    IDEMPOTENT,
    MAX_RETRY_AFTER_S,
    Outcome,
    backoff_s,
    is_retryable,
    is_status_retryable,
    retry_after_s,
)
from proxy.decide.tracing import next_attempt
from proxy.http.events import Body, End, Header, Headers, Refused
from proxy.http.h1 import Event
from proxy.http.head import RequestHead, ResponseHead
from proxy.net.connection import UpstreamSide
from proxy.net.pool import Host
from proxy.plan import Plan, Reply
from proxy.recent import Attempt
from proxy.straight import answer

if TYPE_CHECKING:
    from proxy.net.timers import Timer
    from proxy.sides import DownstreamSide

__all__ = ["NOT_SENT", "OVERLOADED", "REPLAY_LIMIT_BYTES", "TIMEOUT_MS", "TOO_LARGE", "Exchange"]

REPLAY_LIMIT_BYTES = 64 * 1024
"""A request whose content is longer is not kept for a retry (Envoy's and Istio's buffers are of this size).
"""

TIMEOUT_MS = b"x-meshpy-timeout-ms"
"""From sidecar to sidecar: for how long the caller will wait, from the end of its request on."""

NOT_SENT = b"x-meshpy-not-sent"
"""On a 503 of a sidecar: nothing of the request reached the application, any method may be sent again."""

OVERLOADED = (b"x-envoy-overloaded", b"true")
"""On a 503 of a limit, in Envoy's word: come back later."""

TOO_LARGE = Reply(413, "-", "request_payload_too_large", b"the request's content is too large\n")

_MESH_FIELDS = (b"x-meshpy-denied-by", NOT_SENT)
_SILENT_RETRIES = 1


class Exchange:
    """Invariants.

    `connection` is set while a try owns one; `host.active` counts this exchange while a try runs; `end` is
    set once the request is complete, `is_end_sent` once this try's upstream knows.
    """

    __slots__ = (
        "attempt_log",
        "attempts",
        "bytes_received",
        "bytes_sent",
        "caller_limit_s",
        "connection",
        "cookie",
        "deadline",
        "details",
        "down",
        "drop",
        "end",
        "extra",
        "flags",
        "gather",
        "grpc",
        "head",
        "host",
        "is_end_sent",
        "is_in_try",
        "is_over",
        "is_recovered",
        "is_request_complete",
        "is_response_begun",
        "is_retry_active",
        "is_sent",
        "is_waiting",
        "last_failure",
        "out",
        "out_bytes",
        "parent",
        "plan",
        "replay",
        "replay_bytes",
        "reply",
        "request_id",
        "response_head",
        "silent_retries",
        "started_at",
        "status",
        "trace",
        "tried",
        "tried_status",
        "try_timer",
        "upstream_started_at",
        "upstream_time_s",
    )

    def __init__(self, down: DownstreamSide, head: RequestHead, started_at: float) -> None:
        self.down = down
        self.head = head
        self.started_at = started_at
        self.plan: Plan | None = None
        self.reply: Reply | None = None
        self.host: Host | None = None
        self.connection: UpstreamSide | None = None
        self.extra: Headers = []
        self.drop: Collection[bytes] = ()
        self.cookie = b""
        self.caller_limit_s: float | None = None
        self.end: End | None = None
        self.gather: Callable[[], None] | None = None
        self.out: list[bytes | memoryview] = []
        self.out_bytes = 0
        self.replay: list[bytes | memoryview] | None = None
        self.replay_bytes = 0
        self.grpc: Call | None = None
        self.attempts = 0
        self.silent_retries = 0
        self.tried: list[Host] = []
        self.is_over = self.is_sent = self.is_end_sent = self.is_waiting = self.is_in_try = False
        self.is_request_complete = self.is_response_begun = self.is_retry_active = self.is_recovered = False
        self.response_head: ResponseHead | None = None
        self.status = self.tried_status = 0
        self.flags = "-"
        self.details = "via_upstream"
        self.last_failure = ""
        self.request_id = self.trace = self.parent = b""
        self.attempt_log: tuple[Attempt, ...] | None = None
        self.bytes_received = self.bytes_sent = 0
        self.deadline: Timer | None = None
        self.try_timer: Timer | None = None
        self.upstream_started_at = self.upstream_time_s = 0.0

    # -- request

    def begin(self, plan: Plan, extra: Headers, drop: Collection[bytes]) -> None:
        """Forward: the head is written with what follows it, at the next `flush`.

        Args:
            extra: fields to add to those received.
            drop: lower-case names of received fields to leave out.
        """
        self.plan = plan
        self.extra = extra
        self.drop = drop
        if plan.retry.attempts or self.head.method in IDEMPOTENT or plan.copies is not None:
            self.replay = [bytes(data) for data in self.out] if self.out else []
        upstream = plan.upstream
        upstream.active_requests += 1
        if upstream.counts_requests:
            upstream.count_request()
        if self.grpc is not None and self.grpc.timeout_s is not None:
            self.deadline = self.down.own.wheel.after(self.grpc.timeout_s, self._on_call_deadline)

    def on_body(self, data: bytes | memoryview) -> None:
        """Content of the request."""
        self.bytes_received += len(data)
        if self.is_over:
            return
        if self.bytes_received > self.down.own.max_request_bytes:
            self.answer_or_break(TOO_LARGE)
            return
        if self.grpc is not None:
            self.grpc.requests.feed(data)
        self._queue(data)
        if self.gather is not None:
            self.gather()

    def on_request_end(self, end: End) -> None:
        """The request is complete: from here its timeout runs."""
        self.is_request_complete = True
        self.end = end
        if self.is_over or self.plan is None:
            if self.gather is not None:
                self.gather()
            return
        if self.plan.copies is not None:
            self.plan.copies(self)
        timeout_s = self.plan.timeout_s
        if self.caller_limit_s is not None:
            timeout_s = min(self.caller_limit_s, math.inf if timeout_s is None else timeout_s)
        if timeout_s is not None and self._is_before_call_deadline(timeout_s):
            self.deadline = self.down.own.wheel.after(timeout_s, self.on_deadline)

    def _is_before_call_deadline(self, timeout_s: float) -> bool:
        """Whether a timeout that begins now ends before the client's own deadline, which it then replaces."""
        call = self.grpc
        if call is None or call.timeout_s is None:
            return True
        if self.started_at + call.timeout_s < monotonic() + timeout_s:
            return False
        if self.deadline is not None:
            self.deadline.cancel()
        return True

    def _queue(self, data: bytes | memoryview) -> None:
        self.out.append(data)
        self.out_bytes += len(data)
        if self.replay is not None:
            self.replay_bytes += len(data)
            if self.replay_bytes > REPLAY_LIMIT_BYTES:
                self.replay = None
            else:
                self.replay.append(bytes(data) if type(data) is memoryview else data)
        if self.connection is None and self.out_bytes > REPLAY_LIMIT_BYTES:
            self.down.pause_request()

    def flush(self) -> None:
        """Write what was gathered, or begin the first try."""
        if self.is_over or self.plan is None:
            return
        if self.connection is not None:
            if self.out or (self.end is not None and not self.is_end_sent):
                self._write(self.connection)
        elif not self.is_waiting and not self.attempts:
            self._try()

    def _write(self, connection: UpstreamSide) -> None:
        out = self.out
        end = self.end
        if out:
            self.out = []
            self.out_bytes = 0
        if end is not None:
            self.is_end_sent = True
        connection.send(self, out, end)
        self.is_sent = True

    # -- tries

    def _try(self) -> None:
        plan = self.plan
        assert plan is not None  # noqa: S101 - `flush` and `_retry` have checked
        upstream = plan.upstream
        if upstream.active_requests > upstream.cluster.pool.max_requests:
            upstream.stats.overflow["requests"] += 1
            self._fail_overflow()
            return
        tried = self.tried if plan.retry.ignore_previous_hosts else ()
        if upstream.affinity is None:
            host = upstream.pick(tried, is_remote=self.attempts > 0 and plan.retry.remote_localities)
        else:
            host = upstream.pick(tried, self._affinity_key(upstream.affinity))
        if host is None:
            self._fail(503, "UH", "no_healthy_upstream", b"no healthy upstream", is_unsent=True)
            return
        self.try_host(plan, host)

    def try_host(self, plan: Plan, host: Host) -> None:
        """Send to a host that was picked, when it has a connection."""
        self.attempts += 1
        self.is_sent = self.is_end_sent = False
        self.tried_status = 0
        self.host = host
        host.active += 1
        self.is_in_try = True
        self.upstream_started_at = monotonic()
        if plan.retry.per_try_timeout_s is not None:
            self.try_timer = self.down.own.wheel.after(plan.retry.per_try_timeout_s, self.on_try_timeout)
        try:
            connection = host.acquire(self)
        except OverflowError:
            self._fail_overflow()
            return
        if connection is not None:
            self.on_connection(connection)
        else:
            self.is_waiting = True

    def _affinity_key(self, policy: ConsistentHash) -> int | None:
        """The key of consistent hashing; a client without the cookie that it asks for gets one."""
        down = self.down
        key = key_of(policy, self.head, down.connection.peer_address)
        if key is None and wants_cookie(policy):
            self.cookie, key = made_cookie(policy, down.own.ids.hex(32))
        return key

    def on_connection(self, connection: UpstreamSide) -> None:
        """A pooled or new connection is ours."""
        if self.is_waiting and self.plan is not None:
            self.plan.upstream.stats.waited(monotonic() - self.upstream_started_at)
        self.is_waiting = False
        self.connection = connection
        connection.begin(self, self.head.method)
        if self.attempts > 1 and self.replay is not None:
            self.out = list(self.replay)
        self._write(connection)
        self.down.resume_request()

    def on_connect_failure(self, reason: str) -> None:
        """No connection could be made; nothing was sent."""
        self.is_waiting = False
        self.last_failure = reason
        self._judge_host(HostReply.LOCAL_ORIGIN)
        self._on_failed_try(Outcome.CONNECT_FAILURE, reason)

    def on_upstream_lost(self, reason: str, *, is_unsent: bool = False) -> None:
        """The connection ended before its response did.

        Args:
            is_unsent: the upstream says that it did nothing (HTTP/2: REFUSED_STREAM, GOAWAY).
        """
        connection, self.connection = self.connection, None
        if self.is_over:
            return
        self.last_failure = reason
        if is_unsent and not self.is_response_begun:
            self._on_failed_try(Outcome.REFUSED, reason)
            return
        self._judge_host(HostReply.LOCAL_ORIGIN, is_sent=self.is_sent)
        if self.is_response_begun:
            self._break("UC", f"upstream_reset_after_response_started{{{reason.replace(' ', '_')}}}")
            return
        is_stale = connection is not None and connection.is_reused
        self._on_failed_try(Outcome.STALE if is_stale else Outcome.RESET, reason)

    def on_try_timeout(self) -> None:
        """The time of one try is over."""
        self.try_timer = None
        if self.is_over or self.is_response_begun:
            return
        self.last_failure = "per try timeout"
        self._judge_host(HostReply.LOCAL_ORIGIN, is_sent=self.is_sent)
        self._drop_connection()
        self._on_failed_try(Outcome.PER_TRY_TIMEOUT, "per try timeout")

    def _on_failed_try(self, outcome: Outcome, reason: str) -> None:
        """Retry, or answer with what the last try came to."""
        self._end_try()
        plan = self.plan
        if plan is not None and self._may_retry(plan, outcome):
            self._retry(is_silent=outcome is Outcome.STALE and not self._is_policy_retry(plan, Outcome.RESET))
            return
        flags = {Outcome.CONNECT_FAILURE: "UF", Outcome.REFUSED: "UF", Outcome.PER_TRY_TIMEOUT: "UT"}.get(
            outcome, "UC"
        )
        if self.attempts > 1 and plan is not None and self.attempts > plan.retry.attempts:
            flags += ",URX"
        if outcome is Outcome.PER_TRY_TIMEOUT:
            self._fail(504, flags, "upstream_per_try_timeout", b"upstream request timeout")
            return
        body = b"upstream connect error or disconnect/reset before headers. reset reason: " + reason.encode()
        details = f"upstream_reset_before_response_started{{{reason}}}"
        is_unsent = outcome in (Outcome.CONNECT_FAILURE, Outcome.REFUSED)
        self._fail(503, flags, details, body, is_unsent=is_unsent)

    def _may_retry(self, plan: Plan, outcome: Outcome) -> bool:
        if self.replay is None and self.replay_bytes > REPLAY_LIMIT_BYTES:
            return False
        if (
            outcome is Outcome.STALE
            and self.head.method in IDEMPOTENT
            and self.silent_retries < _SILENT_RETRIES
        ):
            return True
        return self._is_policy_retry(plan, Outcome.RESET if outcome is Outcome.STALE else outcome)

    def _is_policy_retry(self, plan: Plan, outcome: Outcome) -> bool:
        policy = plan.retry
        if self.attempts - self.silent_retries > policy.attempts:
            return False
        if not is_retryable(policy, outcome, self.head.method, is_sent=self.is_sent):
            return False
        is_sent = self.is_sent and outcome is not Outcome.REFUSED
        return plan.upstream.may_retry(is_active=self.is_retry_active, is_sent=is_sent)

    def _retry(self, *, is_silent: bool = False, pause_s: float = 0.0) -> None:
        plan = self.plan
        assert plan is not None  # noqa: S101 - only an exchange with a plan has tries
        if self.host is not None:
            self.tried.append(self.host)
        if self.attempt_log is not None:
            self._note_attempt()
        self.out = []
        self.out_bytes = 0
        if is_silent:
            self.silent_retries += 1
            self._try()
            return
        if not self.is_retry_active:
            self.is_retry_active = True
            plan.upstream.active_retries += 1
        plan.upstream.begin_retry()
        self.is_waiting = True
        number = self.attempts - self.silent_retries
        pause_s += backoff_s(plan.retry, number, self.down.own.draw())
        self.down.own.wheel.after(pause_s, self._try_again)

    def _note_attempt(self) -> None:
        """Write down the try that was given up; the next one is another span of the trace."""
        host, reason = self.host, self.last_failure
        span_id = self.trace[36:52].decode("latin-1")
        name = host.name if host is not None else ""
        attempt = Attempt(span_id, self.upstream_started_at, monotonic(), self.tried_status, reason, name)
        self.attempt_log = (*(self.attempt_log or ()), attempt)
        self.trace, self.extra = next_attempt(self.trace, self.down.own.ids, self.extra)

    def _try_again(self) -> None:
        self.is_waiting = False
        if not self.is_over:
            self._try()

    def _end_try(self) -> None:
        if self.try_timer is not None:
            self.try_timer.cancel()
            self.try_timer = None
        if self.is_in_try and self.host is not None:
            self.is_in_try = False
            self.host.active -= 1

    def _drop_connection(self) -> None:
        """Leave the connection of a try that is given up; it cannot serve anyone else."""
        if self.is_waiting and self.host is not None:
            self.host.give_up(self)
            self.is_waiting = False
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.abort()

    def _judge_host(self, reply: HostReply, *, is_sent: bool = False) -> None:
        if self.host is not None and self.plan is not None:
            self.plan.upstream.judge(self.host, reply, is_sent=is_sent)

    # -- response

    on_whole_response = answer

    def on_response(self, events: list[Event]) -> None:
        """Forward what the upstream sent, in one write."""
        if self.is_over:
            return
        down = self.down
        is_complete = False
        for event in events:
            kind = type(event)
            if kind is Body:
                data = event.data  # type: ignore[union-attr]
                self.bytes_sent += len(data)
                if self.grpc is not None:
                    self.grpc.responses.feed(data)
                down.send_body(data)
            elif kind is ResponseHead:
                if self.grpc is not None:
                    self.grpc.take_status(_early_status(events))
                if not self._take_head(event):  # type: ignore[arg-type]
                    return
            elif kind is End:
                if self.grpc is not None:
                    self._end_call(self.grpc, event)  # type: ignore[arg-type]
                down.send_end(event.trailers)  # type: ignore[union-attr]
                is_complete = True
            else:
                self._on_refused(event)  # type: ignore[arg-type]
                return
        down.flush_response()
        if is_complete and self.response_head is not None:
            self._complete()

    def _take_head(self, head: ResponseHead) -> bool:
        """Judge a response head; False when the exchange went another way."""
        plan = self.plan
        if plan is None:
            return False
        if head.is_interim:
            if head.status != 100 or self.head.expect_continue:
                self.down.send_interim(head)
            return True
        status = self.tried_status = head.status
        self.upstream_time_s = monotonic() - self.upstream_started_at
        if status == 101 or (status < 300 and self.head.method == "CONNECT"):
            self._switch(head)
            return False
        call = self.grpc
        if (status >= 500 or call is not None) and self._retry_refused(plan, head):
            return False
        if self.host is not None and (call is None or status != 200):
            plan.upstream.judge_status(self.host, status, self.upstream_time_s)
        is_failed = status >= 400 or (call is not None and bool(call.status))
        if is_failed and (pause_s := self._pause_for_status(plan, head)) is not None:
            self._drop_connection()
            self._end_try()
            self._retry(pause_s=pause_s)
            return False
        if self.try_timer is not None:
            self.try_timer.cancel()
            self.try_timer = None
        self.is_response_begun = True
        self.is_recovered = self.is_retry_active and status < 500
        self.response_head = head
        self.status = status
        self._send_head(plan, head)
        return True

    def _pause_for_status(self, plan: Plan, head: ResponseHead) -> float | None:
        """What the upstream wants waited before a response is asked for again; None when it is not."""
        policy, fields = plan.retry, head.fields
        if not self._can_replay() or self.attempts - self.silent_retries > policy.attempts:
            return None
        is_limited = b"x-envoy-ratelimited" in fields
        grpc_status = b"%d" % self.grpc.status if self.grpc is not None and self.grpc.status else None
        if not is_status_retryable(
            policy, head.status, self.head.method, grpc_status, is_rate_limited=is_limited
        ):
            return None
        pause_s = retry_after_s(fields.get(b"retry-after")) or 0.0
        spent_s = monotonic() - self.started_at
        if pause_s > MAX_RETRY_AFTER_S or (plan.timeout_s is not None and spent_s + pause_s > plan.timeout_s):
            return None
        return pause_s if plan.upstream.may_retry(is_active=self.is_retry_active, is_sent=True) else None

    def _end_call(self, call: Call, end: End) -> None:
        """The status of a call is known: it tells whether the host is well, HTTP's 200 does not."""
        for name, value in end.trailers:
            if name == b"grpc-status":
                call.take_status(value)
        if self.host is not None and self.plan is not None and self.status == 200:
            self.plan.upstream.judge_status(self.host, call.http_status, self.upstream_time_s)

    def _can_replay(self) -> bool:
        return self.replay is not None or not self.replay_bytes

    def _retry_refused(self, plan: Plan, head: ResponseHead) -> bool:
        """A sidecar's 503 that nothing was sent for is a connect failure one hop further."""
        is_unavailable = head.status == 503 or (self.grpc is not None and self.grpc.status == UNAVAILABLE)
        if not is_unavailable or not plan.refusal_is_trusted or NOT_SENT not in head.fields:
            return False
        self._judge_host(HostReply.LOCAL_ORIGIN)
        if not self._can_replay() or not self._is_policy_retry(plan, Outcome.REFUSED):
            return False
        self._drop_connection()
        self._end_try()
        self._retry()
        return True

    def names_to_hide(self, plan: Plan, head: ResponseHead) -> Collection[bytes]:
        """Names of a response that the client is not to see: those of the route, and the mesh's own."""
        drop, fields = plan.response_ops.drop, head.fields
        if plan.refusal_is_trusted:
            return (*drop, NOT_SENT) if NOT_SENT in fields else drop
        if b"x-meshpy-denied-by" in fields or NOT_SENT in fields:
            return (*drop, *_MESH_FIELDS)
        return drop

    def _send_head(self, plan: Plan, head: ResponseHead) -> None:
        ops = plan.response_ops
        drop = self.names_to_hide(plan, head)
        extra: Headers = list(ops.extra) if ops.extra else []
        if self.cookie:
            extra.append((b"set-cookie", self.cookie))
        self.down.send_head(self, head, extra, drop)

    def _switch(self, head: ResponseHead) -> None:
        """101 or a tunnel: from here both sides speak another protocol; only when the client asked for it."""
        connection = self.connection
        is_asked = head.status != 101 or (self.head.upgrade is not None and head.upgrade == self.head.upgrade)
        if not is_asked or connection is None:
            self._on_refused(Refused(502, "upgrade-unasked", "the upstream switched to a protocol unasked"))
            return
        plan = self.plan
        assert plan is not None  # noqa: S101 - `_take_head` has checked
        self.is_response_begun = True
        self.status = head.status
        self.response_head = head
        self._cancel_timers()
        self.connection = None
        self.down.switch(self, connection, head, plan)

    def _on_refused(self, refused: Refused) -> None:
        """The upstream sent what must not be passed on; its connection is not used again."""
        self.last_failure = f"protocol error: {refused.reason}"
        self._judge_host(HostReply.GATEWAY_ERROR)
        self._drop_connection()
        if self.is_response_begun:
            self.down.flush_response()
            self._break("UPE", f"upstream_protocol_error{{{refused.reason}}}")
            return
        self._end_try()
        body = b"upstream connect error or disconnect/reset before headers. reset reason: protocol error"
        self._fail(502, "UPE", f"upstream_protocol_error{{{refused.reason}}}", body)

    def _complete(self) -> None:
        connection, self.connection = self.connection, None
        head = self.response_head
        is_reusable = head is not None and head.keep_alive and self.is_request_complete and not self.out
        self.finish()
        if connection is not None:
            connection.finish(is_reusable=is_reusable)
        self.down.on_exchange_over(self)

    # -- ends

    def answer(self, reply: Reply) -> None:
        """End with an answer of our own, in gRPC's words to a call of gRPC."""
        if self.grpc is not None:
            reply = _in_grpc(self.grpc, reply)
        self.reply = reply
        self.status = reply.status
        self.flags = reply.flags
        self.details = reply.details or "direct_response"
        self._drop_connection()
        self.finish()
        self.bytes_sent = self.down.write_reply(self, reply)
        self.down.on_exchange_over(self)

    def _fail(
        self,
        status: int,
        flags: str,
        details: str,
        body: bytes,
        extra: tuple[Header, ...] = (),
        *,
        is_unsent: bool = False,
    ) -> None:
        service = self.plan.service if self.plan is not None else ""
        route_name = self.plan.route_name if self.plan is not None else ""
        headers = (*self.plan.reply_headers, *extra) if self.plan is not None else extra
        if is_unsent and self.down.tells_not_sent:
            headers = (*headers, (NOT_SENT, b"1"))
        self.answer(Reply(status, flags, details, body, headers, service, route_name))

    def _fail_overflow(self) -> None:
        body = b"upstream connect error or disconnect/reset before headers. reset reason: overflow"
        details = "upstream_reset_before_response_started{overflow}"
        self._fail(503, "UO", details, body, (OVERLOADED,), is_unsent=True)

    def _on_call_deadline(self) -> None:
        """The client's own deadline has passed: so the mesh gives up too, and tells the upstream."""
        self.deadline = None
        if self.is_over or self.grpc is None:
            return
        self.grpc.status = DEADLINE_EXCEEDED
        self._drop_connection()
        if self.is_response_begun:
            self._break("UT", "grpc_deadline_exceeded")
            return
        service, route_name = (self.plan.service, self.plan.route_name) if self.plan is not None else ("", "")
        self.answer(
            Reply(
                504,
                "UT",
                "grpc_deadline_exceeded",
                b"deadline exceeded",
                service=service,
                route_name=route_name,
                grpc_status=DEADLINE_EXCEEDED,
            )
        )

    def on_deadline(self) -> None:
        """The route's timeout: 504, or a broken message when the response has begun."""
        self.deadline = None
        if self.is_over:
            return
        self._judge_host(HostReply.LOCAL_ORIGIN, is_sent=self.is_sent)
        self._drop_connection()
        if self.is_response_begun:
            self._break("UT", "response_timeout")
            return
        self._fail(504, "UT", "response_timeout", b"upstream request timeout")

    def _break(self, flags: str, details: str) -> None:
        """The response cannot be completed: the client must see that, so nothing that ends it is sent."""
        self.flags = flags
        self.details = details
        self._drop_connection()
        self.finish()
        self.down.on_broken(self)

    def cancel(self, details: str = "downstream_remote_disconnect", *, flags: str = "DC") -> None:
        """The client is gone, or has given this request up."""
        if self.is_over:
            return
        self.flags = flags
        self.details = details
        self._drop_connection()
        self.finish()
        self.down.account(self)

    def answer_or_break(self, reply: Reply) -> None:
        """End with an answer, or with a broken message when another answer has begun."""
        if not self.is_response_begun:
            self.answer(reply)
            return
        self.reply = reply
        if self.grpc is not None and self.grpc.status is None:
            self.grpc.status = status_of_http(reply.status)
        self._break(reply.flags, reply.details)

    @property
    def held_bytes(self) -> int:
        """What it keeps in memory: for the upstream, for a retry, for the client."""
        waiting = self.connection.held_bytes if self.connection is not None else 0
        return self.out_bytes + self.replay_bytes + waiting + self.down.held_bytes

    @property
    def moved(self) -> tuple[int, int, bool, int]:
        """What changes while anything moves."""
        return self.bytes_received, self.bytes_sent, self.is_response_begun, self.attempts

    @property
    def stream_idle_s(self) -> float:
        """For how long nothing may move; infinite where there is no limit."""
        plan = self.plan
        return plan.upstream.cluster.pool.stream_idle_timeout_s or math.inf if plan is not None else math.inf

    def finish_tunnel(self) -> None:
        """The tunnel that this exchange became has ended."""
        self.finish()

    def _cancel_timers(self) -> None:
        for timer in (self.deadline, self.try_timer):
            if timer is not None:
                timer.cancel()
        self.deadline = self.try_timer = None

    def finish(self) -> None:
        """Stop timers and counting; nothing is written."""
        if self.deadline is not None or self.try_timer is not None:
            self._cancel_timers()
        if self.is_in_try:
            self._end_try()
        self.is_over = True
        if self.out:
            self.out = []
        self.replay = None
        plan = self.plan
        if plan is not None:
            plan.upstream.active_requests -= 1
            if self.is_retry_active:
                plan.upstream.active_retries -= 1

    def on_upstream_paused(self) -> None:
        self.down.pause_request()
        self.down.own.on_slow_peer()

    def on_upstream_resumed(self) -> None:
        self.down.resume_request()

    def pause_response(self) -> None:
        """The client reads slower than the upstream writes."""
        if self.connection is not None:
            self.connection.pause()

    def resume_response(self) -> None:
        """The client reads again."""
        if self.connection is not None:
            self.connection.resume()


def _early_status(events: list[Event]) -> bytes | None:
    """The status of a call that brings no message: in its head, or in trailers that came along with it."""
    if len(events) > 1 and type(events[1]) is Body:
        return None
    if type(events[-1]) is End and not any(type(event) is Body for event in events):
        for name, value in events[-1].trailers:
            if name == b"grpc-status":
                return value
    for event in events:
        if type(event) is ResponseHead and b"grpc-status" in event.fields:
            return event.fields[b"grpc-status"]
    return None


def _in_grpc(call: Call, reply: Reply) -> Reply:
    """An answer that consists of trailers alone."""
    status = status_of_http(reply.status) if reply.grpc_status is None else reply.grpc_status
    call.status = status
    headers = ((b"content-type", CONTENT_TYPE), *trailers_of(status, reply.body), *reply.headers)
    return replace(reply, status=200, headers=headers, body=b"", grpc_status=status)
