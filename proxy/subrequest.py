"""A request of the sidecar's own to a cluster, answered whole or not at all, within a time and a size."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import NamedTuple

from proxy.http.events import END, Body, End, Headers
from proxy.http.h1 import Event
from proxy.http.head import RequestHead, ResponseHead
from proxy.net.connection import UpstreamSide
from proxy.net.pool import Host, Upstream
from proxy.net.timers import Timer
from proxy.plan import Plan

__all__ = ["Answer", "Subrequest"]


class Answer(NamedTuple):
    """Args:
    headers: as received, trailers of HTTP/2 included.
    """

    status: int
    headers: Headers
    body: bytes


class Subrequest:
    """A Client of the pool, as an exchange is. A pooled connection that has died is replaced once.

    Args:
        done: told the answer, or in a few words why there is none; once.
    """

    __slots__ = (
        "_body",
        "_chunks",
        "_done",
        "_headers",
        "_is_over",
        "_is_reusable",
        "_max_bytes",
        "_size",
        "_status",
        "_timer",
        "_tries",
        "_upstream",
        "connection",
        "drop",
        "extra",
        "head",
        "host",
        "is_sent",
        "plan",
    )

    def __init__(
        self,
        upstream: Upstream,
        head: RequestHead,
        body: bytes,
        *,
        timeout_s: float,
        max_bytes: int,
        done: Callable[[Answer | str], None],
    ) -> None:
        self.head = head
        self.plan: Plan | None = Plan(upstream, "")
        self.extra: Headers = []
        self.drop: Collection[bytes] = ()
        self.is_sent = False
        self.host: Host | None = None
        self.connection: UpstreamSide | None = None
        self._upstream = upstream
        self._body = body
        self._max_bytes = max_bytes
        self._done = done
        self._chunks: list[bytes] = []
        self._size = self._status = self._tries = 0
        self._headers: Headers = []
        self._is_over = self._is_reusable = False
        self._timer: Timer = upstream.own.wheel.after(timeout_s, lambda: self._finish("no answer in time"))

    def start(self) -> None:
        """Pick a host and ask."""
        self._tries += 1
        host = self._upstream.pick(())
        if host is None:
            self._finish("no healthy upstream")
            return
        self.host = host
        host.active += 1
        try:
            connection = host.acquire(self)
        except OverflowError:
            self._finish("too many wait for it")
            return
        if connection is not None:
            self.on_connection(connection)

    def on_connection(self, connection: UpstreamSide) -> None:
        self.connection = connection
        connection.begin(self, self.head.method)
        connection.send(self, [self._body] if self._body else [], END)
        self.is_sent = True

    def on_connect_failure(self, reason: str) -> None:
        self._finish(reason)

    def on_whole_response(self, head: ResponseHead, data: bytes) -> None:
        body = data[len(data) - head.content_length :] if head.content_length else b""
        self.on_response([head, Body(body), END])

    def on_response(self, events: list[Event]) -> None:
        for event in events:
            kind = type(event)
            if kind is ResponseHead:
                head: ResponseHead = event  # type: ignore[assignment]
                if head.status == 101:
                    self._finish("it switched protocols unasked")
                    return
                if not head.is_interim:
                    self._status, self._headers = head.status, list(head.headers)
                    self._is_reusable = head.keep_alive
            elif kind is Body:
                self._take(bytes(event.data))  # type: ignore[union-attr]
                if self._is_over:
                    return
            elif kind is End:
                self._headers += event.trailers  # type: ignore[union-attr]
                self._complete()
                return
            else:
                self._finish("its answer is no HTTP")
                return

    def _take(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > self._max_bytes:
            self._finish(f"its answer is longer than {self._max_bytes} bytes")
            return
        self._chunks.append(data)

    def on_upstream_lost(self, reason: str, *, is_unsent: bool = False) -> None:
        connection, self.connection = self.connection, None
        if self._is_over:
            return
        is_stale = is_unsent or (connection is not None and connection.is_reused)
        if is_stale and not self._status and self._tries == 1:
            if self.host is not None:
                self.host.active -= 1
            self.host, self.is_sent = None, False
            self.start()
            return
        self._finish(reason)

    def on_upstream_paused(self) -> None:
        """It is written at once; the transport's buffer holds what the upstream does not take yet."""

    def on_upstream_resumed(self) -> None:
        """See `on_upstream_paused`."""

    def _complete(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.finish(is_reusable=self._is_reusable)
        self._finish(Answer(self._status, self._headers, b"".join(self._chunks)))

    def _finish(self, outcome: Answer | str) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._timer.cancel()
        host, connection = self.host, self.connection
        self.connection = None
        if connection is not None:
            connection.abort()
        elif host is not None and isinstance(outcome, str):
            host.give_up(self)
        if host is not None:
            host.active -= 1
        self._done(outcome)
