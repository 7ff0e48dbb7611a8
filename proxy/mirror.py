"""Mirrored requests: copies that nobody waits for.

A copy leaves when its request is complete, with the content that the exchange keeps for retries (64 KiB; a
longer request is not copied). It has its own connection, its own bounds and its own numbers, is tried once,
and its answer is read and thrown away. Whatever becomes of it, the request knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from meshpy.model.route import Destination, Mirror
from proxy.exchange import Exchange
from proxy.net.pool import Upstream
from proxy.plan import NO_OPS, Plan
from proxy.subrequest import Failure, Subrequest
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


class _Copy(Subrequest):
    """One copy; its answer is read and thrown away."""

    __slots__ = ("_end", "name")

    def __init__(
        self, exchange: Exchange, upstream: Upstream, name: str, end: Callable[[_Copy, str], None]
    ) -> None:
        plan = exchange.plan
        assert plan is not None  # noqa: S101 - a copy is made of a request that is forwarded
        authority = plan.request_ops.host or plan.host or exchange.head.authority.text.encode("latin-1")
        super().__init__(
            upstream,
            replace(
                plan, upstream=upstream, host=shadow_authority(authority), request_ops=NO_OPS, copies=None
            ),
            exchange.head,
            list(exchange.replay or ()),
            timeout_s=plan.timeout_s or DEADLINE_S,
            extra=exchange.extra,
            drop=exchange.drop,
        )
        self.name = name
        self._end = end

    def on_end(self, failure: Failure | None, detail: str) -> None:  # noqa: ARG002 - it is a count, not a log
        self._end(self, failure.value if failure is not None else f"{self.status // 100}xx")
