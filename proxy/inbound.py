"""Inbound: others call the app. Who is it, may it, and then to the app in plaintext on its own network.

Over the mesh port a caller has proved its SPIFFE identity in the handshake and the server name tells the
port; at an edge address (published ports, unmeshed callers) it has none.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from meshpy.engine.authenticate import Authenticator, Refused
from meshpy.engine.authorize import ConnectionJudge
from meshpy.engine.inbound import as_authenticated
from meshpy.engine.rate_limits import STAGE as RATE_LIMIT
from meshpy.engine.request import Request
from meshpy.engine.verdict import Verdict
from meshpy.live import Live
from meshpy.model.ingress import IngressServer
from proxy.authentication import changed_plan, hide_tokens, unauthenticated
from proxy.caller import Caller, edge_key
from proxy.config import Compiled, InboundTarget
from proxy.consult import Consultation
from proxy.decide.headers import forwarded_for, requested_id, spoofed_names
from proxy.decide.limit import admit
from proxy.decide.tracing import begin_span
from proxy.denial import denial, too_many
from proxy.edge_requests import edge_answer, tell_certificate
from proxy.exchange import TIMEOUT_MS, Exchange
from proxy.ext_authz_grpc import Parties
from proxy.http.events import Headers
from proxy.http.head import RequestHead
from proxy.http.hygiene import is_spoofable
from proxy.plan import Plan, Reply
from proxy.report import Reporter
from proxy.requests import as_request
from proxy.sides import Role
from proxy.way import Way

if TYPE_CHECKING:
    from proxy.downstream.life import HttpConnection

__all__ = ["Inbound"]

_log = logging.getLogger("meshpy.proxy")

_MEMO_ENTRIES: Final = 256
_ADMITTING: Final = ("", RATE_LIMIT)
"""Stages of answers of our own that say nothing of who may do what."""


class Inbound(Role):
    """The role of connections to one port of the app.

    Args:
        caller_of: makes the Caller of a connection, once.
        port: of the app.
    """

    tells_not_sent = True

    def __init__(
        self,
        live: Live[Compiled],
        reporter: Reporter,
        caller_of: Callable[[HttpConnection], Caller],
        port: int,
    ) -> None:
        self._live = live
        self._reporter = reporter
        self._caller_of = caller_of
        self._port = port
        self._way = Way(reporter)

    @property
    def allows_connect(self) -> bool:
        """Whether a route leads CONNECT to this port."""
        target = self._live.value.inbound.get(self._port)
        return target is not None and target.port.allows_connect

    def name_peer(self, down: HttpConnection) -> None:
        down.context = self._caller_of(down)

    def _caller(self, down: HttpConnection) -> Caller:
        caller = down.context
        assert isinstance(caller, Caller)  # noqa: S101 - `name_peer` has set it
        compiled = self._live.value
        if caller.compiled is not compiled:
            caller.renew(compiled, down.local_address.rpartition(":")[0])
            down.memo.clear()
        return caller

    def decide(self, down: HttpConnection, head: RequestHead) -> Plan | Reply | Consultation:
        caller = self._caller(down)
        if caller.certificate is None:
            tell_certificate(head, caller.fields)
            if caller.server is not None and (answer := edge_answer(head, caller.server, caller.tls)):
                return answer
        judge, target = caller.judge, caller.target
        if judge is None or target is None:
            return Reply(404, "NR", "route_not_found", b"the port is not served any more\n")
        onward = self._onward(down, head, caller.server, target) if caller.server is not None else target.plan
        if isinstance(onward, Plan):
            return self._decide(down, head, caller, judge, onward)
        decision = self._decide(down, head, caller, judge, target.plan, onward)
        return onward if isinstance(decision, Plan) else decision

    def _onward(
        self, down: HttpConnection, head: RequestHead, server: IngressServer, target: InboundTarget
    ) -> Plan | Reply:
        """Where a request that entered at a server is led, should it be let in; without routes to the app."""
        compiled = self._live.value
        routes = compiled.edge.get(server.published)
        if routes is None or routes.router is None:
            return target.plan
        settled = routes.settled.get((head.method, head.path, head.authority.text))
        return settled or self._way.follow(routes, routes.router, compiled, head, down.own.draw)

    def _decide(
        self,
        down: HttpConnection,
        head: RequestHead,
        caller: Caller,
        judge: ConnectionJudge,
        plan: Plan,
        answer: Reply | None = None,
    ) -> Plan | Reply | Consultation:
        """Args:
        answer: of a route, in place of the plan where somebody else has to be asked first.
        """
        if caller.compiled is not None and caller.compiled.authenticator is not None and not judge.is_closed:
            return self._decide_authenticated(
                down, caller, caller.compiled.authenticator, head, judge, plan, answer
            )
        if judge.custom:
            return self._consult(down, caller, head, as_request(head), plan, answer)
        return self._outcome(down, head, caller, plan, judge.constant or self._judge(down, judge, head))

    def rejudge(self, down: HttpConnection, head: RequestHead) -> Plan | Reply:
        """As `decide`, of what was let in before: it counts against no rate, and nobody is asked again."""
        caller = self._caller(down)
        limits, caller.limits, caller.is_known = caller.limits, (), True
        try:
            decision = self.decide(down, head)
        finally:
            caller.limits, caller.is_known = limits, False
        assert not isinstance(decision, Consultation)  # noqa: S101 - `_consult` asks strangers alone
        return decision

    def _consult(
        self,
        down: HttpConnection,
        caller: Caller,
        head: RequestHead,
        request: Request,
        plan: Plan,
        answer: Reply | None,
    ) -> Plan | Reply | Consultation:
        """Ask the providers of the CUSTOM rules that the request meets, or decide without them."""
        judge, compiled = caller.judge, caller.compiled
        assert judge is not None and compiled is not None  # noqa: S101, PT018 - `decide` has checked

        def decide(plan: Plan, request: Request) -> Plan | Reply:
            found = self._outcome(down, head, caller, plan, judge.constant or judge.judge(request))
            return answer if answer is not None and isinstance(found, Plan) else found

        if judge.is_closed or caller.is_known or judge.is_refused_early(request):
            return decide(plan, request)
        entries = judge.asked(request)
        if not entries:
            return decide(plan, request)
        return Consultation(
            entries,
            compiled.providers,
            _fields_for_app(down, head, caller),
            request,
            plan,
            decide,
            self._reporter.telemetry,
            _parties(down, caller, compiled),
            is_named=caller.certificate is not None,
        )

    def _outcome(
        self, down: HttpConnection, head: RequestHead, caller: Caller, plan: Plan, verdict: Verdict
    ) -> Plan | Reply:
        if (verdict.audited or verdict.pending is not None) and not caller.is_known:
            self._reporter.observe(verdict, edge_key(caller, self._live.value, "http"), head)
        if not verdict.allowed:
            return denial(verdict, plan.service, is_named=caller.certificate is not None)
        if verdict.policy and not caller.is_known:
            self._reporter.telemetry.verdict(verdict.stage, verdict.policy, verdict.rule, allowed=True)
        if caller.limits:
            refusal = admit(caller.limits, caller.peer, as_request(head), down.own.loop.time())
            if refusal is not None:
                return too_many(refusal, plan.service, is_named=caller.certificate is not None)
        return plan

    def _judge(self, down: HttpConnection, judge: ConnectionJudge, head: RequestHead) -> Verdict:
        if judge.depends_on_headers:
            return judge.judge(as_request(head))
        key = (head.method, head.path, head.authority.text)
        known = down.memo.get(key)
        if isinstance(known, Verdict):
            return known
        return _keep(down, key, judge.judge(as_request(head)))

    def _decide_authenticated(
        self,
        down: HttpConnection,
        caller: Caller,
        authenticator: Authenticator,
        head: RequestHead,
        judge: ConnectionJudge,
        plan: Plan,
        answer: Reply | None,
    ) -> Plan | Reply | Consultation:
        request = as_request(head)
        original = hide_tokens(head, authenticator.params) if authenticator.params else None
        outcome = authenticator.authenticate(request, time.time())
        if isinstance(outcome, Refused):
            is_named = caller.certificate is not None
            return unauthenticated(outcome, plan.service, is_named=is_named)
        if judge.custom:
            plan = changed_plan(plan, head, outcome, original)
            return self._consult(down, caller, head, as_authenticated(request, outcome), plan, answer)
        verdict = judge.constant
        if verdict is None and judge.depends_on_headers:
            verdict = judge.judge(as_authenticated(request, outcome))
        elif verdict is None:
            request.auth = outcome.auth
            key = (head.method, head.path, head.authority.text, outcome.auth)
            known = down.memo.get(key)
            verdict = known if isinstance(known, Verdict) else _keep(down, key, judge.judge(request))
        decision = self._outcome(down, head, caller, plan, verdict)
        if isinstance(decision, Reply):
            return decision
        return changed_plan(decision, head, outcome, original)

    def write_fields(self, down: HttpConnection, exchange: Exchange, extra: Headers) -> list[bytes]:
        head = exchange.head
        caller = down.context
        ids = down.own.ids
        exchange.request_id = requested_id(head, ids, extra)
        exchange.trace, exchange.parent, replaced = begin_span(head, ids, extra)
        dropped = [*spoofed_names(head), *replaced]
        assert isinstance(caller, Caller)  # noqa: S101 - `name_peer` has set it
        if caller.certificate is not None:
            extra += caller.fields
            if dropped and (limit := head.fields.get(TIMEOUT_MS)) is not None:
                # Of a peer of the mesh alone; anybody else's is dropped unread.
                exchange.caller_limit_s = _seconds(limit)
        else:
            extra += caller.fields
            dropped += forwarded_for(head, down.peer_address, extra, is_secured=caller.is_secured)
        return dropped

    def is_still_admitted(self, down: HttpConnection) -> bool:
        caller = self._caller(down)
        if caller.is_cut(self._live.value):
            down.cut()
            return False
        judge = caller.judge
        return caller.target is not None and judge is not None and not judge.is_closed

    def account(self, down: HttpConnection, exchange: Exchange) -> None:
        caller = down.context
        assert isinstance(caller, Caller)  # noqa: S101 - `name_peer` has set it
        if exchange.grpc is not None:
            edge = caller.grpc_edge
            if edge is None:
                key = edge_key(caller, self._live.value, "grpc")
                edge = caller.grpc_edge = self._reporter.telemetry.edge(key)
        else:
            edge = caller.edge
            if edge is None:
                edge = caller.edge = self._reporter.telemetry.edge(edge_key(caller, self._live.value, "http"))
        kinds = caller.kinds
        if kinds is None:
            kinds = caller.kinds = self._reporter.telemetry.admitted.of(edge.key.source, caller.port)
        reply = exchange.reply
        if reply is None or reply.stage in _ADMITTING:
            kinds.add(exchange.head.method, exchange.head.path)
        self._reporter.http(down, exchange, edge, caller.peer.principal, caller.sni)


def _parties(down: HttpConnection, caller: Caller, compiled: Compiled) -> Parties:
    workload = compiled.snapshot.workload
    own = f"spiffe://{workload.trust_domain}{workload.name.spiffe_path}"
    principal = f"spiffe://{caller.peer.principal}" if caller.peer.principal else ""
    address = down.local_address.rpartition(":")[0]
    return Parties((caller.peer.address, 0, principal), (address, caller.port, own))


def _fields_for_app(down: HttpConnection, head: RequestHead, caller: Caller) -> Headers:
    """What the app would receive, lower-case names: fields of the mesh are ours, not a stranger's."""
    extra: Headers = list(caller.fields)
    dropped = (
        []
        if caller.certificate is not None
        else forwarded_for(head, down.peer_address, extra, is_secured=caller.is_secured)
    )
    fields = [(name.lower(), value) for name, value in head.headers]
    return [pair for pair in fields if pair[0] not in dropped and not is_spoofable(pair[0])] + extra


def _keep(down: HttpConnection, key: tuple[object, ...], verdict: Verdict) -> Verdict:
    """Remember a verdict for the connection's next requests of the same kind."""
    if len(down.memo) >= _MEMO_ENTRIES:
        down.memo.clear()
    down.memo[key] = verdict
    return verdict


def _seconds(milliseconds: bytes) -> float | None:
    """What a peer says it will wait; None for what is no number of milliseconds."""
    if not milliseconds.isdigit() or len(milliseconds) > 9:
        return None
    return int(milliseconds) / 1000
