"""Outbound: the app calls. Route, ask the egress rules, send to an endpoint whose identity is verified."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from meshpy.live import Live
from meshpy.model.endpoint import Transport
from proxy.config import Compiled
from proxy.decide.headers import requested_id, spoofed_names
from proxy.decide.tracing import begin_span
from proxy.exchange import Exchange
from proxy.http.events import Headers
from proxy.http.head import RequestHead
from proxy.net.host import Host
from proxy.plan import Plan, Reply
from proxy.report import Reporter
from proxy.sides import Role
from proxy.telemetry import Edge, EdgeKey
from proxy.way import Way

if TYPE_CHECKING:
    from proxy.downstream.life import HttpConnection

__all__ = ["Outbound"]

_MAX_EDGES: Final = 1024
_PROTO: Final = (b"x-forwarded-proto", b"http")


class Outbound(Role):
    """The role of the connections that one outbound listener accepts."""

    tells_not_sent = False

    def __init__(self, key: tuple[str, int], live: Live[Compiled], reporter: Reporter) -> None:
        self._key = key
        self._live = live
        self._reporter = reporter
        self._edges: dict[tuple[Host | None, str, bool], Edge] = {}
        self._way = Way(reporter)

    @property
    def allows_connect(self) -> bool:
        """Whether a route takes CONNECT by name."""
        target = self._live.value.outbound.get(self._key)
        return target is not None and target.router is not None and target.router.allows_connect

    def name_peer(self, down: HttpConnection) -> None:
        """The app needs no name: only it is on this network."""

    def decide(self, down: HttpConnection, head: RequestHead) -> Plan | Reply:
        compiled = self._live.value
        target = compiled.outbound.get(self._key)
        if target is None or target.router is None:
            return Reply(404, "NR", "route_not_found", b"this listener is being closed\n")
        settled = target.settled.get((head.method, head.path, head.authority.text))
        if settled is not None:
            return settled
        return self._way.follow(target, target.router, compiled, head, down.own.draw)

    def rejudge(self, down: HttpConnection, head: RequestHead) -> Plan | Reply:
        return self.decide(down, head)

    def write_fields(self, down: HttpConnection, exchange: Exchange, extra: Headers) -> list[bytes]:
        head = exchange.head
        ids = down.own.ids
        exchange.request_id = requested_id(head, ids, extra)
        exchange.trace, exchange.parent, replaced = begin_span(head, ids, extra)
        exchange.attempt_log = ()
        dropped = [*spoofed_names(head), *replaced]
        if b"x-forwarded-proto" not in head.fields:
            extra.append(_PROTO)
        return dropped

    def is_still_admitted(self, down: HttpConnection) -> bool:  # noqa: ARG002 - the Role's signature
        """Every request is judged anew, so the connection may stay as long as its listener does."""
        return self._key in self._live.value.outbound

    def account(self, down: HttpConnection, exchange: Exchange) -> None:
        self._reporter.http(down, exchange, self._edge(exchange), self._live.value.workload)

    def _edge(self, exchange: Exchange) -> Edge:
        reply = exchange.reply
        plan = exchange.plan
        service = plan.service if plan is not None else (reply.service if reply is not None else "")
        key = (exchange.host, service, exchange.grpc is not None)
        edge = self._edges.get(key)
        if edge is None:
            if len(self._edges) >= _MAX_EDGES:
                self._edges.clear()
            edge = self._edges[key] = self._reporter.telemetry.edge(self._edge_key(exchange, service))
        return edge

    def _edge_key(self, exchange: Exchange, service: str) -> EdgeKey:
        host = exchange.host
        destination = ""
        is_mtls = False
        if host is not None:
            destination = str(host.endpoint.workload) if host.endpoint.workload is not None else ""
            is_mtls = host.upstream.cluster.transport is Transport.MTLS
        protocol = "http" if exchange.grpc is None else "grpc"
        return EdgeKey("outbound", self._live.value.workload, destination, service, protocol, is_mtls)
