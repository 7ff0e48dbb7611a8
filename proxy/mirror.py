"""Mirrored requests: copies that nobody waits for.

A copy leaves when its request is complete, with the content that the exchange keeps for retries (64 KiB; a
longer request is not copied). It has its own connection, its own bounds and its own numbers, is tried once,
and its answer is read and thrown away. Whatever becomes of it, the request knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from meshpy.model.route import Destination, Mirror
from proxy.exchange import Exchange
from proxy.http.events import END, End, Headers
from proxy.http.h1 import Event
from proxy.http.head import RequestHead, ResponseHead
from proxy.net.connection import UpstreamSide
from proxy.net.pool import Host, Upstream
from proxy.net.timers import Timer
from proxy.plan import NO_OPS, Plan
from proxy.telemetry import Telemetry

__all__ = ["MAX_COPIES", "Mirroring", "shadow_authority"]

MAX_COPIES = 256
"""Copies on their way at once from one listener; those beyond are dropped and counted."""
DEADLINE_S = 15.0
"""For the answer to a copy whose route has no timeout (Envoy's default for a route)."""


def shadow_authority(authority: bytes) -> bytes:
    """`catalog:8080` → `catalog-shadow:8080` (Envoy); an IP address stays as it is."""
    if authority.startswith(b"["):
        return authority
    host, colon, port = authority.partition(b":")
    if not host or host.replace(b".", b"").isdigit():
        return authority
    return host + b"-shadow" + colon + port


class Mirroring:
    """The copies of one listener's requests."""

    __slots__ = ("_active", "_telemetry")

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._active: set[_Copy] = set()

    def draw(
        self,
        plan: Plan,
        mirrors: Sequence[Mirror],
        clusters: Callable[[str], Upstream | None],
        is_allowed: Callable[[Destination], bool],
        draw: Callable[[], float],
    ) -> Plan:
        """The plan of a request, with those of its route's mirrors that its lot fell on."""
        chosen: list[tuple[Upstream, str]] = []
        for mirror in mirrors:
            if mirror.pct < 100 and draw() * 100 >= mirror.pct:
                continue
            destination = mirror.destination
            upstream = clusters(destination.cluster)
            if destination.refusal or upstream is None:
                self._count(destination.host, "no_backend")
            elif not is_allowed(destination):
                self._count(destination.host, "denied")
            else:
                chosen.append((upstream, destination.host))
        if not chosen:
            return plan
        return replace(plan, copies=lambda exchange: self._send(exchange, chosen))

    def _count(self, host: str, outcome: str) -> None:
        self._telemetry.mirrored(host, outcome)

    def _send(self, exchange: Exchange, chosen: Sequence[tuple[Upstream, str]]) -> None:
        for upstream, host in chosen:
            if exchange.replay is None:
                self._count(host, "too_large")
            elif len(self._active) >= MAX_COPIES or _is_full(upstream):
                self._count(host, "dropped")
            else:
                copy = _Copy(exchange, upstream, host, self._end)
                self._active.add(copy)
                copy.start()

    def _end(self, copy: _Copy, outcome: str) -> None:
        self._active.discard(copy)
        self._count(copy.name, outcome)


def _is_full(upstream: Upstream) -> bool:
    """Whether a copy would take what a request of the same cluster may need."""
    pool = upstream.cluster.pool
    return upstream.pending + 1 >= pool.max_pending_requests or upstream.connections >= pool.max_connections


class _Copy:
    """One copy; a Client of the pool, as an exchange is."""

    __slots__ = (
        "_body",
        "_end",
        "_is_over",
        "_status",
        "_timer",
        "_upstream",
        "connection",
        "drop",
        "extra",
        "head",
        "host",
        "is_reusable",
        "is_sent",
        "name",
        "plan",
    )

    def __init__(
        self, exchange: Exchange, upstream: Upstream, name: str, end: Callable[[_Copy, str], None]
    ) -> None:
        plan = exchange.plan
        assert plan is not None  # noqa: S101 - a copy is made of a request that is forwarded
        authority = plan.request_ops.host or plan.host or exchange.head.authority.text.encode("latin-1")
        self.head: RequestHead = exchange.head
        self.plan: Plan | None = replace(
            plan,
            upstream=upstream,
            host=shadow_authority(authority),
            request_ops=NO_OPS,
            copies=None,
        )
        self.extra: Headers = exchange.extra
        self.drop: Collection[bytes] = exchange.drop
        self.is_sent = False
        self.name = name
        self.host: Host | None = None
        self.connection: UpstreamSide | None = None
        self.is_reusable = False
        self._body = list(exchange.replay or ())
        self._end = end
        self._is_over = False
        self._status = 0
        self._upstream = upstream
        deadline_s = plan.timeout_s or DEADLINE_S
        self._timer: Timer = upstream.own.wheel.after(deadline_s, self._on_deadline)

    def start(self) -> None:
        """Pick a host and ask for a connection."""
        host = self._upstream.pick(())
        if host is None:
            self._finish("no_healthy_upstream")
            return
        self.host = host
        host.active += 1
        try:
            connection = host.acquire(self)
        except OverflowError:
            self._finish("dropped")
            return
        if connection is not None:
            self.on_connection(connection)

    def on_connection(self, connection: UpstreamSide) -> None:
        self.connection = connection
        connection.begin(self, self.head.method)
        end = End()
        connection.send(self, self._body, end)
        self.is_sent = True

    def on_connect_failure(self, reason: str) -> None:  # noqa: ARG002 - the Client's signature
        self._finish("connect_failure")

    def on_whole_response(self, head: ResponseHead, data: bytes) -> None:  # noqa: ARG002 - nobody reads it
        self.on_response([head, END])

    def on_response(self, events: list[Event]) -> None:
        for event in events:
            kind = type(event)
            if kind is ResponseHead:
                head: ResponseHead = event  # type: ignore[assignment]
                if head.status == 101:
                    self._finish("refused")
                    return
                if not head.is_interim:
                    self._status = head.status
                    self.is_reusable = head.keep_alive
            elif kind is End:
                self._complete()
                return
            elif self._status == 0:
                self._finish("refused")
                return

    def on_upstream_lost(self, reason: str, *, is_unsent: bool = False) -> None:  # noqa: ARG002 - as above
        self.connection = None
        self._finish("reset")

    def on_upstream_paused(self) -> None:
        """A copy is written at once; the transport's buffer holds what the upstream does not take yet."""

    def on_upstream_resumed(self) -> None:
        """See `on_upstream_paused`."""

    def _complete(self) -> None:
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.finish(is_reusable=self.is_reusable)
        self._finish(f"{self._status // 100}xx")

    def _on_deadline(self) -> None:
        self._finish("timeout")

    def _finish(self, outcome: str) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._timer.cancel()
        host, connection = self.host, self.connection
        self.connection = None
        if connection is not None:
            connection.abort()
        elif host is not None:
            host.give_up(self)
        if host is not None:
            host.active -= 1
        self._end(self, outcome)
