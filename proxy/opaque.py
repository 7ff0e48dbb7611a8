"""Opaque TCP: judged when a connection is accepted, then bytes both ways.

An L4 connection is dialled before a byte of the client is read, so a failed dial may be repeated at another
endpoint without harm. A change of policy judges live tunnels again: what would be refused now is cut now.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import cast

from meshpy.engine.verdict import Verdict
from meshpy.model.resilience import ConnectionPool, HashBy
from proxy.access_log import Line
from proxy.admitted import Kinds
from proxy.decide.hashing import hash64
from proxy.decide.outlier import Reply
from proxy.denial import decider
from proxy.http.client_hello import ClientHello, HelloReader, NoHello
from proxy.http.proxy_protocol import header_v1, header_v2
from proxy.net.dial import Dialed, DialError, keep_alive
from proxy.net.ending import allow_half_close
from proxy.net.host import Host
from proxy.net.pool import Surroundings, Upstream
from proxy.net.timers import Timer
from proxy.net.tls import ALPN_TUNNEL
from proxy.opaque_roles import OpaqueRole, Way
from proxy.report import Reporter
from proxy.sides import Shared
from proxy.telemetry import Edge
from proxy.tunnel import Side, Splice

__all__ = ["OpaqueSide"]

_TRIES = 3
HELLO_TIMEOUT_S = 10.0
"""For a ClientHello, from the connection's first byte or before it."""


class _Fresh(Dialed):
    """A dialled connection that waits to be joined."""

    def __init__(self, pool: ConnectionPool) -> None:
        self.transport: asyncio.Transport = cast("asyncio.Transport", None)
        self.early: list[bytes] = []
        self.is_at_eof = False
        self._pool = pool

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self.is_admitted(transport):
            self.transport = cast("asyncio.Transport", transport)
            allow_half_close(transport)
            keep_alive(transport, self._pool)

    def data_received(self, data: bytes) -> None:
        self.early.append(data)
        self.transport.pause_reading()

    def eof_received(self) -> bool:
        self.is_at_eof = True
        return self.transport.can_write_eof()


