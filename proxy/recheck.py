"""Requests on their way when the configuration changes: what would be refused now gets a moment to end.

Tunnels and opaque connections are cut at once (`tunnel.Splice`): they have no end to wait for.
"""

from __future__ import annotations

from proxy.exchange import Exchange
from proxy.plan import Reply
from proxy.sides import Role

__all__ = ["GRACE_S", "recheck_exchange"]

GRACE_S = 5.0
"""From the change of policy to the end of an answer that it refuses: most are complete by then."""


def recheck_exchange(exchange: Exchange, role: Role) -> None:
    """Judge a request again; it is ended after GRACE_S when it is still going and still refused."""
    if _refusal(exchange, role) is not None:
        exchange.down.own.wheel.after(GRACE_S, lambda: _end(exchange, role))


def _end(exchange: Exchange, role: Role) -> None:
    refusal = _refusal(exchange, role)
    if refusal is not None:
        exchange.answer_or_break(refusal)


def _refusal(exchange: Exchange, role: Role) -> Reply | None:
    """What it would be answered now; None when it goes on, has ended, or was not decided on yet."""
    if exchange.is_over or exchange.plan is None:
        return None
    decision = role.rejudge(exchange.down.connection, exchange.head)
    return decision if isinstance(decision, Reply) and decision.stage else None
