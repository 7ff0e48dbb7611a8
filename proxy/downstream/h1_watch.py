"""A connection of HTTP/1.1 whose peer is too slow: told from one that has nothing to say."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING

from proxy.downstream import life
from proxy.exchange import Exchange
from proxy.http.events import Refused
from proxy.plan import Reply

if TYPE_CHECKING:
    from proxy.downstream.h1 import Downstream

__all__ = ["check"]


def check(down: Downstream) -> None:
    """The connection's one timer: idle, too slow, or fine."""
    if down.is_closed:
        return
    now = monotonic()
    exchange = down.exchange
    if exchange is not None:
        _check_exchange(down, exchange, now)
    elif unread := down.transport.get_write_buffer_size():
        if down.progress.still_s(unread, now) > life.STALL_S:
            down.transport.abort()
    elif not down.parser.is_idle:
        # From the first byte of a head, however slowly others follow: a drop at a time is an attack.
        if down.progress.still_s(down.begun_at, now) + life.CHECK_S > life.HEAD_TIMEOUT_S:
            down.refuse(Refused(408, "head-timeout", "the request head did not arrive in time"))
            return
    elif now - down.active_at > life.IDLE_TIMEOUT_S:
        down.transport.close()
        return
    if not down.is_closed:
        down.check_again()


def _check_exchange(down: Downstream, exchange: Exchange, now: float) -> None:
    """End an exchange that stands still: for its client, or for longer than its cluster allows."""
    unread = down.transport.get_write_buffer_size()
    still_s = down.progress.still_s((exchange.moved, unread), now)
    if unread and still_s > life.STALL_S:
        down.exchange = None
        exchange.cancel("response_write_timeout", flags="SI")
        down.transport.abort()
    elif (
        not exchange.is_request_complete
        and not down.is_reading_paused
        and now - down.active_at > life.STALL_S
    ):
        exchange.answer_or_break(Reply(408, "SI", "request_body_timeout", b"stream timeout"))
    elif still_s > exchange.stream_idle_s:
        exchange.answer_or_break(Reply(504, "SI", "stream_idle_timeout", b"stream timeout"))
