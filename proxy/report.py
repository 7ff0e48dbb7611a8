"""What is said of an exchange or a tunnel when it is over: one log line, one set of counters.

Hot file: both roles call it once per request. What does not change while a connection uses one route and one
host is joined once and kept with the connection.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from meshpy.engine.log_filter import LogTest, compile_filter
from meshpy.engine.rate_limits import STAGE
from meshpy.engine.request import host_of
from meshpy.engine.verdict import Verdict
from meshpy.model.telemetry import Reporting
from proxy.access_log import AccessLog, Line, quoted, time_text
from proxy.decide.tracing import begin_span
from proxy.exchange import Exchange
from proxy.flow_log import FlowLog
from proxy.http.head import RequestHead
from proxy.log_shape import LogOptions, LogShape, ecs_line, logfmt_line
from proxy.observed import UNOBSERVED, Observed, observed_in
from proxy.plan import Reply
from proxy.recent import MAX_TEXT, Alike, Odd, seen_of
from proxy.redaction import redacted_target
from proxy.span_tags import NO_TAGS, SpanTags
from proxy.spans import Spans
from proxy.tap import Tap
from proxy.telemetry import Edge, EdgeKey, Telemetry
from proxy.tunnel_line import log_tunnel

if TYPE_CHECKING:
    from proxy.downstream.life import HttpConnection
    from proxy.log_shape import Shape
    from proxy.recent import Record, Seen

__all__ = ["Reporter"]

_monotonic: Final = time.monotonic
_MEMO_ENTRIES: Final = 256
_MEMO_CHARS: Final = 255
_OBSERVED_ENTRIES: Final = 4096
_TEXTS: Final = (
    '{"start_time":"', "", "", "", "", ',"bytes_sent":', ',"duration":', ',"upstream_service_time":',
    ',"x_forwarded_for":', ',"user_agent":', ',"request_id":', ',"trace_id":', "",
)  # fmt: skip
"""Of a line of the log, each before its value."""
_VIA_UPSTREAM: Final = "via_upstream"
_UNOBSERVED: Final = UNOBSERVED
"""A constant of another module is looked for by its name at each use, compiled too."""
_VERSIONS: Final = ("HTTP/1.0", "HTTP/1.1", "HTTP/2")


class Reporter:
    """Writes and counts for one direction."""

    __slots__ = (
        "_is_logged",
        "_logs",
        "_logs_all",
        "_observed",
        "_recent",
        "_sends_spans",
        "_shape",
        "_tags",
        "direction",
        "flows",
        "log",
        "options",
        "spans",
        "tap",
        "telemetry",
    )

    def __init__(
        self,
        direction: str,
        log: AccessLog,
        telemetry: Telemetry,
        spans: Spans,
        tap: Tap,
        flows: FlowLog,
        options: LogOptions,
    ) -> None:
        self.direction = direction
        self.flows = flows
        self.options = options
        self._logs_all = options.kept_pct >= 100
        self._shape = {LogShape.ECS: ecs_line, LogShape.LOKI: logfmt_line}.get(options.shape)
        self.log = log
        self.telemetry = telemetry
        self.spans = spans
        self._recent = spans.recent
        self.tap = tap
        self._logs = self._sends_spans = True
        self._is_logged: LogTest | None = None
        self._tags: SpanTags = NO_TAGS
        self._observed: dict[int, Observed] = {}

    def follow(self, reporting: Reporting) -> None:
        """Report as a snapshot says from now on."""
        rule = reporting.log
        self._logs = not rule.is_off
        self._is_logged = compile_filter(rule.filter) if rule.filter is not None else None
        self._sends_spans = reporting.sends_spans
        self._tags = SpanTags.of(reporting.span_tags, os.environ)

    def http(
        self,
        down: HttpConnection,
        exchange: Exchange,
        edge: Edge,
        principal: str,
        server_name: str = "",
    ) -> None:
        """Account for an exchange that is over."""
        # Not the loop's clock, which stands still within a turn and counts whole milliseconds.
        took_s = _monotonic() - exchange.started_at
        duration_ms = took_s * 1000.0
        observed = self._observed.pop(id(exchange.head), _UNOBSERVED) if self._observed else _UNOBSERVED
        reply = exchange.reply
        call = exchange.grpc
        grpc_status = "" if call is None or call.status is None else str(call.status)
        edge.http(
            exchange.status,
            exchange.flags,
            duration_ms,
            exchange.bytes_received,
            exchange.bytes_sent,
            grpc_status,
        )
        if call is not None or exchange.attempts > 1:
            self._account_more(exchange, edge)
        if reply is not None:
            self._account_reply(down, exchange, reply, edge)
        is_told = self._sends_spans and self.spans.is_wanted(exchange, took_s)
        head = exchange.head
        alike = down.alike
        if alike is None or not alike.is_of(exchange, edge):
            alike = down.alike = Alike.of(exchange, edge)
        odd: Odd | None = None
        if exchange.attempts != 1 or reply is not None or call is not None or observed is not _UNOBSERVED:
            began_at, log = exchange.upstream_started_at, exchange.attempt_log
            odd = (exchange.attempts, began_at, reply, call, log, observed.audit)
        self._recent.add(
            alike, exchange.trace, exchange.parent, is_told or not self._sends_spans,
            exchange.started_at + took_s, exchange.started_at, head.path, exchange.bytes_sent,
            exchange.bytes_received, odd,
        )  # fmt: skip
        if is_told:
            self.spans.record(_record(alike, exchange, took_s, odd), down, exchange, self._tags)
            edge.remember(exchange.trace, duration_ms, time.time())
        if self.tap.is_on:
            self.tap.http(seen_of(_record(alike, exchange, took_s, odd)))
        if (
            self.log.is_on
            and self._logs
            and (self._is_logged is None or self._passes(exchange, edge))
            and (self._logs_all or self.options.keeps(exchange))
        ):
            if self._shape is None:
                self._log(down, alike, exchange, duration_ms, principal, server_name, observed)
            else:
                ends = {"peer": down.peer_address, "local": down.local_address}
                ends |= {"principal": principal, "server_name": server_name}
                seen = seen_of(_record(alike, exchange, took_s, odd))
                self._log_shaped(self._shape, took_s, seen, exchange, ends)

    def _account_more(self, exchange: Exchange, edge: Edge) -> None:
        """Count what few exchanges have: messages of a gRPC call, and further tries."""
        call = exchange.grpc
        if call is not None:
            edge.request_messages += call.requests.count
            edge.response_messages += call.responses.count
        if exchange.attempts > 1:
            edge.retries += exchange.attempts - 1
            edge.recovered += exchange.is_recovered

    def _account_reply(self, down: HttpConnection, exchange: Exchange, reply: Reply, edge: Edge) -> None:
        """Count an answer of the mesh's own; it has a place in its trace though it was not forwarded."""
        if reply.stage == STAGE:
            self.telemetry.limit(reply.policy, reply.rule)
        elif reply.policy:
            edge.deny(reply.policy)
            self.telemetry.verdict(reply.stage, reply.policy, reply.rule, allowed=False)
            self.flows.decide(edge.key, "DENIED", reply.policy, reply.rule, reply.stage)
        if not exchange.trace:
            exchange.trace, exchange.parent, _ = begin_span(exchange.head, down.own.ids, [])

    def _passes(self, exchange: Exchange, edge: Edge) -> bool:
        test, head = self._is_logged, exchange.head
        agent = head.fields.get(b"user-agent", b"").decode("latin-1")
        host = host_of(head.authority.text)
        return test is None or test(exchange.status, head.method, head.path, host, agent, edge.key.is_mtls)

    def _log_shaped(
        self,
        shape: Shape,
        took_s: float,
        seen: Seen,
        exchange: Exchange,
        ends: dict[str, str],
    ) -> None:
        """One line in a shape of other systems."""
        started = time_text(time.time() - took_s)
        self.log.write(shape(started, seen, exchange, ends, self.options))

    def _log(
        self,
        down: HttpConnection,
        alike: Alike,
        exchange: Exchange,
        duration_ms: float,
        principal: str,
        server_name: str,
        observed: Observed,
    ) -> None:
        head, fields = exchange.head, exchange.head.fields
        target = head.target
        if head.query and self.options.is_redacted:
            target = redacted_target(target)
        is_straight = _is_straight(exchange, observed)
        line = alike.line if is_straight else None
        if line is None:
            line = self._line(down, exchange, principal, server_name, observed)
            if is_straight:
                alike.line = line
        begin, outcome, end = line
        self.log.http(
            _TEXTS,
            (
                exchange.started_at + self.log.wall, begin, target, outcome, exchange.bytes_received,
                exchange.bytes_sent, int(duration_ms),
                None if exchange.response_head is None else int(exchange.upstream_time_s * 1000),
                fields.get(b"x-forwarded-for"), fields.get(b"user-agent"), exchange.request_id,
                exchange.trace[3:35], end,
            ),
        )  # fmt: skip

    def _line(
        self,
        down: HttpConnection,
        exchange: Exchange,
        principal: str,
        server_name: str,
        observed: Observed,
    ) -> tuple[str, str, str]:
        """What stands between what differs from one request to the next."""
        begin = f'","direction":"{self.direction}","method":"{exchange.head.method}","path":'
        end = _ends(down, exchange, principal, server_name) + _oddities(exchange, observed)
        return begin, _outcome(exchange), end

    def observe(self, verdict: Verdict, key: EdgeKey, head: RequestHead | None = None) -> Observed:
        """Count what decides nothing: audits, Log rules, and the verdict of staged policies.

        Args:
            key: who speaks to whom.
            head: of the request whose records tell of it.
        """
        count = self.telemetry.verdict
        for label in verdict.audited:
            count("audit", label, "", allowed=verdict.allowed)
            self.flows.decide(key, "AUDIT", label, "", "audit")
        pending = verdict.pending
        if pending is not None:
            count("pending", pending.policy or pending.stage, pending.rule, allowed=pending.allowed)
            if verdict.allowed and not pending.allowed:
                self.flows.decide(key, "AUDIT", pending.policy, pending.rule, "pending")
        observed = observed_in(verdict)
        if head is not None:
            if len(self._observed) >= _OBSERVED_ENTRIES:
                self._observed.clear()
            self._observed[id(head)] = observed
        return observed

    def tcp(
        self,
        edge: Edge,
        line: Line,
        started: float,
    ) -> None:
        """Account for a tunnel that is over."""
        edge.closed += 1
        if line.stage:
            self.flows.decide(edge.key, "DENIED", line.policy, line.rule, line.stage)
        if self.tap.is_on:
            self.tap.tcp(line, edge)
        # An opaque connection has no response code or path, so a filter that asks for one keeps it out.
        if self._logs and self._is_logged is None:
            log_tunnel(self.log, self.options, edge.key, line, started)


