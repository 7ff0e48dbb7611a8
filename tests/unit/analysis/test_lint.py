"""Each code is found where it is meant and nowhere else."""

from pathlib import Path

import pytest

from meshpy.analysis.lint import Subject, code_of, complexity, lint
from meshpy.analysis.remarks import CODES
from meshpy.analysis.suppress import ANNOTATION, suppressed
from meshpy.compile import check, compile_mesh
from meshpy.errors import Place
from tests.helpers.policies import document, loaded, shop

ROOT = Path(__file__).parents[3]
TODAY = "2026-11-26"
API = "selector: {matchLabels: {app: api}}\n"
WEB_GETS = "[{from: [{source: {serviceAccounts: [web]}}], to: [{operation: {methods: [GET]}}]}]"
GOOD = f"{API}rules: {WEB_GETS}"


def authorization(spec, name="p", namespace="shop"):
    return document("AuthorizationPolicy", spec, name, namespace)


def linted(*texts, today=TODAY):
    policies = loaded(*texts)
    inventory = shop()
    snapshots = compile_mesh(inventory, policies, trust_domain="cluster.local", revision=0)
    findings = check(inventory, policies)
    return lint(Subject(inventory, policies, snapshots, findings), today)


def codes(*texts):
    return {remark.code for remark in linted(*texts)}


def routes(http, host="api"):
    return document("VirtualService", f"hosts: [{host}]\nhttp:\n{http}", "v")


TO_API = "route: [{destination: {host: api}}]"
FROM_WEB = "from: [{source: {serviceAccounts: [web]}}]"
STAGED = "istio.io/dry-run: 'true', meshpy.io/expires: "


def staged(date):
    text = authorization(GOOD)
    return text.replace("name: p,", f"name: p, annotations: {{{STAGED}'{date}'}},")


PAIRS = {
    "MP101": (
        [authorization(GOOD.replace("app: api", "app: nobody"))],
        [authorization(GOOD)],
    ),
    "MP102": (
        [
            authorization(
                f"{API}rules:\n- {{{FROM_WEB}}}\n- {{{FROM_WEB}, to: [{{operation: {{methods: [GET]}}}}]}}"
            )
        ],
        [
            authorization(
                f"{API}rules:\n- {{{FROM_WEB}, to: [{{operation: {{methods: [GET]}}}}]}}\n- {{{FROM_WEB}}}"
            )
        ],
    ),
    "MP103": (
        [authorization(GOOD), authorization(f"{API}action: DENY\nrules: [{{{FROM_WEB}}}]", "d")],
        [
            authorization(GOOD),
            authorization(f"{API}action: DENY\nrules: [{{to: [{{operation: {{paths: [/x]}}}}]}}]", "d"),
        ],
    ),
    "MP104": (
        [authorization(GOOD), authorization(GOOD, "q")],
        [authorization(GOOD), authorization(GOOD.replace("GET", "PUT"), "q")],
    ),
    "MP105": (
        [
            authorization(
                f"{API}rules:\n- {{{FROM_WEB}, to: [{{operation: {{methods: [GET]}}}}]}}\n- {{{FROM_WEB}}}"
            )
        ],
        [authorization(GOOD)],
    ),
    "MP106": (
        [authorization(f"{API}rules: [{{to: [{{operation: {{methods: [GET]}}}}]}}]")],
        [authorization(GOOD)],
    ),
    "MP107": (
        [routes("- route: [{destination: {host: nobody}}]")],
        [routes(f"- {TO_API}")],
    ),
    "MP108": (
        [routes("- route: [{destination: {host: api, port: {number: 9}}}]")],
        [routes("- route: [{destination: {host: api, port: {number: 8080}}}]")],
    ),
    "MP109": (
        [routes("- route: [{destination: {host: api, subset: v9}}]")],
        [routes(f"- {TO_API}")],
    ),
    "MP110": (
        [
            routes(
                "- route: [{destination: {host: catalog-v1}, weight: 1},"
                " {destination: {host: catalog-v2}, weight: 2}]"
            )
        ],
        [
            routes(
                "- route: [{destination: {host: catalog-v1}, weight: 40},"
                " {destination: {host: catalog-v2}, weight: 60}]"
            )
        ],
    ),
    "MP111": (
        [authorization(GOOD.replace("app: api", "app: redis"))],
        [authorization(GOOD)],
    ),
    "MP112": (
        [
            authorization(
                f"{API}rules: [{{when: [{{key: source.ip, values: [10.9.9.9]}},"
                " {key: source.ip, notValues: [10.9.9.9]}]}]"
            )
        ],
        [authorization(GOOD)],
    ),
    "MP113": (
        [authorization(f"{API}rules: [{{to: [{{operation: {{notPaths: [/admin]}}}}]}}]")],
        [authorization(f"{API}rules: [{{{FROM_WEB}, to: [{{operation: {{notPaths: [/admin]}}}}]}}]")],
    ),
    "MP114": (
        [routes(f"- match: [{{uri: {{prefix: /v1}}}}]\n  {TO_API}\n- {TO_API}")],
        [routes(f"- match: [{{uri: {{prefix: /v1/}}}}]\n  {TO_API}\n- {TO_API}")],
    ),
    "MP115": (
        [authorization(GOOD)],
        [
            authorization("rules: [{from: [{source: {namespaces: [shop]}}]}]"),
            authorization("rules: [{from: [{source: {namespaces: [blog]}}]}]", "b", "blog"),
        ],
    ),
    "MP116": (
        [authorization(GOOD, "Only_Web")],
        [authorization(GOOD, "only-web")],
    ),
    "MP117": ([staged("2026-01-31")], [staged("2026-12-31")]),
    "MP118": (
        [
            authorization(
                f"{API}rules:\n- {{{FROM_WEB}, to: [{{operation: {{methods: [GET]}}}}]}}\n- {{{FROM_WEB}}}"
            )
        ],
        [authorization(GOOD)],
    ),
    "MP120": (
        [routes(f"- match: [{{uri: {{regex: '/\\bx.*'}}}}]\n  {TO_API}\n- {TO_API}")],
        [routes(f"- match: [{{uri: {{regex: '/x.*'}}}}]\n  {TO_API}\n- {TO_API}")],
    ),
}


