"""Which rule decides what: every class of requests once, with all rules that match it.

A rule that matches no class is met by nobody; one that matches and never decides is shadowed; one without
which every class keeps its verdict is redundant. All of it is exact for the inventory at hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from meshpy.analysis.flow import Flow
from meshpy.analysis.flows import flows
from meshpy.analysis.probe import TooManyClasses, explore
from meshpy.engine.explain import Explanation
from meshpy.engine.prepared import Prepared
from meshpy.engine.verdict import Step, Verdict
from meshpy.model.names import ServiceName
from meshpy.model.route import RouteRule
from meshpy.model.snapshot import Snapshot

__all__ = ["Judged", "Reach", "RuleName", "reach"]

RuleName = tuple[str, str]
"""The policy's title and the rule's name, `rules[0]`."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One class of requests at one callee.

    Args:
        denies, allows: rules of that action that match, in the order in which they are asked.
        needs_allow: an ALLOW policy is in force, so that without a match the request is refused.
    """

    service: ServiceName
    decided: RuleName
    allowed: bool
    network: tuple[RuleName, ...]
    denies: tuple[RuleName, ...]
    allows: tuple[RuleName, ...]
    needs_allow: bool


@dataclass(slots=True)
class Reach:
    """What all flows came to.

    Args:
        routes: by id, the route rules that some request takes.
        unproved: what could not be cut into classes → the flows it concerns.
        callees: workloads that were asked, and whether any request of anybody is allowed.
    """

    judged: dict[Judged, None] = field(default_factory=dict)
    routes: dict[int, RouteRule] = field(default_factory=dict)
    unproved: dict[str, str] = field(default_factory=dict)
    callees: dict[ServiceName, bool] = field(default_factory=dict)

    @property
    def matching(self) -> set[RuleName]:
        """Rules that match some request that gets as far as to them."""
        found: set[RuleName] = set()
        for item in self.judged:
            found.update((*item.network, *item.denies, *item.allows))
        return found

    @property
    def deciding(self) -> set[RuleName]:
        return {item.decided for item in self.judged}


def reach(snapshots: Mapping[ServiceName, Snapshot]) -> Reach:
    """Ask every class of every flow."""
    side = Prepared(snapshots)
    found = Reach()
    known: dict[tuple[str, int], list[object]] = {}
    for flow in flows(side, side):
        alike = known.setdefault((flow.host, flow.port), [])
        if flow.alike is not None and flow.alike in alike:
            continue
        alike.append(flow.alike)
        _take(flow, found, snapshots)
    return found


def _take(flow: Flow, found: Reach, snapshots: Mapping[ServiceName, Snapshot]) -> None:
    space = flow.space()
    for why in space.unproved:
        found.unproved.setdefault(why, f"{flow.caller.label} → {flow.host}:{flow.port}")
    try:
        cells = explore(space, flow.new)
    except TooManyClasses as error:
        found.unproved.setdefault(str(error), f"{flow.caller.label} → {flow.host}:{flow.port}")
        return
    for cell in cells:
        answer = cell.answer
        if answer.rule is not None:
            found.routes[id(answer.rule)] = answer.rule
        for service, verdict, steps in _verdicts(flow, answer):
            judged = _judged(service, verdict, steps, snapshots)
            found.judged[judged] = None
            found.callees[service] = found.callees.get(service, False) or verdict.allowed


def _verdicts(flow: Flow, answer: Explanation) -> Iterable[tuple[ServiceName, Verdict, tuple[Step, ...]]]:
    for leg in answer.legs:
        if leg.service is not None:
            yield leg.service, leg.verdict, leg.steps
    if not answer.legs and answer.route is None and len(flow.services) == 1:
        yield next(iter(flow.services)), answer.verdict, answer.steps


def _judged(
    service: ServiceName,
    verdict: Verdict,
    steps: Iterable[Step],
    snapshots: Mapping[ServiceName, Snapshot],
) -> Judged:
    matched = [step for step in steps if step.matched and step.policy]
    policies = snapshots[service].authorization.policies if service in snapshots else ()

    def of(*stages: str) -> tuple[RuleName, ...]:
        return tuple((step.policy, step.rule) for step in matched if step.stage in stages)

    needs_allow = any(policy.action == "ALLOW" and not policy.dry_run for policy in policies)
    return Judged(
        service,
        (verdict.policy, verdict.rule),
        verdict.allowed,
        of("network", "egress"),
        of("deny"),
        of("allow"),
        needs_allow,
    )
