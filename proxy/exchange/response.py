"""What the upstream sends back: judged, retried where the policy says so, handed on."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from proxy.decide.grpc import UNAVAILABLE, Call
from proxy.decide.outlier import Reply as HostReply
from proxy.decide.retry import MAX_RETRY_AFTER_S, Outcome, is_status_retryable, retry_after_s
from proxy.exchange.between import NOT_SENT, names_to_hide
from proxy.exchange.ends import (
    break_off,
    cancel_timers,
    drop_connection,
    end_try,
    fail,
    finish,
    judge_host,
)
from proxy.exchange.tries import can_replay, is_policy_retry, retry
from proxy.http.events import Body, End, Headers, Refused
from proxy.http.h1 import Event
from proxy.http.head import ResponseHead
from proxy.plan import Plan

if TYPE_CHECKING:
    from proxy.exchange.exchange import Exchange

__all__ = ["on_response"]


def on_response(exchange: Exchange, events: list[Event]) -> None:
    """Forward what the upstream sent, in one write."""
    if exchange.is_over:
        return
    down = exchange.down
    is_complete = False
    for event in events:
        kind = type(event)
        if kind is Body:
            data = event.data  # type: ignore[union-attr]
            exchange.bytes_sent += len(data)
            if exchange.grpc is not None:
                exchange.grpc.responses.feed(data)
            down.send_body(data)
        elif kind is ResponseHead:
            if exchange.grpc is not None:
                exchange.grpc.take_status(_early_status(events))
            if not _take_head(exchange, event):  # type: ignore[arg-type]
                return
        elif kind is End:
            if exchange.grpc is not None:
                _end_call(exchange, exchange.grpc, event)  # type: ignore[arg-type]
            down.send_end(event.trailers)  # type: ignore[union-attr]
            is_complete = True
        else:
            _on_refused(exchange, event)  # type: ignore[arg-type]
            return
    down.flush_response()
    if is_complete and exchange.response_head is not None:
        _complete(exchange)


def _take_head(exchange: Exchange, head: ResponseHead) -> bool:
    """Judge a response head; False when the exchange went another way."""
    plan = exchange.plan
    if plan is None:
        return False
    if head.is_interim:
        if head.status != 100 or exchange.head.expect_continue:
            exchange.down.send_interim(head)
        return True
    status = exchange.tried_status = head.status
    exchange.upstream_time_s = monotonic() - exchange.upstream_started_at
    if status == 101 or (status < 300 and exchange.head.method == "CONNECT"):
        _switch(exchange, head)
        return False
    call = exchange.grpc
    if (status >= 500 or call is not None) and _retry_refused(exchange, plan, head):
        return False
    if exchange.host is not None and (call is None or status != 200):
        plan.upstream.judge_status(exchange.host, status, exchange.upstream_time_s)
    is_failed = status >= 400 or (call is not None and bool(call.status))
    if is_failed and (pause_s := _pause_for_status(exchange, plan, head)) is not None:
        drop_connection(exchange)
        end_try(exchange)
        retry(exchange, pause_s=pause_s)
        return False
    if exchange.try_timer is not None:
        exchange.try_timer.cancel()
        exchange.try_timer = None
    exchange.is_response_begun = True
    exchange.is_recovered = exchange.is_retry_active and status < 500
    exchange.response_head = head
    exchange.status = status
    _send_head(exchange, plan, head)
    return True


def _pause_for_status(exchange: Exchange, plan: Plan, head: ResponseHead) -> float | None:
    """What the upstream wants waited before a response is asked for again; None when it is not."""
    policy, fields = plan.retry, head.fields
    if not can_replay(exchange) or exchange.attempts - exchange.silent_retries > policy.attempts:
        return None
    is_limited = b"x-envoy-ratelimited" in fields
    grpc_status = b"%d" % exchange.grpc.status if exchange.grpc is not None and exchange.grpc.status else None
    if not is_status_retryable(
        policy, head.status, exchange.head.method, grpc_status, is_rate_limited=is_limited
    ):
        return None
    pause_s = retry_after_s(fields.get(b"retry-after")) or 0.0
    spent_s = monotonic() - exchange.started_at
    if pause_s > MAX_RETRY_AFTER_S or (plan.timeout_s is not None and spent_s + pause_s > plan.timeout_s):
        return None
    return pause_s if plan.upstream.may_retry(is_active=exchange.is_retry_active, is_sent=True) else None


def _retry_refused(exchange: Exchange, plan: Plan, head: ResponseHead) -> bool:
    """A sidecar's 503 that nothing was sent for is a connect failure one hop further."""
    is_unavailable = head.status == 503 or (exchange.grpc is not None and exchange.grpc.status == UNAVAILABLE)
    if not is_unavailable or not plan.refusal_is_trusted or NOT_SENT not in head.fields:
        return False
    judge_host(exchange, HostReply.LOCAL_ORIGIN)
    if not can_replay(exchange) or not is_policy_retry(exchange, plan, Outcome.REFUSED):
        return False
    drop_connection(exchange)
    end_try(exchange)
    retry(exchange)
    return True


