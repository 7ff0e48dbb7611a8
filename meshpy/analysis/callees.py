"""What the sidecars of callees ask, in both revisions of a comparison, of everybody or of one caller."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from meshpy.analysis.asked import Tests
from meshpy.analysis.partition import Matcher
from meshpy.analysis.predicates import (
    tests_of_authorization,
    tests_of_callee,
    tests_of_routes,
    through_rewrites,
)
from meshpy.analysis.space import Space
from meshpy.engine.match import StringTest
from meshpy.engine.prepared import Prepared
from meshpy.model.names import ServiceName
from meshpy.model.route import RouteRule

__all__ = ["Callees"]


class Callees:
    """Tests by callee, gathered once."""

    def __init__(self, old: Prepared, new: Prepared) -> None:
        self._old, self._new = old, new
        self._asked: dict[ServiceName, Tests] = {}
        self._principal_tests: dict[ServiceName, list[tuple[int | None, StringTest]]] = {}

    def tests_of(self, name: ServiceName) -> Tests:
        """What the sidecar of a callee asks, in both revisions."""
        if name not in self._asked:
            found = Tests()
            for side in (self._old, self._new):
                if name in side:
                    found.add(tests_of_callee(side[name], None))
            if found.local_nets:
                found.unproved["destination.ip, as the address of a task is not known here"] = None
            self._asked[name] = found
        return self._asked[name]

    def _tests_for(self, name: ServiceName, caller: ServiceName) -> Tests:
        """What the sidecar of a callee asks of one caller."""
        found = Tests()
        for side in (self._old, self._new):
            if name in side:
                found.add(tests_of_callee(side[name], caller))
        found.unproved.update(self.tests_of(name).unproved)
        return found

    def as_peer(self, name: ServiceName, services: Iterable[ServiceName]) -> tuple[object, ...]:
        """What callees can see of a caller, and what its own sidecar forbids it."""
        own = tuple(
            side[name].authorization.egress if name in side else None for side in (self._old, self._new)
        )
        seen: list[object] = []
        for service in sorted(services):
            tests = self.tests_of(service)
            groups = tuple(name in group for group in tests.groups)
            seen.append((service, self._principal_class(name, service), groups))
        return (own, tuple(seen))

    def _principal_class(self, name: ServiceName, callee: ServiceName) -> object:
        """What the callee's matchers say of the caller's identity."""
        side = self._new if name in self._new else self._old
        principal = side[name].workload.trust_domain + name.spiffe_path
        texts = {None: principal, 1: name.namespace}
        tests = self._principal_tests.get(callee)
        if tests is None:
            matchers = self.tests_of(callee).texts.get("principal", ())
            tests = [(matcher.part, matcher.test()) for matcher in matchers]
            self._principal_tests[callee] = tests
        return tuple(test(texts[part]) for part, test in tests)

    def _tests_of_route(
        self,
        name: ServiceName,
        rules: Sequence[RouteRule],
        services: Iterable[ServiceName],
        caller: ServiceName | None,
    ) -> Tests:
        """What is asked on a way; with `caller` what rules for others ask is left out."""
        tests, judged = Tests(), Tests()
        tests.add(tests_of_routes(rules))
        for service in sorted(services):
            judged.add(self.tests_of(service) if caller is None else self._tests_for(service, caller))
        for side in (self._old, self._new):
            if name in side:
                own = side[name]
                judged.add(
                    tests_of_authorization(own.authorization, own.workload.trust_domain, None, egress=True)
                )
        tests.add(judged)
        tests.add(through_rewrites(rules, judged))
        return tests

    def space(
        self,
        name: ServiceName,
        rules: Sequence[RouteRule],
        services: Collection[ServiceName],
        cuts: Iterable[Matcher],
        keep: Callable[[str], bool],
        more: Tests | None = None,
    ) -> Space:
        """The space of a way, cut by what is asked of this caller, and by `more`."""
        tests = self._tests_of_route(name, rules, services, name)
        whole = self._tests_of_route(name, rules, services, None)
        for matcher in cuts:
            tests.texts["authority"][matcher] = whole.texts["authority"][matcher] = None
        if more is not None:
            tests.add(more)
            tests.add(through_rewrites(rules, more))
        return Space(tests, keep, whole)