def _record(alike: Alike, exchange: Exchange, took_s: float, odd: Odd | None) -> Record:
    """What is told of few exchanges."""
    return (
        alike, exchange.trace, exchange.parent, True, exchange.started_at + took_s, exchange.started_at,
        exchange.head.path[:MAX_TEXT], exchange.bytes_sent, exchange.bytes_received, odd,
    )  # fmt: skip


def _is_straight(exchange: Exchange, observed: Observed) -> bool:
    """Whether a line says of it what those of others like it say."""
    return (
        exchange.details == _VIA_UPSTREAM
        and exchange.reply is None
        and exchange.grpc is None
        and exchange.attempts == 1
        and not exchange.last_failure
        and observed is _UNOBSERVED
    )


def _ends(down: HttpConnection, exchange: Exchange, principal: str, server_name: str) -> str:
    """Who spoke to whom over which route; the same for most requests of a connection."""
    plan, host, reply = exchange.plan, exchange.host, exchange.reply
    authority = exchange.head.authority.text
    key = None
    if plan is not None and reply is None and len(authority) <= _MEMO_CHARS:
        key = (plan.upstream, host, plan.route_name, authority)
    known = down.memo.get(key)
    if type(known) is str:
        return known
    route_name = plan.route_name if plan is not None else ""
    if reply is not None:
        route_name = route_name or reply.route_name
    text = (
        f',"authority":{quoted(authority)},"upstream_host":"{host.name if host is not None else ""}",'
        f'"upstream_cluster":"{plan.upstream.cluster.name if plan is not None else ""}",'
        f'"downstream_local_address":"{down.local_address}",'
        f'"downstream_remote_address":"{down.peer_address}","requested_server_name":"{server_name}",'
        f'"route_name":{quoted(route_name)},"principal":"{principal}",'
    )
    if key is not None:
        if len(down.memo) >= _MEMO_ENTRIES:
            down.memo.clear()
        down.memo[key] = text
    return text


def _outcome(exchange: Exchange) -> str:
    call = exchange.grpc
    grpc_status = "null" if call is None or call.status is None else str(call.status)
    return (
        f',"protocol":"{_VERSIONS[exchange.head.minor]}","response_code":{exchange.status},'
        f'"grpc_status":{grpc_status},"response_flags":"{exchange.flags}",'
        f'"response_code_details":{quoted(exchange.details)},"bytes_received":'
    )


def _oddities(exchange: Exchange, observed: Observed) -> str:
    """The end of the line when there were more tries than one, an answer of our own, or a staged verdict."""
    reply = exchange.reply
    policy = rule = stage = ""
    if reply is not None:
        policy, rule, stage = reply.policy, reply.rule, reply.stage
    return (
        f'"upstream_transport_failure_reason":{quoted(exchange.last_failure)},"attempts":{exchange.attempts},'
        f'"policy":{quoted(policy)},"rule":{quoted(rule)},"stage":"{stage}"'
        + (f',"audited":{quoted(observed.audit)}' if observed.audit else "")
        + (f',"pending":{quoted(observed.pending)}}}\n' if observed.pending else "}\n")
    )
