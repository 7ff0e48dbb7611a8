"""Rules of an Istio `AuthorizationPolicy`, compiled, and reduced to what a request still has to show.

A connection settles most of a rule once: who calls, from where, to which port. `Rule.reduce` answers with
True, False, or the test that remains for each request. On an opaque port nothing remains: an L7 part never
holds in an ALLOW rule and always holds in a DENY rule (Istio: DENY then closes the whole port).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

from meshpy.engine.match import (
    MatchError,
    RequestTest,
    StringTest,
    all_of,
    compile_any,
    compile_header_condition,
    compile_hosts,
)
from meshpy.engine.request import Request
from meshpy.engine.verdict import Address, Connection, compile_nets, describe_all
from meshpy.model.authz import AuthorizationRule, Condition, Operation, Source
from meshpy.model.match import Exact, Prefix, StringMatch

__all__ = ["Reduced", "Rule", "both", "either"]

T = TypeVar("T")

Reduced: TypeAlias = bool | RequestTest
"""What is left of a rule on a given connection."""

_ISTIO_TRUST_DOMAIN = "cluster.local/"
"""In a principal it stands for the mesh's own trust domain, whatever that is (Istio trustdomain.Bundle)."""


@dataclass(frozen=True, slots=True)
class Check(Generic[T]):
    """One field of a rule: its test, its words, and what it looked at."""

    test: Callable[[T], bool]
    text: str
    seen: Callable[[T], str]

    def failure(self, subject: T) -> str:
        """Why it does not hold; empty when it does."""
        return (
            "" if self.test(subject) else f"{self.text} does not hold for {self.seen(subject) or 'nothing'}"
        )


