"""How an exchange ends: answered by us, failed, broken off, cancelled, or complete."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from proxy.decide.grpc import CONTENT_TYPE, DEADLINE_EXCEEDED, Call, status_of_http, trailers_of
from proxy.decide.outlier import Reply as HostReply
from proxy.exchange.between import NOT_SENT
from proxy.http.events import Header
from proxy.plan import Reply

if TYPE_CHECKING:
    from proxy.exchange.exchange import Exchange

__all__ = [
    "OVERLOADED",
    "answer",
    "answer_or_break",
    "break_off",
    "cancel",
    "cancel_timers",
    "drop_connection",
    "end_try",
    "fail",
    "fail_overflow",
    "finish",
    "judge_host",
    "on_call_deadline",
    "on_deadline",
]

OVERLOADED = (b"x-envoy-overloaded", b"true")
"""On a 503 of a limit, in Envoy's word: come back later."""


def answer(exchange: Exchange, reply: Reply) -> None:
    """End with an answer of our own, in gRPC's words to a call of gRPC."""
    if exchange.grpc is not None:
        reply = _in_grpc(exchange.grpc, reply)
    exchange.reply = reply
    exchange.status = reply.status
    exchange.flags = reply.flags
    exchange.details = reply.details or "direct_response"
    drop_connection(exchange)
    finish(exchange)
    exchange.bytes_sent = exchange.down.write_reply(exchange, reply)
    exchange.down.on_exchange_over(exchange)


def fail(
    exchange: Exchange,
    status: int,
    flags: str,
    details: str,
    body: bytes,
    extra: tuple[Header, ...] = (),
    *,
    is_unsent: bool = False,
) -> None:
    """End with an answer about the upstream.

    Args:
        is_unsent: the upstream's application has seen nothing of the request.
    """
    service = exchange.plan.service if exchange.plan is not None else ""
    route_name = exchange.plan.route_name if exchange.plan is not None else ""
    headers = (*exchange.plan.reply_headers, *extra) if exchange.plan is not None else extra
    if is_unsent and exchange.down.tells_not_sent:
        headers = (*headers, (NOT_SENT, b"1"))
    answer(exchange, Reply(status, flags, details, body, headers, service, route_name))


def fail_overflow(exchange: Exchange) -> None:
    """A limit of the cluster is reached."""
    body = b"upstream connect error or disconnect/reset before headers. reset reason: overflow"
    details = "upstream_reset_before_response_started{overflow}"
    fail(exchange, 503, "UO", details, body, (OVERLOADED,), is_unsent=True)


def on_call_deadline(exchange: Exchange) -> None:
    """The client's own deadline has passed: so the mesh gives up too, and tells the upstream."""
    exchange.deadline = None
    if exchange.is_over or exchange.grpc is None:
        return
    exchange.grpc.status = DEADLINE_EXCEEDED
    drop_connection(exchange)
    if exchange.is_response_begun:
        break_off(exchange, "UT", "grpc_deadline_exceeded")
        return
    reply = Reply(504, "UT", "grpc_deadline_exceeded", b"deadline exceeded", grpc_status=DEADLINE_EXCEEDED)
    if exchange.plan is not None:
        reply.service, reply.route_name = exchange.plan.service, exchange.plan.route_name
    answer(exchange, reply)


def on_deadline(exchange: Exchange) -> None:
    """The route's timeout: 504, or a broken message when the response has begun."""
    exchange.deadline = None
    if exchange.is_over:
        return
    judge_host(exchange, HostReply.LOCAL_ORIGIN, is_sent=exchange.is_sent)
    drop_connection(exchange)
    if exchange.is_response_begun:
        break_off(exchange, "UT", "response_timeout")
        return
    fail(exchange, 504, "UT", "response_timeout", b"upstream request timeout")


def break_off(exchange: Exchange, flags: str, details: str) -> None:
    """The response cannot be completed: the client must see that, so nothing that ends it is sent."""
    exchange.flags = flags
    exchange.details = details
    drop_connection(exchange)
    finish(exchange)
    exchange.down.on_broken(exchange)


def cancel(exchange: Exchange, details: str = "downstream_remote_disconnect", *, flags: str = "DC") -> None:
    """The client is gone, or has given this request up."""
    if exchange.is_over:
        return
    exchange.flags = flags
    exchange.details = details
    drop_connection(exchange)
    finish(exchange)
    exchange.down.account(exchange)


def answer_or_break(exchange: Exchange, reply: Reply) -> None:
    """End with an answer, or with a broken message when another answer has begun."""
    if not exchange.is_response_begun:
        answer(exchange, reply)
        return
    exchange.reply = reply
    if exchange.grpc is not None and exchange.grpc.status is None:
        exchange.grpc.status = status_of_http(reply.status)
    break_off(exchange, reply.flags, reply.details)


def end_try(exchange: Exchange) -> None:
    """Stop the time and the count of a try."""
    if exchange.try_timer is not None:
        exchange.try_timer.cancel()
        exchange.try_timer = None
    if exchange.is_in_try and exchange.host is not None:
        exchange.is_in_try = False
        exchange.host.active -= 1


def drop_connection(exchange: Exchange) -> None:
    """Leave the connection of a try that is given up; it cannot serve anyone else."""
    if exchange.is_waiting and exchange.host is not None:
        exchange.host.give_up(exchange)
        exchange.is_waiting = False
    connection, exchange.connection = exchange.connection, None
    if connection is not None:
        connection.abort()


def judge_host(exchange: Exchange, reply: HostReply, *, is_sent: bool = False) -> None:
    """Tell the cluster what a try at the host came to."""
    if exchange.host is not None and exchange.plan is not None:
        exchange.plan.upstream.judge(exchange.host, reply, is_sent=is_sent)


def cancel_timers(exchange: Exchange) -> None:
    """No time runs any more."""
    for timer in (exchange.deadline, exchange.try_timer):
        if timer is not None:
            timer.cancel()
    exchange.deadline = exchange.try_timer = None


def finish(exchange: Exchange) -> None:
    """Stop timers and counting; nothing is written."""
    if exchange.deadline is not None or exchange.try_timer is not None:
        cancel_timers(exchange)
    if exchange.is_in_try:
        end_try(exchange)
    exchange.is_over = True
    if exchange.out:
        exchange.out = []
    exchange.replay = None
    plan = exchange.plan
    if plan is not None:
        plan.upstream.active_requests -= 1
        if exchange.is_retry_active:
            plan.upstream.active_retries -= 1


def _in_grpc(call: Call, reply: Reply) -> Reply:
    """An answer that consists of trailers alone."""
    status = status_of_http(reply.status) if reply.grpc_status is None else reply.grpc_status
    call.status = status
    headers = ((b"content-type", CONTENT_TYPE), *trailers_of(status, reply.body), *reply.headers)
    return replace(reply, status=200, headers=headers, body=b"", grpc_status=status)
