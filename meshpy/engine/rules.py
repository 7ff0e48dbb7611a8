"""Rules of an Istio `AuthorizationPolicy`, compiled, and reduced to what a request still has to show.

A connection settles most of a rule once: who calls, from where, to which port. `Rule.reduce` answers with
True, False, or the test that remains for each request. On an opaque port nothing remains: an L7 part never
holds in an ALLOW rule and always holds in a DENY rule (Istio: DENY then closes the whole port).
"""

from __future__ import annotations

from collections.abc import Sequence

from meshpy.engine.checks import Clause, Reading, Reduced
from meshpy.engine.match import all_of
from meshpy.engine.request import Request
from meshpy.engine.verdict import Connection
from meshpy.model.authz import AuthorizationRule

__all__ = ["Reduced", "Rule", "both", "either"]


def either(parts: Sequence[Reduced]) -> Reduced:
    """The disjunction of reduced parts."""
    if any(part is True for part in parts):
        return True
    tests = [part for part in parts if not isinstance(part, bool)]
    if not tests:
        return False
    if len(tests) == 1:
        return tests[0]
    return lambda request: any(test(request) for test in tests)


def both(parts: Sequence[Reduced]) -> Reduced:
    """The conjunction of reduced parts."""
    if any(part is False for part in parts):
        return False
    return all_of([part for part in parts if not isinstance(part, bool)]) or True


class Rule:
    """One compiled rule.

    Args:
        denies: True for DENY, CUSTOM and AUDIT, whose doubts go the other way than those of ALLOW.
        trusted_proxies: see `Authorization`.

    Invariant: of `paths` one holds for every request that the rule meets; empty when it says nothing of them.

    Raises:
        MatchError: an expression, CIDR or condition key that cannot be judged.
    """

    __slots__ = (
        "_denies",
        "_operations",
        "_sources",
        "_when",
        "depends_on_auth",
        "depends_on_headers",
        "name",
        "paths",
    )

    def __init__(
        self, rule: AuthorizationRule, *, denies: bool, trust_domain: str, trusted_proxies: int = 0
    ) -> None:
        self.name = rule.name
        has_paths = all(operation.paths for operation in rule.operations)
        self.paths = tuple(p for operation in rule.operations for p in operation.paths) if has_paths else ()
        self._denies = denies
        reading = Reading(denies, trust_domain, trusted_proxies)
        self._sources = tuple(reading.source(source) for source in rule.sources)
        self._operations = tuple(reading.operation(operation) for operation in rule.operations)
        clauses = [reading.condition(condition) for condition in rule.conditions]
        self._when = Clause(
            tuple(check for clause in clauses for check in clause.connection),
            tuple(check for clause in clauses for check in clause.request),
            tuple(check for clause in clauses for check in clause.remote),
        )
        every = (*self._sources, self._when)
        self.depends_on_headers = any(clause.remote for clause in every) or any(
            condition.key.startswith("request.headers[") for condition in rule.conditions
        )
        self.depends_on_auth = any(source.is_l7 for source in rule.sources) or any(
            condition.key.startswith("request.auth.") for condition in rule.conditions
        )

    def reduce(self, connection: Connection) -> Reduced:
        """What a request on this connection still has to show."""
        parts = [
            either([clause.reduce(connection, denies=self._denies) for clause in clauses])
            for clauses in (self._sources, self._operations)
            if clauses
        ]
        return both([*parts, self._when.reduce(connection, denies=self._denies)])

    def failure(self, connection: Connection, request: Request | None) -> str:
        """Why it does not match; empty when it does."""
        for label, clauses in (("from", self._sources), ("to", self._operations)):
            failures = [clause.failure(connection, request, denies=self._denies) for clause in clauses]
            if failures and all(failures):
                return f"{label}: {'; '.join(failures)}"
        text = self._when.failure(connection, request, denies=self._denies)
        return f"when: {text}" if text else ""