class OpaqueSide(Side):
    """The accepted end of a tunnel: judged, dialled for, joined, accounted for."""

    def __init__(
        self,
        role: OpaqueRole,
        shared: Shared,
        own: Surroundings,
        reporter: Reporter,
    ) -> None:
        splice = Splice(shared.splices, lambda _splice: self._on_over())
        super().__init__(splice, is_client=True)
        splice.client = self
        splice.is_still_admitted = self._is_still_admitted
        splice.count = self._count
        self.counted = (0, 0)
        self.role = role
        self.shared = shared
        self.own = own
        self.reporter = reporter
        self.host: Host | None = None
        self.upstream: Upstream | None = None
        self.service = ""
        self.flags = "-"
        self.details = ""
        self.failure = ""
        self.way: Way | None = None
        self.denied: Verdict | None = None
        self.audit = ""
        self.peer_address = self.local_address = ""
        self.started = time.time()
        self.started_at = shared.loop.time()
        self.edge: Edge | None = None
        self.kinds: Kinds | None = None
        self.is_accounted = False
        self.server_name = ""
        self.addresses: tuple[tuple[str, int] | None, tuple[str, int] | None] = (None, None)
        self._hello: HelloReader | None = None
        self._hello_timer: Timer | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        keep_alive(transport)
        peer, local = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        self.peer_address = self.role.address or self.shared.peer_of(transport)
        self.addresses = (peer, local)
        self.local_address = f"{local[0]}:{local[1]}" if local else ""
        if self.role.needs_server_name:
            self._hello = HelloReader()
            self._hello_timer = self.shared.wheel.after(HELLO_TIMEOUT_S, self._on_hello_timeout)
            return
        self._begin()

    def data_received(self, data: bytes) -> None:
        reader = self._hello
        if reader is None:
            super().data_received(data)
            return
        self.bytes_in += len(data)
        self.splice.is_asked = True
        self.early.append(data)
        outcome = reader.feed(data)
        if outcome is not None:
            self._end_hello(outcome)

    def eof_received(self) -> bool:
        if self._hello is not None:
            self._end_hello(NoHello("end"))
        return super().eof_received()

    def _on_hello_timeout(self) -> None:
        if self._hello is not None and not self.is_lost:
            self._end_hello(NoHello("timeout"))

    def _end_hello(self, outcome: ClientHello | NoHello) -> None:
        """The name is known, or there is none: bytes without a name go where no name is asked for."""
        self._hello = None
        if self._hello_timer is not None:
            self._hello_timer.cancel()
        if self.early:
            self.transport.pause_reading()  # `connect` resumes a side that has something to hand on
        if isinstance(outcome, ClientHello):
            self.server_name = outcome.server_name
        else:
            self.failure = f"client hello: {outcome.reason}"
        self._begin()

    def _begin(self) -> None:
        """Ask for the way and take it."""
        way = self.way = self.role.way(self)
        self.service = way.service
        self.upstream = way.upstream
        if way.verdict.audited or way.verdict.pending is not None:
            self.audit = self.reporter.observe(way.verdict, self.role.edge_key(self)).audit
        if not way.verdict.allowed or way.upstream is None:
            self._refuse(way.verdict)
            return
        self.own.own(self.own.loop.create_task(self._connect(way.upstream)))

    def _refuse(self, verdict: Verdict) -> None:
        if verdict.stage == "route":
            self.flags, self.details = "NR", "filter_chain_not_found"
        else:
            self.denied = verdict
            self.details = f"rbac_access_denied_matched_policy[{decider(verdict)}]"
        self.transport.close()

    async def _connect(self, upstream: Upstream) -> None:
        """Dial up to three endpoints; each is counted as busy while the tunnel lives."""
        tried: list[Host] = []
        affinity = upstream.affinity
        by_source = affinity is not None and affinity.by is HashBy.SOURCE_IP
        key = hash64(self.peer_address.encode()) if by_source else None

        for _ in range(_TRIES):
            host = upstream.pick(tried, key)
            if host is None:
                self.flags, self.details = "UH", "no_healthy_upstream"
                break
            tried.append(host)
            pool = upstream.cluster.pool
            if upstream.connections >= pool.max_connections:
                upstream.stats.overflow["connections"] += 1
                self.flags, self.details = "UO", "connection_limit"
                break
            try:
                fresh = await self.own.dialer.dial(
                    upstream.cluster,
                    host.endpoint,
                    lambda: _Fresh(upstream.cluster.pool),
                    alpn=ALPN_TUNNEL,
                )
            except DialError as error:
                self.flags, self.details = "UF", "upstream_connect_failure"
                self.failure = str(error)
                upstream.stats.connect_failures += 1
                upstream.judge(host, Reply.LOCAL_ORIGIN)
                continue
            upstream.judge(host, Reply.SUCCESS)
            if self.is_lost:
                fresh.transport.abort()
                return
            if upstream.cluster.proxy_protocol:
                fresh.transport.write(self._proxy_header(upstream.cluster.proxy_protocol))
            self._join(host, fresh)
            return
        self.transport.close()

    def _proxy_header(self, version: int) -> bytes:
        """Who this connection is for, told to a server that asks for it."""
        peer, local = self.addresses
        source = (self.peer_address, peer[1] if peer else 0)
        destination = (local[0], local[1]) if local else ("", 0)
        return (header_v1 if version == 1 else header_v2)(source, destination)

    def _join(self, host: Host, fresh: _Fresh) -> None:
        self.flags, self.details, self.failure = "-", "", ""
        self.host = host
        host.active += 1
        host.upstream.connections += 1
        key = self.role.edge_key(self)
        self.edge = self.reporter.telemetry.edge(key)
        self.edge.opened += 1
        if self.role.port:
            self.kinds = self.reporter.telemetry.admitted.of(key.source, self.role.port)
            self.kinds.connect()
        upstream = self.splice.upstream
        upstream.connection_made(fresh.transport)
        fresh.transport.set_protocol(upstream)
        upstream.early = fresh.early
        upstream.bytes_in = sum(map(len, fresh.early))
        upstream.is_at_eof = fresh.is_at_eof
        self.splice.connect()
        pool = host.upstream.cluster.pool
        self.splice.limit(self.shared.wheel, pool.tunnel_idle_timeout_s, pool.max_connection_duration_s)

    def _is_still_admitted(self) -> bool:
        verdict = self.role.still(self)
        if verdict is None or verdict.allowed:
            return True
        self.denied = verdict
        self.details = f"rbac_access_denied_matched_policy[{decider(verdict)}]"
        return False

    def expire(self) -> None:
        """The peer's certificate has ended."""
        if not self.is_lost:
            self.details = "peer_certificate_expired"
            self.splice.cut()

    def _count(self) -> None:
        edge, splice = self.edge, self.splice
        if edge is None:
            return
        received, sent = splice.bytes_to_upstream, splice.bytes_to_client
        edge.bytes_received += received - self.counted[0]
        edge.bytes_sent += sent - self.counted[1]
        self.counted = received, sent

    def _on_over(self) -> None:
        if self.is_accounted:
            return
        self.is_accounted = True
        host = self.host
        if host is not None:
            host.active -= 1
            host.upstream.connections -= 1
        if self.kinds is not None:
            self.kinds.open -= 1
        edge = self.edge or self.reporter.telemetry.edge(self.role.edge_key(self))
        if self.edge is None:
            edge.opened += 1
            self.edge = edge
        self._count()
        denied, way = self.denied, self.way
        policy = rule = stage = ""
        if denied is not None:
            policy, rule, stage = denied.policy or denied.stage, denied.rule, denied.stage
            edge.deny(policy)
            self.reporter.telemetry.verdict(stage, policy, rule, allowed=False)
        line = Line(
            self.reporter.direction,
            self.flags,
            self.details,
            self.splice.bytes_to_upstream,
            self.splice.bytes_to_client,
            int((self.shared.loop.time() - self.started_at) * 1000),
            host.name if host is not None else "",
            self.upstream.cluster.name if self.upstream is not None else "",
            self.local_address,
            self.peer_address,
            way.server_name if way is not None else "",
            self.failure,
            way.principal if way is not None else "",
            policy,
            rule,
            stage,
            self.audit,
        )
        self.reporter.tcp(edge, line, self.started)


OpaqueFactory = Callable[[], OpaqueSide]
