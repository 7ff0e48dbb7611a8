"""The state of an exchange, and the half of it that takes the request in.

Hot file: a callback state machine. A task with an await costs 2 µs and a timeout object 2.3 µs, against some
30 µs for the whole exchange (PERFORMANCE.md); here the straight road allocates one object, one list and two
byte strings. Head and body leave in one write: joining them saves 7 µs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from time import monotonic
from typing import TYPE_CHECKING

from proxy.decide.grpc import Call
from proxy.decide.retry import IDEMPOTENT
from proxy.exchange import ends, response, tries
from proxy.exchange.straight import answer as answer_straight
from proxy.exchange.tries import REPLAY_LIMIT_BYTES
from proxy.http.events import End, Headers
from proxy.http.h1 import Event
from proxy.http.head import RequestHead, ResponseHead
from proxy.net.connection import UpstreamSide
from proxy.net.host import Host
from proxy.plan import Plan, Reply
from proxy.recent import Attempt

if TYPE_CHECKING:
    from proxy.net.timers import Timer
    from proxy.sides import DownstreamSide

__all__ = ["TOO_LARGE", "Exchange"]

TOO_LARGE = Reply(413, "-", "request_payload_too_large", b"the request's content is too large\n")


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
            self.replay = []
            for data in self.out:
                self._keep(data)
        upstream = plan.upstream
        upstream.active_requests += 1
        if upstream.counts_requests:
            upstream.count_request()
        if self.grpc is not None and self.grpc.timeout_s is not None:
            self.deadline = self.down.own.wheel.after(self.grpc.timeout_s, self.on_call_deadline)

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
            self._keep(data)
        if self.connection is None and self.out_bytes > REPLAY_LIMIT_BYTES:
            self.down.pause_request()

    def _keep(self, data: bytes | memoryview) -> None:
        """For the next try, unless all that came is too much for it."""
        self.replay_bytes += len(data)
        if self.replay_bytes > REPLAY_LIMIT_BYTES:
            self.replay = None
        elif self.replay is not None:
            # A view keeps all that was read with it: for the most part of it that is cheaper than a copy.
            is_small_part = type(data) is memoryview and 2 * len(data) < len(data.obj)  # type: ignore[arg-type]
            self.replay.append(bytes(data) if is_small_part else data)

    def flush(self) -> None:
        """Write what was gathered, or begin the first try."""
        if self.is_over or self.plan is None:
            return
        if self.connection is not None:
            if self.out or (self.end is not None and not self.is_end_sent):
                tries.write(self, self.connection)
        elif not self.is_waiting and not self.attempts:
            tries.try_next(self)

    # -- tries

    def try_host(self, plan: Plan, host: Host) -> None:
        tries.try_host(self, plan, host)

    def on_connection(self, connection: UpstreamSide) -> None:
        tries.on_connection(self, connection)

    def on_connect_failure(self, reason: str) -> None:
        tries.on_connect_failure(self, reason)

    def on_upstream_lost(self, reason: str, *, is_unsent: bool = False) -> None:
        tries.on_upstream_lost(self, reason, is_unsent=is_unsent)

    def on_try_timeout(self) -> None:
        tries.on_try_timeout(self)

    # -- response

    def on_response(self, events: list[Event]) -> None:
        response.on_response(self, events)

    def on_whole_response(self, head: ResponseHead, data: bytes) -> None:
        answer_straight(self, head, data)

    # -- ends

    def answer(self, reply: Reply) -> None:
        ends.answer(self, reply)

    def answer_or_break(self, reply: Reply) -> None:
        ends.answer_or_break(self, reply)

    def cancel(self, details: str = "downstream_remote_disconnect", *, flags: str = "DC") -> None:
        ends.cancel(self, details, flags=flags)

    def finish(self) -> None:
        ends.finish(self)

    def on_deadline(self) -> None:
        ends.on_deadline(self)

    def on_call_deadline(self) -> None:
        ends.on_call_deadline(self)

    # -- flow

    @property
    def held_bytes(self) -> int:
        """What it keeps in memory: for the upstream, for a retry, for the client."""
        waiting = self.connection.held_bytes if self.connection is not None else 0
        kept = self.replay_bytes if self.replay is not None else 0
        return self.out_bytes + kept + waiting + self.down.held_bytes

    @property
    def moved(self) -> tuple[int, int, bool, int]:
        """What changes while anything moves."""
        return self.bytes_received, self.bytes_sent, self.is_response_begun, self.attempts

    @property
    def stream_idle_s(self) -> float:
        """For how long nothing may move; infinite where there is no limit."""
        plan = self.plan
        return plan.upstream.cluster.pool.stream_idle_timeout_s or math.inf if plan is not None else math.inf

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
