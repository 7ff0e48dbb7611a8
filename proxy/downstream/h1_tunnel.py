"""What a connection of HTTP/1.1 becomes after 101, or 2xx to CONNECT."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.exchange import HALF_CLOSE, Exchange
from proxy.http.encode import encode_response_head
from proxy.http.head import ResponseHead
from proxy.net.connection import UpstreamConnection
from proxy.net.ending import allow_half_close
from proxy.plan import Plan, Reply
from proxy.tunnel import Splice

if TYPE_CHECKING:
    from proxy.downstream.h1 import Downstream

__all__ = ["join_tunnel"]


def join_tunnel(
    down: Downstream, exchange: Exchange, upstream: UpstreamConnection, head: ResponseHead, plan: Plan
) -> None:
    """Tell the client, then splice both connections; the exchange is accounted for when they end."""
    to_upstream = down.parser.take_leftover()
    to_client = upstream.parser.take_leftover()
    exchange.bytes_received += len(to_upstream)
    exchange.bytes_sent += len(to_client)
    upstream.client = None
    upstream.host.detach(upstream)
    splice = Splice(down.own.splices, lambda each: _end(down, exchange, each))
    splice.is_still_admitted = lambda: not isinstance(down.role.rejudge(down, exchange.head), Reply)
    splice.join(down.transport, upstream.transport, ticket=down.ticket)
    is_agreed = down.tells_not_sent and HALF_CLOSE in exchange.head.fields
    allow_half_close(down.transport, is_agreed=is_agreed)
    allow_half_close(upstream.transport, is_agreed=plan.refusal_is_trusted and HALF_CLOSE in head.fields)
    pool = plan.upstream.cluster.pool
    splice.limit(down.own.wheel, pool.tunnel_idle_timeout_s, pool.max_connection_duration_s)
    ops = plan.response_ops
    extra = [*ops.extra, (HALF_CLOSE, b"1")] if is_agreed else list(ops.extra)
    down.transport.write(encode_response_head(head, extra, drop=(*ops.drop, HALF_CLOSE)) + to_client)
    if to_upstream:
        upstream.transport.write(to_upstream)


def _end(down: Downstream, exchange: Exchange, splice: Splice) -> None:
    exchange.bytes_received += splice.bytes_to_upstream
    exchange.bytes_sent += splice.bytes_to_client
    down.on_tunnel_over(exchange)
