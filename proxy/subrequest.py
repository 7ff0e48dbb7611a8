"""Requests of the sidecar's own to a cluster: asked once, read to the end, within a time."""

from __future__ import annotations

from collections.abc import Callable, Collection
from enum import Enum
from typing import NamedTuple

from proxy.http.events import END, Body, End, Header, Headers
from proxy.http.h1 import Event
from proxy.http.head import RequestHead, ResponseHead
from proxy.net.connection import UpstreamSide
from proxy.net.host import Host
from proxy.net.pool import Upstream
from proxy.net.timers import Timer
from proxy.plan import Plan

__all__ = ["Answer", "Failure", "Query", "Subrequest"]


class Failure(Enum):
    """Why there is no whole answer."""

    NO_HOST = "no_healthy_upstream"
    OVERFLOW = "dropped"
    CONNECT = "connect_failure"
    RESET = "reset"
    PROTOCOL = "refused"
    TOO_LARGE = "too_large"
    TIMEOUT = "timeout"


class Subrequest:
    """A Client of the pool, as an exchange is; `on_end` is told what became of it, once.

    Args:
        stale_retries: how often a pooled connection that had died is replaced.
    """

    __slots__ = (
        "_body",
        "_is_over",
        "_is_reusable",
        "_timer",
        "_upstream",
        "connection",
        "drop",
        "extra",
        "head",
        "host",
        "is_sent",
        "plan",
        "silent_retries",
        "status",
    )

    stale_retries = 0

    def __init__(
        self,
        upstream: Upstream,
        plan: Plan,
        head: RequestHead,
        body: list[bytes | memoryview],
        *,
        timeout_s: float,
        extra: Headers,
        drop: Collection[bytes],
    ) -> None:
        self.head = head
        self.plan: Plan | None = plan
        self.extra = extra
        self.drop = drop
        self.is_sent = False
        self.host: Host | None = None
        self.connection: UpstreamSide | None = None
        self.status = 0
        self._upstream = upstream
        self._body = body
        self.silent_retries = 0
        self._is_over = self._is_reusable = False
        self._timer: Timer = upstream.own.wheel.after(
            timeout_s, lambda: self.fail(Failure.TIMEOUT, "no answer in time")
        )

    def on_end(self, failure: Failure | None, detail: str) -> None:
        """It is over: answered whole, or failed.

        Args:
            detail: of a failure, in a few words.
        """
        raise NotImplementedError

    def on_answer_head(self, head: ResponseHead) -> None:
        """The final head of the answer."""

    def on_content(self, data: bytes | memoryview) -> None:
        """Content of the answer."""

    def on_trailers(self, trailers: tuple[Header, ...]) -> None:
        """What follows the content."""

    def start(self) -> None:
        """Pick a host and ask for a connection."""
        host = self._upstream.pick(())
        if host is None:
            self.fail(Failure.NO_HOST, "no healthy upstream")
            return
        self.host = host
        host.active += 1
        try:
            connection = host.acquire(self)
        except OverflowError:
            self.fail(Failure.OVERFLOW, "too many wait for it")
            return
        if connection is not None:
            self.on_connection(connection)

    def on_connection(self, connection: UpstreamSide) -> None:
        self.connection = connection
        connection.begin(self, self.head.method)
        connection.send(self, list(self._body), END)
        self.is_sent = True

    def on_connect_failure(self, reason: str) -> None:
        self.fail(Failure.CONNECT, reason)

    def on_whole_response(self, head: ResponseHead, data: bytes) -> None:
        body = data[len(data) - head.content_length :] if head.content_length else b""
        self.on_response([head, Body(body), END])

    def on_response(self, events: list[Event]) -> None:
        for event in events:
            kind = type(event)
            if kind is ResponseHead:
                self._take_head(event)  # type: ignore[arg-type]
            elif kind is Body:
                self.on_content(event.data)  # type: ignore[union-attr]
            elif kind is End:
                self.on_trailers(event.trailers)  # type: ignore[union-attr]
                self._complete()
            else:
                self.fail(Failure.PROTOCOL, "its answer is no HTTP")
            if self._is_over:
                return

    def _take_head(self, head: ResponseHead) -> None:
        if head.status == 101:
            self.fail(Failure.PROTOCOL, "it switched protocols unasked")
        elif not head.is_interim:
            self.status = head.status
            self._is_reusable = head.keep_alive
            self.on_answer_head(head)

    def on_upstream_lost(self, reason: str, *, is_unsent: bool = False) -> None:
        connection, self.connection = self.connection, None
        if self._is_over:
            return
        is_stale = is_unsent or (connection is not None and connection.is_reused)
        if is_stale and not self.status and self.silent_retries < self.stale_retries:
            self.silent_retries += 1
            if self.host is not None:
                self.host.active -= 1
            self.host, self.is_sent = None, False
            self.start()
            return
        self.fail(Failure.RESET, reason)

    def on_upstream_paused(self) -> None:
        """It is written at once; the transport's buffer holds what the upstream does not take yet."""

    def on_upstream_resumed(self) -> None:
        """See `on_upstream_paused`."""

    def _complete(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.finish(is_reusable=self._is_reusable)
        self._finish(None, "")

    def fail(self, failure: Failure, detail: str) -> None:
        """Give it up."""
        if not self._is_over:
            if self.connection is None and self.host is not None:
                self.host.give_up(self)
            self._finish(failure, detail)

    def _finish(self, failure: Failure | None, detail: str) -> None:
        self._is_over = True
        self._timer.cancel()
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.abort()
        if self.host is not None:
            self.host.active -= 1
        self.on_end(failure, detail)


class Answer(NamedTuple):
    """Args:
    headers: as received, trailers of HTTP/2 included.
    """

    status: int
    headers: Headers
    body: bytes


class Query(Subrequest):
    """A request whose whole answer is wanted, within a size.

    Args:
        done: told the answer, or in a few words why there is none; once.
    """

    __slots__ = ("_chunks", "_done", "_headers", "_max_bytes", "_size")

    stale_retries = 1

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
        content: list[bytes | memoryview] = [body] if body else []
        super().__init__(upstream, Plan(upstream, ""), head, content, timeout_s=timeout_s, extra=[], drop=())
        self._max_bytes = max_bytes
        self._done = done
        self._chunks: list[bytes] = []
        self._size = 0
        self._headers: Headers = []

    def on_answer_head(self, head: ResponseHead) -> None:
        self._headers = list(head.headers)

    def on_content(self, data: bytes | memoryview) -> None:
        self._size += len(data)
        if self._size > self._max_bytes:
            self.fail(Failure.TOO_LARGE, f"its answer is longer than {self._max_bytes} bytes")
            return
        self._chunks.append(bytes(data))

    def on_trailers(self, trailers: tuple[Header, ...]) -> None:
        self._headers += trailers

    def on_end(self, failure: Failure | None, detail: str) -> None:
        if failure is not None:
            self._done(detail)
        else:
            self._done(Answer(self.status, self._headers, b"".join(self._chunks)))
