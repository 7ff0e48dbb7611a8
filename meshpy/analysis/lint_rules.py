"""Findings on rules that only all classes of requests can show: shadowed, contradicted, redundant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from meshpy.analysis.reach import Judged, Reach, RuleName
from meshpy.analysis.remarks import Remark
from meshpy.errors import Place
from meshpy.model.authz import Action, NetworkAction
from meshpy.model.match import RequestMatch
from meshpy.policy import PolicySet

__all__ = [
    "Written",
    "WrittenRoute",
    "droppable",
    "remarks_of_rules",
    "written_routes",
    "written_rules",
]


@dataclass(frozen=True, slots=True)
class Written:
    """A rule where it is written. `action` is ALLOW, DENY, Allow, Deny or Pass."""

    name: RuleName
    place: Place
    action: str

    @property
    def subject(self) -> str:
        return " ".join(self.name)


def written_rules(policies: PolicySet) -> dict[RuleName, Written]:
    """Every rule that decides something, in the order of the documents."""
    found: dict[RuleName, Written] = {}
    for document in policies.authorization_policies:
        if document.dry_run or document.action not in (Action.ALLOW, Action.DENY):
            continue
        for index, rule in enumerate(document.rules):
            name = (document.meta.title, f"rules[{index}]")
            found[name] = Written(name, rule.place, document.action.value)
    for policy in policies.network_policies:
        if policy.staged is not None:
            continue
        for direction, rules in (("ingress", policy.ingress), ("egress", policy.egress)):
            for index, item in enumerate(rules or ()):
                name = (policy.meta.title, item.name or f"{direction}[{index}]")
                if item.is_tcp and item.action is not NetworkAction.LOG:
                    found[name] = Written(name, item.place, item.action.value)
    return found


def remarks_of_rules(policies: PolicySet, found: Reach, selecting: set[str]) -> Iterator[Remark]:
    """MP102, MP103, MP105 and the routes of MP102.

    Args:
        selecting: titles of policies that select a workload; the others are MP101 already.
    """
    rules = {name: rule for name, rule in written_rules(policies).items() if name[0] in selecting}
    matching, deciding = found.matching, found.deciding
    for name, rule in rules.items():
        if name not in matching:
            if rule.action != "Pass":
                what = "no request of any caller meets it: rules before it take all, or nobody can send one"
                yield Remark(rule.place, "MP102", what, "remove it, or correct what it asks", rule.subject)
        elif rule.action in ("ALLOW", "DENY") and name not in deciding:
            yield _never_decides(rule, [item for item in found.judged if name in _of(item)])
    dropped = droppable(rules, found)
    for name in dropped:
        if name in deciding and name in matching:
            what = "every request that it decides is decided alike without it"
            yield Remark(rules[name].place, "MP105", what, "remove it", rules[name].subject)
    yield from _routes(policies, found)


def _of(item: Judged) -> tuple[RuleName, ...]:
    return (*item.denies, *item.allows)


def _never_decides(rule: Written, met: list[Judged]) -> Remark:
    deciders = sorted({" ".join(item.decided).strip() for item in met})
    who = ", ".join(deciders[:3]) + (", …" if len(deciders) > 3 else "")
    if rule.action == "ALLOW" and not any(item.allowed for item in met):
        what = f"it allows only what {who} refuses"
        return Remark(rule.place, "MP103", what, "remove it, or narrow the DENY rule", rule.subject)
    what = f"it never decides: {who} comes first for every request that it matches"
    return Remark(rule.place, "MP102", what, "remove it, or put it first", rule.subject)


def droppable(rules: Mapping[RuleName, Written], found: Reach) -> list[RuleName]:
    """Rules that can all go together while every class keeps its verdict; the last written go first.

    A DENY rule is needed where no other DENY refuses what would then be allowed; an ALLOW rule where no other
    ALLOW lets through what no DENY refuses.
    """
    gone: set[RuleName] = set()
    judged = [item for item in found.judged if item.denies or item.allows]
    by_rule: dict[RuleName, list[Judged]] = {}
    for item in judged:
        for name in _of(item):
            by_rule.setdefault(name, []).append(item)
    for name, rule in reversed(list(rules.items())):
        if rule.action not in ("ALLOW", "DENY"):
            continue
        if all(_keeps(item, gone | {name}) for item in by_rule.get(name, ())):
            gone.add(name)
    return [name for name in rules if name in gone]


def _keeps(item: Judged, gone: set[RuleName]) -> bool:
    """The verdict of a class without these rules is the one that it has."""
    if any(name not in gone for name in item.denies):
        return not item.allowed
    allowed = not item.needs_allow or any(name not in gone for name in item.allows)
    return allowed is item.allowed


@dataclass(frozen=True, slots=True)
class WrittenRoute:
    """A route where it is written; `matches` are the very objects that its compiled rules carry."""

    title: str
    name: str
    place: Place
    matches: tuple[RequestMatch, ...]

    @property
    def subject(self) -> str:
        return f"{self.title} {self.name}"


def written_routes(policies: PolicySet) -> Iterator[WrittenRoute]:
    """The HTTP routes of every kind, in the order of the documents."""
    for document in policies.virtual_services:
        for index, route in enumerate(document.http):
            matches = tuple(match.request for match in route.matches)
            yield WrittenRoute(document.meta.title, f"http[{index}]", route.place, matches)
    for gateway in policies.gateway_routes:
        for index, rule in enumerate(gateway.rules):
            matches = tuple(match.request for match in rule.matches)
            yield WrittenRoute(gateway.meta.title, f"rules[{index}]", rule.place, matches)


def _routes(policies: PolicySet, found: Reach) -> Iterator[Remark]:
    """Routes that no request of any caller takes; of documents that route somebody at all."""
    taken = {id(match) for rule in found.routes.values() for match in rule.matches}
    bare = {rule.policy for rule in found.routes.values() if not rule.matches}
    called = {rule.policy for rule in found.routes.values()}
    closed: set[str] = set()
    for route in written_routes(policies):
        is_dead = not any(id(match) in taken for match in route.matches)
        if not route.matches:
            is_dead = route.title in closed or route.title not in bare
            closed.add(route.title)
        if is_dead and route.title in called:
            what = "no request of any caller takes this route: routes before it take all that it matches"
            yield Remark(route.place, "MP102", what, "remove it, or put it before them", route.subject)
