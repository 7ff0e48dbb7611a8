"""The straight road of an exchange: a GET without content, an idle connection, an answer in one read.

Hot file: most requests of a mesh are this one. By the general road (`intake`, `exchange`) they are twenty
calls more, 3 of 17 µs of Python. Nothing is decided differently: both steps leave the exchange exactly as the
general road would, so that whatever comes next (a lost connection, a timeout, content that goes on) is met by
it. A step that meets anything else hands over to it at once.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

from proxy.exchange.between import names_to_hide
from proxy.http.encode import encode_request_head
from proxy.http.events import END, Body
from proxy.net.connection import UpstreamConnection

if TYPE_CHECKING:
    from proxy.exchange.exchange import Exchange
    from proxy.http.head import ResponseHead
    from proxy.plan import Plan

__all__ = ["answer", "launch"]

_FIRST_ERROR: Final = 400


def launch(exchange: Exchange, plan: Plan) -> None:
    """Send a GET that is complete: the general road's `on_request_end` and `flush`.

    Args:
        plan: one that `is_straight`, with which the exchange has begun.
    """
    exchange.on_request_end(END)
    upstream = plan.upstream
    if not upstream.is_straight or upstream.active_requests > upstream.cluster.pool.max_requests:
        exchange.flush()
        return
    host = upstream.pick(())
    if host is None:
        exchange.flush()
        return
    connection = host.idle.pop() if host.idle else None
    if connection is None or connection.transport.is_closing() or not connection.is_open:
        exchange.try_host(plan, host)
        return
    exchange.attempts = 1
    exchange.host = host
    host.active += 1
    exchange.is_in_try = True
    exchange.upstream_started_at = exchange.started_at
    if plan.retry.per_try_timeout_s is not None:
        exchange.try_timer = exchange.down.own.wheel.after(
            plan.retry.per_try_timeout_s, exchange.on_try_timeout
        )
    exchange.connection = connection
    connection.begin(exchange, "GET")
    head = exchange.head
    exchange.is_end_sent = exchange.is_sent = True
    connection.transport.write(
        encode_request_head(
            head,
            exchange.extra,
            target=plan.target,
            host=plan.host,
            drop=exchange.drop,
            upgrade=head.upgrade is not None,
        )
    )


def answer(exchange: Exchange, head: ResponseHead, data: bytes) -> None:
    """Forward a whole response: what `on_response` does with a head, content by its length and the end.

    Args:
        data: ends with the content.
    """
    plan, host, connection, down = exchange.plan, exchange.host, exchange.connection, exchange.down
    status, size = head.status, head.content_length
    if (
        status >= _FIRST_ERROR
        or plan is None
        or not plan.is_straight
        or not down.takes_whole
        or exchange.is_over
        or not exchange.is_request_complete
        or exchange.cookie
        or host is None
        or type(connection) is not UpstreamConnection
    ):
        content = [Body(memoryview(data)[len(data) - size :])] if size else []
        exchange.on_response([head, *content, END])
        return
    exchange.upstream_time_s = monotonic() - exchange.upstream_started_at
    plan.upstream.judge_status(host, status, exchange.upstream_time_s)
    exchange.is_response_begun = True
    exchange.is_recovered = exchange.is_retry_active
    exchange.response_head = head
    exchange.status = exchange.tried_status = status
    exchange.bytes_sent = size
    down.send_whole(exchange, head, names_to_hide(plan, head), memoryview(data)[len(data) - size :])
    exchange.connection = None
    exchange.finish()
    connection.finish(is_reusable=head.keep_alive)
    down.on_exchange_over(exchange)