def _send_head(exchange: Exchange, plan: Plan, head: ResponseHead) -> None:
    ops = plan.response_ops
    drop = names_to_hide(plan, head)
    extra: Headers = list(ops.extra) if ops.extra else []
    if exchange.cookie:
        extra.append((b"set-cookie", exchange.cookie))
    exchange.down.send_head(exchange, head, extra, drop)


def _switch(exchange: Exchange, head: ResponseHead) -> None:
    """101 or a tunnel: from here both sides speak another protocol; only when the client asked for it."""
    connection = exchange.connection
    is_asked = head.status != 101 or (
        exchange.head.upgrade is not None and head.upgrade == exchange.head.upgrade
    )
    if not is_asked or connection is None:
        _on_refused(exchange, Refused(502, "upgrade-unasked", "the upstream switched to a protocol unasked"))
        return
    plan = exchange.plan
    assert plan is not None  # noqa: S101 - `_take_head` has checked
    exchange.is_response_begun = True
    exchange.status = head.status
    exchange.response_head = head
    cancel_timers(exchange)
    exchange.connection = None
    exchange.down.switch(exchange, connection, head, plan)


def _on_refused(exchange: Exchange, refused: Refused) -> None:
    """The upstream sent what must not be passed on; its connection is not used again."""
    exchange.last_failure = f"protocol error: {refused.reason}"
    judge_host(exchange, HostReply.GATEWAY_ERROR)
    drop_connection(exchange)
    if exchange.is_response_begun:
        exchange.down.flush_response()
        break_off(exchange, "UPE", f"upstream_protocol_error{{{refused.reason}}}")
        return
    end_try(exchange)
    body = b"upstream connect error or disconnect/reset before headers. reset reason: protocol error"
    fail(exchange, 502, "UPE", f"upstream_protocol_error{{{refused.reason}}}", body)


def _end_call(exchange: Exchange, call: Call, end: End) -> None:
    """The status of a call is known: it tells whether the host is well, HTTP's 200 does not."""
    for name, value in end.trailers:
        if name == b"grpc-status":
            call.take_status(value)
    if exchange.host is not None and exchange.plan is not None and exchange.status == 200:
        exchange.plan.upstream.judge_status(exchange.host, call.http_status, exchange.upstream_time_s)


def _complete(exchange: Exchange) -> None:
    connection, exchange.connection = exchange.connection, None
    head = exchange.response_head
    is_reusable = head is not None and head.keep_alive and exchange.is_request_complete and not exchange.out
    finish(exchange)
    if connection is not None:
        connection.finish(is_reusable=is_reusable)
    exchange.down.on_exchange_over(exchange)


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