@pytest.mark.parametrize("code", sorted(PAIRS))
def test_a_code_is_found_where_it_is_meant_and_not_elsewhere(code):
    bad, good = PAIRS[code]
    assert code in codes(*bad)
    assert code not in codes(*good)


def test_every_code_is_tested_and_has_its_section_in_the_docs():
    assert set(CODES) - set(PAIRS) == {"MP100", "MP119"}  # below
    page = (ROOT / "docs/lint.md").read_text()
    for code in CODES:
        assert f"\n### {code}\n" in page, code


def test_a_rule_that_nobody_can_meet_is_told_with_its_place():
    text = authorization(
        f"{API}rules:\n- {{{FROM_WEB}}}\n- from: [{{source: {{serviceAccounts: [blog/web]}}}}]"
    )
    (found,) = [remark for remark in linted(text) if remark.code == "MP102"]
    assert found.place.line == 8
    assert found.subject == "AuthorizationPolicy shop/p rules[1]"


def test_a_route_behind_one_that_takes_its_requests_is_unreachable():
    """By the classes: neither match is equal to the other."""
    text = routes(
        f"- match: [{{uri: {{prefix: /a}}}}, {{uri: {{prefix: /b}}}}]\n  {TO_API}\n"
        f"- match: [{{uri: {{regex: '/(a|b)[0-9]+'}}}}]\n  {TO_API}\n- {TO_API}"
    )
    assert [r.subject for r in linted(text) if r.code == "MP102"] == ["VirtualService shop/v http[1]"]


def test_a_rule_of_an_httproute_is_unreachable_by_the_order_of_its_kind():
    """Exact paths come first whatever stands first; a rule that repeats them is never taken."""
    rule = "- matches: [{{path: {{type: {}, value: /a}}}}]\n  backendRefs: [{{name: api, port: 8080}}]\n"
    head = "parentRefs: [{group: '', kind: Service, name: api}]\nrules:\n"
    good = document("HTTPRoute", head + rule.format("PathPrefix") + rule.format("Exact"), "r")
    assert [r.subject for r in linted(good) if r.code == "MP102"] == []
    bad = document("HTTPRoute", head + rule.format("Exact") * 2, "r")
    assert [r.subject for r in linted(bad) if r.code == "MP102"] == ["HTTPRoute shop/r rules[1]"]


def test_the_simplification_keeps_every_verdict_and_tells_the_score():
    bad, _ = PAIRS["MP118"]
    (found,) = [remark for remark in linted(*bad) if remark.code == "MP118"]
    assert "1 of 2 rules can go together" in found.message
    assert f"complexity {complexity(loaded(*bad))}:" in found.message


def test_findings_of_the_compiler_have_codes_and_keep_their_level():
    bad = routes("- route: [{destination: {host: nobody}}]")
    assert {(r.code, r.grade) for r in linted(bad) if r.grade == "error"} == {("MP107", "error")}


def test_every_finding_of_the_compiler_has_a_code_of_its_own():
    """The documents that the compiler's own tests call wrong."""
    texts = [text for pair in PAIRS.values() for text in pair[0]]
    for text in texts:
        policies = loaded(text)
        found = check(shop(), policies)
        for problem in (*found.errors, *found.warnings):
            assert code_of(problem) != "MP100", problem


def kept(text):
    policies = loaded(text)
    inventory = shop()
    snapshots = compile_mesh(inventory, policies, trust_domain="cluster.local", revision=0)
    remarks = lint(Subject(inventory, policies, snapshots, check(inventory, policies)), TODAY)
    notes = {
        item.meta.place: item.meta.annotations[ANNOTATION]
        for item in policies.authorization_policies
        if ANNOTATION in item.meta.annotations
    }
    return [r for r in suppressed(remarks, {"0.yml": text}, policies.documents, notes) if r.code != "MP115"]


BROAD = f"{API}rules:\n- to: [{{operation: {{methods: [GET]}}}}]"


def test_a_comment_suppresses_the_finding_of_its_line_or_the_next():
    text = authorization(BROAD)
    assert [remark.code for remark in kept(text)] == ["MP106"]
    above = text.replace("  - to:", "  # meshpy: ignore MP106 the front door is public\n  - to:")
    assert kept(above) == []
    beside = text.replace("methods: [GET]}}]", "methods: [GET]}}] # meshpy: ignore MP106 public")
    assert kept(beside) == []
    assert [r.code for r in kept("# meshpy: ignore MP106 all of it is public\n" + text)] == []


def test_an_annotation_suppresses_in_its_document():
    text = authorization(BROAD).replace(
        "name: p,", f"name: p, annotations: {{{ANNOTATION}: 'MP106: public'}},"
    )
    assert kept(text) == []


def test_a_suppression_without_reason_code_or_use_is_a_finding():
    for comment in ("MP106", "MP104 nothing here says so", "MP999 what", ""):
        text = authorization(BROAD).replace("  - to:", f"  # meshpy: ignore {comment}\n  - to:")
        assert "MP119" in [remark.code for remark in kept(text)], comment


def test_places_are_kept():
    assert all(isinstance(remark.place, Place) for remark in linted(authorization(BROAD)))
