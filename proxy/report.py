"""What is said of an exchange or a tunnel when it is over: one log line, one set of counters.

Hot file: both roles call it once per request.
"""

from __future__ import annotations

import time

from meshpy.engine.rate_limits import STAGE
from meshpy.engine.verdict import Verdict
from proxy.access_log import AccessLog, Line, quoted, quoted_bytes
from proxy.exchange import Exchange
from proxy.sides import ClientConnection
from proxy.telemetry import Edge, Telemetry

__all__ = ["Reporter"]


class Reporter:
    """Writes and counts for one direction."""

    __slots__ = ("direction", "log", "telemetry")

    def __init__(self, direction: str, log: AccessLog, telemetry: Telemetry) -> None:
        self.direction = direction
        self.log = log
        self.telemetry = telemetry

    def http(
        self,
        down: ClientConnection,
        exchange: Exchange,
        edge: Edge,
        principal: str,
        server_name: str = "",
    ) -> None:
        """Account for an exchange that is over."""
        duration_ms = (down.own.loop.time() - exchange.started_at) * 1000.0
        reply = exchange.reply
        edge.http(exchange.status, exchange.flags, duration_ms, exchange.bytes_received, exchange.bytes_sent)
        if exchange.attempts > 1:
            edge.retries += exchange.attempts - 1
            edge.recovered += exchange.is_recovered
        if reply is not None and reply.stage == STAGE:
            self.telemetry.limit(reply.policy, reply.rule)
        elif reply is not None and reply.policy:
            edge.deny(reply.policy)
            self.telemetry.verdict(reply.stage, reply.policy, reply.rule, allowed=False)
        if not self.log.is_on:
            return
        head = exchange.head
        plan = exchange.plan
        host = exchange.host
        fields = head.fields
        agent = fields.get(b"user-agent")
        policy = rule = stage = route_name = ""
        if plan is not None:
            route_name = plan.route_name
        if reply is not None:
            policy, rule, stage = reply.policy, reply.rule, reply.stage
            route_name = route_name or reply.route_name
        self.log.http(
            time.time() - duration_ms / 1000.0,
            (
                self.direction,
                head.method,
                quoted_bytes(head.target),
                head.minor,
                exchange.status,
                exchange.flags,
                quoted(exchange.details),
                exchange.bytes_received,
                exchange.bytes_sent,
                int(duration_ms),
                "null" if exchange.response_head is None else int(exchange.upstream_time_s * 1000),
                quoted_bytes(fields.get(b"x-forwarded-for")),
                "null" if agent is None else quoted(agent.decode("latin-1")),
                quoted_bytes(exchange.request_id),
                exchange.trace[3:35].decode("latin-1"),
                quoted(head.authority.text),
                host.name if host is not None else "",
                plan.upstream.cluster.name if plan is not None else "",
                down.local_address,
                down.peer_address,
                server_name,
                quoted(route_name),
                quoted(exchange.last_failure),
                exchange.attempts,
                principal,
                quoted(policy),
                quoted(rule),
                stage,
            ),
        )

    def observe(self, verdict: Verdict) -> None:
        """Count what decides nothing: audits, Log rules, and the verdict of staged policies."""
        count = self.telemetry.verdict
        for label in verdict.audited:
            count("audit", label, "", allowed=verdict.allowed)
        pending = verdict.pending
        if pending is not None:
            count("pending", pending.policy or pending.stage, pending.rule, allowed=pending.allowed)

    def tcp(
        self,
        edge: Edge,
        line: Line,
        started: float,
    ) -> None:
        """Account for a tunnel that is over."""
        edge.bytes_received += line.bytes_received
        edge.bytes_sent += line.bytes_sent
        edge.closed += 1
        self.log.tcp(line, started=started)
