"""Tables of policy tests: the strict reader of their YAML, and the run of one case.

tests:
  - name: the front reads, nobody else does
    from: [web, loadgen]          # each combination is one case
    to: api                       # or api:8080, shop/api
    port: 8080                    # not needed when the host has one port
    method: [GET, POST]           # default GET
    path: /orders                 # default /
    headers: {x-user: jason}      # a list of values sends the header several times
    source_ip: 10.0.0.7
    jwt: {iss: https://idp, sub: jane, groups: [ops]}   # claims, or a file that holds a token
    expect: allow                 # or deny
    stage: allow                  # mtls, network, baseline, jwt, custom, deny, allow, egress, route
    policy: AuthorizationPolicy shop/api-for-web
    rule: rules[0]
    routed_to: {v1: 90, v2: 10}   # percent by subset, service or host; within 0.5 points
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from meshpy.cli.claims import claims_of, read_claims
from meshpy.cli.offline import Offline, Question, read_policies, split_port
from meshpy.engine.explain import Explanation
from meshpy.errors import DocumentError, MeshpyError, Place, Problem
from meshpy.policy.documents import Mapping as MappingNode
from meshpy.policy.documents import Sequence as ListNode
from meshpy.policy.documents import parse
from meshpy.policy.reader import Cursor, Fields, Report

__all__ = ["Case", "Outcome", "read_tests", "run_test"]

_FIELDS = (
    "name",
    "from",
    "to",
    "port",
    "method",
    "path",
    "headers",
    "source_ip",
    "jwt",
    "expect",
    "stage",
    "policy",
    "rule",
    "routed_to",
)
_STAGES = ("mtls", "network", "baseline", "jwt", "custom", "deny", "allow", "egress", "route")
_WITHIN_POINTS = 0.5


@dataclass(frozen=True, slots=True)
class Case:
    """One question and what its answer must be; None is not asked."""

    title: str
    place: Place
    question: Question
    allowed: bool
    stage: str | None = None
    policy: str | None = None
    rule: str | None = None
    routed_to: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    case: Case
    explanation: Explanation | None
    failures: tuple[str, ...] = field(default=())

    @property
    def passed(self) -> bool:
        return not self.failures

    def to_json(self) -> dict[str, Any]:
        answer = self.explanation.to_json() if self.explanation else {}
        answer.pop("steps", None)
        return {
            "name": self.case.title,
            "file": self.case.place.file,
            "line": self.case.place.line,
            "passed": self.passed,
            "failures": list(self.failures),
            **answer,
        }


def read_tests(paths: Sequence[Path]) -> list[Case]:
    """Read all cases of all files.

    Raises:
        DocumentError: with every problem; a file without a test is one.
        MeshpyError: a file that is not there.
    """
    cases: list[Case] = []
    problems: list[Problem] = []
    for file, text in read_policies(paths):
        report = Report(file)
        found = 0
        for tree in parse(text, file):
            root = Cursor(tree.root, "", report).fields(("tests",))
            table = root.required("tests", "tests: followed by a list")
            for item in table.items() if table is not None else []:
                fresh = list(_cases(item))
                found += len(fresh)
                cases += fresh
        if not found and not report.problems:
            report.problems.append(Problem(Place(file), "has no tests", "write `tests:` with a list"))
        problems += report.problems
    if problems:
        raise DocumentError(problems)
    return cases


def _cases(item: Cursor) -> Iterator[Case]:
    fields = item.fields(_FIELDS)
    known = len(item.report.problems)
    sources = _words(fields.required("from", "from: web"))
    targets = _words(fields.required("to", "to: api:8080"))
    expect = fields.required("expect", "expect: allow, or expect: deny")
    verdict = expect.choice(("allow", "deny")) if expect is not None else ""
    stage = fields.get("stage")
    checks: dict[str, Any] = {
        "allowed": verdict == "allow",
        "stage": stage.choice(_STAGES) if stage is not None else None,
        "policy": fields.text("policy") or None,
        "rule": fields.text("rule") or None,
        "routed_to": _shares(fields),
    }
    methods = _words(fields.get("method")) or ["GET"]
    paths = _words(fields.get("path")) or ["/"]
    headers = _headers(fields)
    port = fields.integer("port", 1, 65535)
    address, name = fields.text("source_ip"), fields.text("name")
    claims = _claims(fields.get("jwt"))
    if len(item.report.problems) > known:
        return
    for source, target, method, path in product(sources, targets, methods, paths):
        try:
            host, own_port = split_port(target)
        except MeshpyError as error:
            item.problem(str(error))
            return
        number = own_port or port
        question = Question(source, host, number, method, path, headers, address, claims)
        asked = f"{source} → {target} {method} {path} {verdict}"
        yield Case(f"{name}: {asked}" if name else asked, item.place, question, **checks)


def _words(cursor: Cursor | None) -> list[str]:
    if cursor is None:
        return []
    if isinstance(cursor.node, ListNode):
        return [item.text() for item in cursor.items()]
    return [cursor.text()]


def _headers(fields: Fields) -> dict[str, list[str]]:
    cursor = fields.get("headers")
    pairs = cursor.pairs() if cursor is not None else ()
    return {name.lower(): _words(value) for name, value in pairs}


def _claims(cursor: Cursor | None) -> Mapping[str, Any] | None:
    """Claims as written, or those of the token in a file."""
    if cursor is None:
        return None
    try:
        if isinstance(cursor.node, MappingNode):
            return dict(claims_of(cursor.node))
        return read_claims(cursor.text())
    except MeshpyError as error:
        cursor.problem(str(error), "write {iss: …, sub: …}, or the path of a file with a token or claims")
        return None


def _shares(fields: Fields) -> dict[str, float] | None:
    cursor = fields.get("routed_to")
    if cursor is None:
        return None
    shares = {name: value.number(0, 100) for name, value in cursor.pairs()}
    if shares and abs(sum(shares.values()) - 100) > _WITHIN_POINTS:
        cursor.problem(f"the shares add up to {sum(shares.values()):g}", "write percents that make 100")
    return shares


def run_test(mesh: Offline, case: Case) -> Outcome:
    """Ask the engine and compare; a question that cannot be asked is a failure."""
    try:
        explanation = mesh.ask(case.question)
    except MeshpyError as error:
        return Outcome(case, None, (str(error),))
    return Outcome(case, explanation, tuple(_differences(case, explanation)))


def _differences(case: Case, explanation: Explanation) -> Iterator[str]:
    verdict = explanation.verdict
    if verdict.allowed != case.allowed:
        words = {True: "allowed", False: "denied"}
        yield f"expected {words[case.allowed]}, it is {words[verdict.allowed]}: {verdict.reason}"
    for what, expected, found in (
        ("stage", case.stage, verdict.stage),
        ("policy", case.policy, verdict.policy),
        ("rule", case.rule, verdict.rule),
    ):
        if expected is not None and expected != found:
            yield f"expected {what} {expected}, it is {found or 'none'}: {verdict.reason}"
    if case.routed_to is not None:
        yield from _share_differences(case.routed_to, explanation)


def _share_differences(expected: Mapping[str, float], explanation: Explanation) -> Iterator[str]:
    """A destination answers to its subset, its service (with namespace or without) and its host."""
    shares: defaultdict[str, float] = defaultdict(float)
    unnamed = 0.0
    for leg in explanation.legs:
        names = {str(leg.service), leg.service.name} if leg.service else set()
        if leg.destination is not None:
            names |= {leg.destination.subset, leg.destination.host}
        for name in names - {""}:
            shares[name] += leg.share * 100
        if not names & set(expected):
            unnamed += leg.share * 100
    for name, percent in expected.items():
        if abs(shares[name] - percent) > _WITHIN_POINTS:
            yield f"expected {percent:g} % to {name}, it is {shares[name]:g} %"
    if unnamed > _WITHIN_POINTS:
        yield f"{unnamed:g} % go to destinations that routed_to does not name"
