"""Lint: everything that is applied as it stands and is hardly meant. Pure; codes and levels in `remarks`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from meshpy.analysis.diff import diff
from meshpy.analysis.lint_documents import remarks_of_documents
from meshpy.analysis.lint_rules import droppable, remarks_of_rules, written_rules
from meshpy.analysis.reach import Reach, RuleName, reach
from meshpy.analysis.remarks import Remark
from meshpy.compile.findings import Findings
from meshpy.errors import Place, Problem
from meshpy.model.authz import Action
from meshpy.model.inventory import Inventory
from meshpy.model.names import ServiceName
from meshpy.model.snapshot import Snapshot
from meshpy.policy import PolicySet

__all__ = ["Subject", "lint"]

_OF_CHECK = (
    ("MP109", r"subset|\(IST0173\)"),
    ("MP104", r"both (route|set|define|describe)|defined twice|second MeshConfig"),
    ("MP111", r"opaque ports only|HTTP ports only|never (meets|holds|matches)|speaks TLS|TCP only"),
    ("MP108", r"no port |several ports|port \d+ is|which it has not"),
    ("MP102", r"is never reached"),
    (
        "MP101",
        r"no service of .* has the labels|matches no service|matches nothing|has no service$|no endpoint",
    ),
    ("MP107", r"no service|no namespace|no tier|there is no|is called|belongs to another stack|no hosts"),
)
"""Findings of `compile.check` by what they say; a test sees to it that none is left without a code."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A compiled set of policies, with what the compiler had to say."""

    inventory: Inventory
    policies: PolicySet
    snapshots: Mapping[ServiceName, Snapshot]
    findings: Findings


def lint(subject: Subject, today: str) -> list[Remark]:
    """All remarks in the order of places; suppressions are not looked at.

    Args:
        today: an ISO date, for staged policies that expire.
    """
    found = reach(subject.snapshots)
    remarks = [
        *_of_check(subject.findings),
        *remarks_of_documents(subject.policies, today),
        *remarks_of_rules(subject.policies, found, _selecting(subject.snapshots)),
        *_closed(subject, found),
        *_uncovered(subject),
        *_simpler(subject, found),
        *(
            Remark(Place(), "MP120", f"{where}: {why} cannot be cut into classes")
            for why, where in found.unproved.items()
        ),
    ]
    # the compiler and the classes may both see a dead route; one line is enough
    seen: dict[tuple[Place, str, str], Remark] = {}
    for remark in remarks:
        is_placed = remark.code in ("MP101", "MP102")
        key = (remark.place, remark.code, "" if is_placed else f"{remark.subject} {remark.message}")
        seen.setdefault(key, remark)
    return sorted(seen.values())


def _of_check(findings: Findings) -> Iterator[Remark]:
    for level, problems in (("error", findings.errors), ("warning", findings.warnings)):
        for problem in problems:
            yield Remark(problem.place, code_of(problem), problem.what, problem.instead, "", level)


def code_of(problem: Problem) -> str:
    """The code of a finding of the compiler."""
    return next((code for code, words in _OF_CHECK if re.search(words, problem.what)), "MP100")


def _selecting(snapshots: Mapping[ServiceName, Snapshot]) -> set[str]:
    found: set[str] = set()
    for snapshot in snapshots.values():
        auth = snapshot.authorization
        found |= {policy.name for policy in auth.policies}
        found |= {policy.name for tier in (*auth.ingress, *auth.egress) for policy in tier.policies}
    return found


def _closed(subject: Subject, found: Reach) -> Iterator[Remark]:
    """ALLOW policies whose workload no request of anybody enters."""
    closed = {name for name, is_open in found.callees.items() if not is_open}
    places = {
        document.meta.title: document.meta.place for document in subject.policies.authorization_policies
    }
    told: set[str] = set()
    for name in sorted(closed):
        policies = subject.snapshots[name].authorization.policies
        allow = [policy for policy in policies if policy.action is Action.ALLOW and not policy.dry_run]
        for policy in allow[:1]:
            if policy.name not in told and policy.name in places:
                told.add(policy.name)
                what = f"no request of anybody enters {name}"
                instead = "write a rule that some caller meets"
                yield Remark(places[policy.name], "MP112", what, instead, policy.name)


def _uncovered(subject: Subject) -> Iterator[Remark]:
    if not subject.policies.documents:
        return
    for name, snapshot in sorted(subject.snapshots.items()):
        auth = snapshot.authorization
        enforced = [policy for policy in auth.policies if not policy.dry_run]
        if snapshot.inbound and not enforced and not auth.ingress:
            what = f"no policy covers {name}: whoever shares a network with it may call it"
            yield Remark(Place(), "MP115", what, "write a policy that selects it", str(name))


def _simpler(subject: Subject, found: Reach) -> Iterator[Remark]:
    """What can be dropped together, proved by comparing the set without it."""
    selecting = _selecting(subject.snapshots)
    rules = {name: rule for name, rule in written_rules(subject.policies).items() if name[0] in selecting}
    gone = droppable(rules, found)
    if not gone or not diff(subject.snapshots, without(subject.snapshots, gone)).is_empty:
        return
    names = ", ".join(" ".join(name) for name in gone)
    what = (
        f"complexity {complexity(subject.policies)}: {len(gone)} of {len(rules)} rules can go together,"
        f" no verdict changes: {names}"
    )
    yield Remark(rules[gone[0]].place, "MP118", what, "remove them", rules[gone[0]].subject)


def complexity(policies: PolicySet) -> int:
    """One for each rule and route, and one for each value that it compares with."""
    total = 0
    for document in policies.authorization_policies:
        for rule in document.rules:
            parts: list[object] = [*rule.sources, *rule.operations, *rule.conditions]
            total += 1 + sum(_values_of(part) for part in parts)
    for policy in policies.network_policies:
        total += len(policy.ingress or ()) + len(policy.egress or ())
    for service in policies.virtual_services:
        total += sum(1 + len(route.matches) for route in service.http) + len(service.tcp)
    return total


def _values_of(part: object) -> int:
    values = (getattr(part, name) for name in type(part).__dataclass_fields__)  # type: ignore[attr-defined]
    return sum(len(value) for value in values if isinstance(value, tuple))


def without(
    snapshots: Mapping[ServiceName, Snapshot], gone: Iterable[RuleName]
) -> dict[ServiceName, Snapshot]:
    """The snapshots as if these rules of AuthorizationPolicies had not been written."""
    names = set(gone)
    found: dict[ServiceName, Snapshot] = {}
    for name, snapshot in snapshots.items():
        policies = tuple(
            replace(policy, rules=tuple(r for r in policy.rules if (policy.name, r.name) not in names))
            for policy in snapshot.authorization.policies
        )
        found[name] = replace(snapshot, authorization=replace(snapshot.authorization, policies=policies))
    return found
