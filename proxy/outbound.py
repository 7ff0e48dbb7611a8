"""Outbound: the app calls. Route, ask the egress rules, send to an endpoint whose identity is verified."""

from __future__ import annotations

from meshpy.engine.route import Direct, NoRoute, Redirected
from meshpy.live import Live
from meshpy.model.endpoint import Transport
from proxy.config import Compiled, OutboundTarget
from proxy.decide.headers import spoofed_names, tracing
from proxy.denial import denial
from proxy.exchange import Exchange
from proxy.http.events import Headers
from proxy.http.head import RequestHead
from proxy.net.pool import Host
from proxy.plan import Plan, Reply
from proxy.report import Reporter
from proxy.requests import as_request
from proxy.sides import ClientConnection
from proxy.telemetry import Edge, EdgeKey

__all__ = ["Outbound"]

_MAX_EDGES = 1024
_PROTO = (b"x-forwarded-proto", b"http")


class Outbound:
    """The role of the connections that one outbound listener accepts."""

    tells_not_sent = False

    def __init__(self, key: tuple[str, int], live: Live[Compiled], reporter: Reporter) -> None:
        self._key = key
        self._live = live
        self._reporter = reporter
        self._edges: dict[tuple[Host | None, str], Edge] = {}

    def name_peer(self, down: ClientConnection) -> None:
        """The app needs no name: only it is on this network."""

    def decide(self, down: ClientConnection, head: RequestHead) -> Plan | Reply:
        compiled = self._live.value
        target = compiled.outbound.get(self._key)
        if target is None or target.router is None:
            return Reply(404, "NR", "route_not_found", b"this listener is being closed\n")
        request = as_request(head)
        routing = target.router.route(request, down.own.draw())
        if isinstance(routing, NoRoute):
            return _no_route(routing)
        if isinstance(routing, Redirected):
            location = (b"location", routing.location.encode("latin-1", "replace"))
            return Reply(
                routing.status,
                "-",
                "direct_response",
                b"",
                (location,),
                routing.virtual_host,
                routing.rule.name,
            )
        if isinstance(routing, Direct):
            body = routing.body.encode()
            return Reply(
                routing.status, "-", "direct_response", body, (), routing.virtual_host, routing.rule.name
            )
        verdict = target.judge(compiled.egress, routing.destination, request)
        if verdict.audited or verdict.pending is not None:
            self._reporter.observe(verdict)
        if not verdict.allowed:
            return denial(verdict, routing.virtual_host, is_named=True)
        return target.plan_of(routing)

    def write_fields(self, down: ClientConnection, exchange: Exchange, extra: Headers) -> list[bytes]:
        head = exchange.head
        dropped = spoofed_names(head)
        exchange.request_id, exchange.trace, is_trace_bad = tracing(head, down.own.ids, extra)
        if is_trace_bad:
            dropped.append(b"traceparent")
        if b"x-forwarded-proto" not in head.fields:
            extra.append(_PROTO)
        return dropped

    def is_still_admitted(self, down: ClientConnection) -> bool:  # noqa: ARG002 - the Role's signature
        """Every request is judged anew, so the connection may stay as long as its listener does."""
        return self._key in self._live.value.outbound

    def account(self, down: ClientConnection, exchange: Exchange) -> None:
        self._reporter.http(down, exchange, self._edge(exchange), self._live.value.workload)

    def _edge(self, exchange: Exchange) -> Edge:
        reply = exchange.reply
        plan = exchange.plan
        service = plan.service if plan is not None else (reply.service if reply is not None else "")
        key = (exchange.host, service)
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
        return EdgeKey("outbound", self._live.value.workload, destination, service, "http", is_mtls)


def _no_route(routing: NoRoute) -> Reply:
    flags, details = ("NR", "route_not_found") if routing.status == 404 else ("-", "rewrite_failed")
    return Reply(routing.status, flags, details, f"{routing.reason}\n".encode(), service=routing.virtual_host)


def tcp_target(compiled: Compiled, key: tuple[str, int]) -> OutboundTarget | None:
    """What an opaque listener leads to now."""
    target = compiled.outbound.get(key)
    return target if target is not None and target.tcp is not None else None