@dataclass(frozen=True, slots=True)
class Clause:
    """Checks that must all hold, by what they need to be judged."""

    connection: tuple[Check[Connection], ...] = ()
    request: tuple[Check[Request], ...] = ()

    def reduce(self, connection: Connection, *, denies: bool) -> Reduced:
        if not all(check.test(connection) for check in self.connection):
            return False
        if not self.request:
            return True
        if connection.opaque:
            return denies
        return all_of([check.test for check in self.request]) or True

    def failure(self, connection: Connection, request: Request | None, *, denies: bool) -> str:
        """The first check that does not hold; empty when all do."""
        for check in self.connection:
            if text := check.failure(connection):
                return text
        for asked in self.request:
            if request is None or connection.opaque:
                if not denies:
                    return f"{asked.text} can never hold on an opaque port"
            elif text := asked.failure(request):
                return text
        return ""


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
        denies: True for DENY and AUDIT, whose doubts go the other way than those of ALLOW.

    Raises:
        MatchError: an expression, CIDR or condition key that cannot be judged.
    """

    __slots__ = ("_denies", "_operations", "_sources", "_when", "depends_on_headers", "name")

    def __init__(self, rule: AuthorizationRule, *, denies: bool, trust_domain: str) -> None:
        self.name = rule.name
        self._denies = denies
        self._sources = tuple(_source(source, denies, trust_domain) for source in rule.sources)
        self._operations = tuple(_operation(operation) for operation in rule.operations)
        clauses = [_condition(condition, denies, trust_domain) for condition in rule.conditions]
        self._when = Clause(
            tuple(check for clause in clauses for check in clause.connection),
            tuple(check for clause in clauses for check in clause.request),
        )
        self.depends_on_headers = bool(self._when.request)

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


def _source(source: Source, denies: bool, trust_domain: str) -> Clause:
    principals = _own_trust_domain(source.principals, trust_domain)
    not_principals = _own_trust_domain(source.not_principals, trust_domain)
    checks: list[Check[Connection]] = []
    checks += _texts("principals", principals, not_principals, lambda connection: connection.principal)
    checks += _texts("namespaces", source.namespaces, source.not_namespaces, lambda c: c.namespace)
    checks += _addresses("ipBlocks", source.ip_blocks, source.not_ip_blocks, lambda c: c.ip, denies)
    return Clause(tuple(checks))


def _own_trust_domain(matches: Sequence[StringMatch], trust_domain: str) -> tuple[StringMatch, ...]:
    def resolve(match: StringMatch) -> StringMatch:
        if isinstance(match, Exact | Prefix) and match.value.startswith(_ISTIO_TRUST_DOMAIN):
            return type(match)(f"{trust_domain}/{match.value.removeprefix(_ISTIO_TRUST_DOMAIN)}")
        return match

    return tuple(resolve(match) for match in matches)


def _texts(
    field: str,
    matches: Sequence[StringMatch],
    not_matches: Sequence[StringMatch],
    read: Callable[[Connection], str],
) -> list[Check[Connection]]:
    """Checks of a text of the connection; an empty one (no identity, no SNI) meets no positive match."""
    checks: list[Check[Connection]] = []
    if matches:
        test = compile_any(matches)
        checks.append(
            Check(lambda c: bool(text := read(c)) and test(text), f"{field} {describe_all(matches)}", read)
        )
    if not_matches:
        unwanted = compile_any(not_matches)
        checks.append(
            Check(
                lambda c: not ((text := read(c)) and unwanted(text)),
                f"not {field} {describe_all(not_matches)}",
                read,
            )
        )
    return checks


def _addresses(
    field: str,
    nets: Sequence[str],
    not_nets: Sequence[str],
    read: Callable[[Connection], Address | None],
    denies: bool,
) -> list[Check[Connection]]:
    """Checks of an address; one that is unknown is in no net, and outside of nets for DENY rules only."""
    checks: list[Check[Connection]] = []
    if nets:
        inside = compile_nets(nets)
        checks.append(
            Check(
                lambda c: (ip := read(c)) is not None and inside(ip),
                f"{field} {' | '.join(nets)}",
                lambda c: str(read(c) or ""),
            )
        )
    if not_nets:
        unwanted = compile_nets(not_nets)
        checks.append(
            Check(
                lambda c: denies if (ip := read(c)) is None else not unwanted(ip),
                f"not {field} {' | '.join(not_nets)}",
                lambda c: str(read(c) or ""),
            )
        )
    return checks


def _ports(field: str, ports: Sequence[int], *, inside: bool) -> list[Check[Connection]]:
    if not ports:
        return []
    wanted = frozenset(ports)
    text = f"{field} {' | '.join(map(str, ports))}"
    return [Check(lambda c: (c.port in wanted) is inside, text, lambda c: str(c.port))]


def _operation(operation: Operation) -> Clause:
    ports = _ports("ports", operation.ports, inside=True)
    ports += _ports("not ports", operation.not_ports, inside=False)
    asked: list[Check[Request]] = []
    for field, matches, not_matches, compiler, read in (
        ("hosts", operation.hosts, operation.not_hosts, compile_hosts, _authority),
        ("methods", operation.methods, operation.not_methods, compile_any, _method),
        ("paths", operation.paths, operation.not_paths, _compile_paths, _path),
    ):
        if matches:
            test = _reads(read, compiler(matches))
            asked.append(Check(test, f"{field} {describe_all(matches)}", read))
        if not_matches:
            unwanted = _reads(read, compiler(not_matches))
            text = f"not {field} {describe_all(not_matches)}"
            asked.append(Check(_inverse(unwanted), text, read))
    return Clause(tuple(ports), tuple(asked))


def _compile_paths(matches: Sequence[StringMatch]) -> StringTest:
    return compile_any(matches, path=True)


def _authority(request: Request) -> str:
    return request.authority


def _method(request: Request) -> str:
    return request.method


def _path(request: Request) -> str:
    return request.path


def _reads(read: Callable[[Request], str], test: StringTest) -> RequestTest:
    """One call less for the two fields that most rules name."""
    if read is _method:
        return lambda request: test(request.method)
    if read is _path:
        return lambda request: test(request.path)
    return lambda request: test(read(request))


def _inverse(test: RequestTest) -> RequestTest:
    return lambda request: not test(request)


def _condition(condition: Condition, denies: bool, trust_domain: str) -> Clause:
    key, values, not_values = condition.key, condition.values, condition.not_values
    if key.startswith("request.headers[") and key.endswith("]"):
        name = key[len("request.headers[") : -1].lower()
        test = compile_header_condition(name, values, not_values, denies=denies)
        wanted = [f"not {describe_all(not_values)}"] if not_values else []
        wanted += [describe_all(values)] if values else []
        text = f"{key} {' and '.join(wanted)}"
        return Clause(request=(Check(test, text, lambda r: ", ".join(r.headers.get(name, ()))),))
    match key:
        case "source.principal":
            own = [_own_trust_domain(matches, trust_domain) for matches in (values, not_values)]
            checks = _texts(key, own[0], own[1], lambda c: c.principal)
        case "source.namespace":
            checks = _texts(key, values, not_values, lambda c: c.namespace)
        case "connection.sni":
            checks = _texts(key, values, not_values, lambda c: c.sni)
        case "destination.port":
            checks = _texts(key, values, not_values, lambda c: str(c.port))
        case "source.ip":
            checks = _addresses(key, _nets(key, values), _nets(key, not_values), lambda c: c.ip, denies)
        case "destination.ip":
            checks = _addresses(key, _nets(key, values), _nets(key, not_values), lambda c: c.local_ip, denies)
        case _:
            raise MatchError(f"the condition key {key!r} is not known")
    return Clause(tuple(checks))


def _nets(key: str, matches: Sequence[StringMatch]) -> tuple[str, ...]:
    if any(not isinstance(match, Exact) for match in matches):
        raise MatchError(f"{key} takes addresses and CIDRs, not {describe_all(matches)}")
    return tuple(match.value for match in matches if isinstance(match, Exact))
