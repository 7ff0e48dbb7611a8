"""Every mistake in a policy is named with file, line, column, key and what to write instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from meshpy.errors import Place
from tests.helpers.policies import document, problems_of

CASES = [
    case
    for name in ("bad_policies.yml", "bad_routes.yml")
    for case in YAML(typ="safe", pure=True).load(Path(__file__).with_name(name))
]

HEAD = "apiVersion: networking.istio.io/v1\nkind: VirtualService\n"
ROUTE = "spec: {hosts: [a], http: [{route: [{destination: {host: a}}]}]}\n"

WHOLE = [
    ("kind: VirtualService\n", 1, 1, "", "`apiVersion` is missing"),
    ("apiVersion: networking.istio.io/v1\n", 1, 1, "", "`kind` is missing"),
    ("apiVersion: v1\nkind: Virtualservice\n", 2, 7, "kind", "the kind 'Virtualservice' is not supported"),
    ("apiVersion: v1\nkind: EnvoyFilter\n", 2, 7, "kind", "this sidecar is not Envoy"),
    ("apiVersion: v1\nkind: Sidecar\n", 2, 7, "kind", "'Sidecar' is not needed"),
    ("apiVersion: v1\nkind: Gateway\n", 1, 13, "apiVersion", "Gateway has no apiVersion"),
    ("apiVersion: v1\nkind: GatewayClass\n", 2, 7, "kind", "there is one class, meshpy"),
    ("apiVersion: v1\nkind: NetworkPolicy\n", 1, 13, "apiVersion", "has no apiVersion"),
    ("apiVersion: security.istio.io/v1\nkind: VirtualService\n", 1, 13, "apiVersion", "has no apiVersion"),
    (f"{HEAD}{ROUTE}", 1, 1, "", "`metadata` is missing"),
    (f"{HEAD}metadata: {{}}\n{ROUTE}", 3, 11, "metadata", "`name` is missing"),
    (f"{HEAD}metadata: {{name: '../etc'}}\n{ROUTE}", 3, 18, "metadata.name", "'../etc' is no name"),
    (f"{HEAD}metadata: {{name: a, namespce: b}}\n{ROUTE}", 3, 21, "metadata.namespce", "is unknown"),
    (f"{HEAD}metadata: {{name: a}}\n", 1, 1, "", "`spec` is missing"),
    (f"{HEAD}metadata: {{name: a}}\nspecs: {{}}\n{ROUTE}", 4, 1, "specs", "the key 'specs' is unknown"),
    (f"{HEAD}metadata: {{name: a}}\n{ROUTE}{ROUTE}", 5, 1, "", "'spec' is written twice, first on line 4"),
    ("kind: CiliumNetworkPolicy\nspecs: []\n", 2, 1, "specs", "holds several rules"),
    ("- a\n", 1, 1, "", "a document is a mapping"),
    ("a: [\n", 2, 1, "", "is not YAML"),
    ("a: !!python/object:os.system x\n", 1, 4, "", "the tag"),
    ("&a [*a]\n", 1, 5, "", "*a names no anchor"),
    ("[" * 100_000, 1, 101, "", "nested deeper than 100"),
    ("a: '\ud800'\n", 0, 0, "", "is not UTF-8"),
    ("a: \x01\n", 0, 0, "", "is not YAML"),
    ("#" * (1024 * 1024 + 1), 0, 0, "", "at most 1048576 are read"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['key']}-{case['line']}-{case['column']}")
def test_a_bad_spec_is_named_with_its_place(case: dict[str, Any]) -> None:
    problem = problems_of(document(case["kind"], case["spec"]))[0]
    assert problem.place == Place("0.yml", case["line"], case["column"], case["key"])
    assert problem.what == case["says"]
    assert problem.instead


@pytest.mark.parametrize(("text", "line", "column", "key", "says"), WHOLE)
def test_a_bad_document_is_named_with_its_place(
    text: str, line: int, column: int, key: str, says: str
) -> None:
    problem = problems_of(text)[0]
    assert problem.place == Place("0.yml", line, column, key)
    assert says in problem.what


def test_an_alias_bomb_is_refused_before_it_unfolds() -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"{b}: &{b} [{', '.join(['*' + a] * 10)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True)]
    problem = problems_of("\n".join(lines))[0]
    assert "more than 50000 values" in problem.what


def test_all_problems_of_all_files_are_named_at_once() -> None:
    bad = document("AuthorizationPolicy", "acton: DENY\nrules:\n- form: []")
    found = [(p.place.file, p.place.key) for p in problems_of(bad, "a: b", bad)]
    assert ("0.yml", "spec.acton") in found
    assert ("0.yml", "spec.rules[0].form") in found
    assert ("1.yml", "a") in found
    assert ("2.yml", "spec.acton") in found


def test_the_same_policy_twice_is_a_problem_that_names_both_places() -> None:
    text = document("AuthorizationPolicy", "action: ALLOW")
    (problem,) = problems_of(text, text)
    assert str(problem.place) == "1.yml:1:1"
    assert "0.yml:1:1" in problem.what


def test_a_fault_of_a_second_document_points_into_the_file() -> None:
    good = document("AuthorizationPolicy", "action: ALLOW")
    (problem,) = problems_of(good + "---\n" + document("Tier", "ordr: 1"))
    assert (problem.place.line, problem.place.column) == (11, 3)
