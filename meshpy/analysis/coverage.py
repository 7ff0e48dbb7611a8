"""Which rules and routes a table of tests reaches: those that match in one of its answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from meshpy.analysis.lint_rules import written_routes, written_rules
from meshpy.engine.explain import Explanation
from meshpy.errors import Place
from meshpy.policy import PolicySet

__all__ = ["Coverage", "Covered", "coverage"]


@dataclass(frozen=True, slots=True)
class Covered:
    """A rule or route, and how many tests reached it."""

    subject: str
    place: Place
    tests: int


@dataclass(frozen=True, slots=True)
class Coverage:
    rules: tuple[Covered, ...]

    @property
    def percent(self) -> float:
        """100 where there is nothing to reach."""
        reached = sum(rule.tests > 0 for rule in self.rules)
        return 100.0 * reached / len(self.rules) if self.rules else 100.0

    @property
    def missed(self) -> tuple[Covered, ...]:
        return tuple(rule for rule in self.rules if not rule.tests)


def coverage(policies: PolicySet, answers: Iterable[Explanation]) -> Coverage:
    """Count the answers in which each rule matched, and each route was taken."""
    counts: dict[tuple[str, str], int] = {}
    taken: dict[int, int] = {}
    bare: dict[str, int] = {}
    for answer in answers:
        steps = {step for leg in answer.legs for step in leg.steps} | set(answer.steps)
        for name in {(step.policy, step.rule) for step in steps if step.matched}:
            counts[name] = counts.get(name, 0) + 1
        rule = answer.rule
        if rule is not None and rule.policy and not rule.matches:
            bare[rule.policy] = bare.get(rule.policy, 0) + 1
        for match in rule.matches if rule is not None else ():
            taken[id(match)] = taken.get(id(match), 0) + 1
    found = [
        Covered(rule.subject, rule.place, counts.get(name, 0))
        for name, rule in written_rules(policies).items()
    ]
    for route in written_routes(policies):
        tests = max((taken.get(id(match), 0) for match in route.matches), default=0)
        if not route.matches:
            tests = bare.get(route.title, 0)
        found.append(Covered(route.subject, route.place, tests))
    return Coverage(tuple(found))
