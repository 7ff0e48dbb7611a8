"""The first steps of a request: judged, delayed or aborted by a fault, given the mesh's fields, forwarded.

The same for every protocol: an exchange is known here by its head and its downstream side.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from proxy.consult import Consultation
from proxy.decide.grpc import call_of
from proxy.exchange import HALF_CLOSE, NOT_SENT, TIMEOUT_MS, TOO_LARGE, Exchange
from proxy.http.events import Framing, Headers
from proxy.overload import OVERLOADED
from proxy.plan import NO_OPS, Plan, Reply
from proxy.sides import Role

__all__ = ["follow", "forward", "no_memory", "take"]

_ABORTED: Final = b"fault filter abort"


def take(exchange: Exchange, role: Role) -> None:
    """Decide what becomes of a request whose head was read, and set about it."""
    down, head = exchange.down, exchange.head
    exchange.grpc = call_of(head)
    if down.own.refuses_requests:
        _answer_at_head(exchange, no_memory(tells_not_sent=down.tells_not_sent))
        return
    if head.content_length and head.content_length > down.own.max_request_bytes:
        _answer_at_head(exchange, TOO_LARGE)
        return
    follow(exchange, role, role.decide(exchange.down.connection, exchange.head))


def no_memory(*, tells_not_sent: bool) -> Reply:
    """The answer to a request that there is no memory for; another replica may have some."""
    return (
        replace(OVERLOADED, headers=(*OVERLOADED.headers, (NOT_SENT, b"1"))) if tells_not_sent else OVERLOADED
    )


def follow(exchange: Exchange, role: Role, decision: Plan | Reply | Consultation) -> None:
    """Set about what was decided."""
    if isinstance(decision, Reply):
        _answer_at_head(exchange, decision)
    elif isinstance(decision, Consultation):
        decision.start(exchange, lambda decided: _after_consulting(exchange, role, decided))
    elif decision.fault is None or not _inject(exchange, role, decision):
        forward(exchange, role, decision)


def _answer_at_head(exchange: Exchange, reply: Reply) -> None:
    """Answer without the content: only a request that has none leaves a connection usable."""
    head = exchange.head
    has_none = head.framing is Framing.NONE or (head.framing is Framing.LENGTH and not head.content_length)
    exchange.is_request_complete = exchange.is_request_complete or has_none
    exchange.answer(reply)


def forward(exchange: Exchange, role: Role, plan: Plan) -> None:
    """Begin the exchange with the fields that the mesh and the route add."""
    extra: Headers = []
    dropped = role.write_fields(exchange.down.connection, exchange, extra)
    if plan.refusal_is_trusted:
        if plan.timeout_s is not None:
            extra.append((TIMEOUT_MS, b"%d" % (plan.timeout_s * 1000)))
        if exchange.head.upgrade is not None or exchange.head.method == "CONNECT":
            extra.append((HALF_CLOSE, b"1"))
    ops = plan.request_ops
    if ops is NO_OPS:
        exchange.begin(plan, extra, dropped)
        return
    extra = [pair for pair in extra if pair[0] not in ops.drop] + list(ops.extra)
    exchange.begin(plan, extra, ops.drop.union(dropped))


def _inject(exchange: Exchange, role: Role, plan: Plan) -> bool:
    """Istio `fault`; True when the exchange does not go its usual way now."""
    fault = plan.fault
    if fault is None:
        return False
    own = exchange.down.own
    is_aborted = fault.abort_pct > 0 and own.draw() * 100 < fault.abort_pct
    if fault.delay_pct > 0 and own.draw() * 100 < fault.delay_pct:
        exchange.is_waiting = True
        exchange.flags = "DI"
        exchange.down.pause_request()
        own.wheel.after(fault.delay_s, lambda: _after_delay(exchange, role, plan, is_aborted=is_aborted))
        return True
    if is_aborted:
        _abort(exchange, plan, "FI")
    return is_aborted


def _after_delay(exchange: Exchange, role: Role, plan: Plan, *, is_aborted: bool) -> None:
    if exchange.is_over:
        return
    exchange.is_waiting = False
    if is_aborted:
        _abort(exchange, plan, "DI,FI")
        return
    _go_on(exchange, role, plan)


def _after_consulting(exchange: Exchange, role: Role, decision: Plan | Reply) -> None:
    if exchange.is_over:
        return
    exchange.is_waiting = False
    if isinstance(decision, Reply):
        _answer_at_head(exchange, decision)
    else:
        _go_on(exchange, role, decision)


def _go_on(exchange: Exchange, role: Role, plan: Plan) -> None:
    """Forward a request that had to wait, with what came of it meanwhile."""
    forward(exchange, role, plan)
    if exchange.end is not None:
        exchange.on_request_end(exchange.end)
    exchange.flush()
    exchange.down.resume_request()


def _abort(exchange: Exchange, plan: Plan, flags: str) -> None:
    fault = plan.fault
    reply = Reply(
        fault.abort_status if fault is not None else 503,
        flags,
        "fault_filter_abort",
        _ABORTED,
        plan.reply_headers,
        plan.service,
        plan.route_name,
        grpc_status=fault.abort_grpc_status if fault is not None else None,
    )
    _answer_at_head(exchange, reply)
