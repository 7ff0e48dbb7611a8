"""Which rate limits a request counts against: the stage after ALLOW. The counting itself is the sidecar's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from meshpy.engine.match import RequestTest, compile_request
from meshpy.engine.request import Peer, Request
from meshpy.engine.verdict import Step
from meshpy.model.rate_limit import RateLimit

__all__ = ["STAGE", "RateRule", "Share", "rate_rules", "steps_of"]

STAGE = "rate limit"


@dataclass(frozen=True, slots=True)
class Share:
    """One rate that a caller's requests count against.

    Args:
        rule: `total`, `identity` or `overrides[0]`.
        key: who shares it; empty is everybody.
    """

    rule: str
    rps: int
    key: str = ""


@dataclass(frozen=True, slots=True)
class RateRule:
    """A limit made ready: `test` None holds for every request."""

    limit: RateLimit
    test: RequestTest | None

    def shares(self, peer: Peer) -> tuple[Share, ...]:
        """The rates of a caller: its own first, then that of all."""
        limit = self.limit
        found = []
        caller = str(peer.service) if peer.service is not None else peer.principal or "without identity"
        for number, override in enumerate(limit.overrides):
            if peer.service in override.clients:
                found.append(Share(f"overrides[{number}]", override.rps, caller))
                break
        else:
            if limit.identity_rps:
                found.append(Share("identity", limit.identity_rps, caller))
        if limit.total_rps:
            found.append(Share("total", limit.total_rps))
        return tuple(found)


def rate_rules(limits: Sequence[RateLimit]) -> tuple[RateRule, ...]:
    """Compile the matches.

    Raises:
        MatchError: an expression of one is no RE2.
    """
    return tuple(
        RateRule(limit, _any_of([compile_request(match) for match in limit.matches])) for limit in limits
    )


def _any_of(tests: Sequence[RequestTest | None]) -> RequestTest | None:
    bound = [test for test in tests if test is not None]
    if not bound or len(bound) < len(tests):
        return None
    return bound[0] if len(bound) == 1 else lambda request: any(test(request) for test in bound)


def steps_of(limits: Sequence[RateLimit], peer: Peer, request: Request) -> list[Step]:
    """Each rate of each limit, and whether the request counts against it."""
    steps = []
    for rule in rate_rules(limits):
        is_counted = rule.test is None or rule.test(request)
        for share in rule.shares(peer) if is_counted else ():
            whose = f"for {share.key}" if share.key else "for all callers together"
            why = f"counts: {share.rps} requests a second {whose}; what exceeds them gets 429"
            steps.append(Step(STAGE, rule.limit.policy, share.rule, "LIMIT", True, why))
        if not is_counted:
            why = "does not count: no entry of `matches` holds"
            steps.append(Step(STAGE, rule.limit.policy, "", "LIMIT", False, why))
    return steps
