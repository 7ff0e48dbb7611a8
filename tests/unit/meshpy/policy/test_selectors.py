"""Calico's selector language: what each form means, and what a refusal says."""

from __future__ import annotations

import pytest

from meshpy.policy.selectors import SelectorError, matches, parse_selector

WEB = {"app": "web", "tier": "front-end", "a/b.c_d-e": "x"}

HOLDS = [
    "",
    "   ",
    "all()",
    "all( )",
    "has(app)",
    "has( app )",
    "!has(db)",
    "app == 'web'",
    'app=="web"',
    "app != 'db'",
    "db != 'x'",
    "app in {'db', 'web'}",
    "app in {'web',}",
    "app not in {'db'}",
    "app notin {'db'}",
    "db not in {'x'}",
    "db not in {}",
    "app contains 'e'",
    "tier starts with 'front'",
    "tier startswith 'front'",
    "tier ends with 'end'",
    "a/b.c_d-e == 'x'",
    "app == 'web' && has(tier)",
    "app == 'db' || has(tier)",
    "has(db) && has(x) || has(app)",
    "has(app) || has(db) && has(x)",
    "!(has(db) || has(x))",
    "!!has(app)",
    "! has(db) && !has(x)",
    "((app == 'web'))",
    "app\n==\t'web'",
    "app contains ''",
]
FAILS = [
    "!all()",
    "has(db)",
    "app == 'Web'",
    "db == 'x'",
    "app != 'web'",
    "app in {}",
    "db in {'x'}",
    "app not in {'web'}",
    "db contains ''",
    "db starts with ''",
    "db ends with ''",
    "has(app) && has(db)",
    "(has(app) || has(x)) && has(db)",
    "!has(app) && has(tier)",
]
REFUSED = [
    ("app = 'web'", 5, "is no operator"),
    ("app == web", 8, "is no quoted value"),
    ("app == 'web", 8, "is no quoted value"),
    ("app", 4, "the end after 'app'"),
    ("app == 'a' app == 'b'", 12, "cannot stand here"),
    ("app == 'a' &&", 14, "is no term"),
    ("&& app == 'a'", 1, "is no term"),
    ("(has(app)", 10, "where a ) is needed"),
    ("has(app))", 9, "cannot stand here"),
    ("has()", 4, "is no operator"),
    ("app in 'a'", 8, "where a set is needed"),
    ("app in {'a' 'b'}", 13, "inside the set"),
    ("app in {a}", 9, "is no quoted value"),
    ("app in {'a'", 12, "inside the set"),
    ("global()", 1, "namespaceSelector only"),
    ("app == 'a' & has(b)", 12, "cannot stand here"),
    ("ümlaut == 'a'", 1, "is no term"),
    ("(" * 60 + "all()" + ")" * 60, 52, "nested deeper"),
    ("a" * 1025, 1024, "1025 characters"),
]


@pytest.mark.parametrize("text", HOLDS)
def test_it_holds(text: str) -> None:
    assert matches(parse_selector(text), WEB)


@pytest.mark.parametrize("text", FAILS)
def test_it_does_not_hold(text: str) -> None:
    assert not matches(parse_selector(text), WEB)


@pytest.mark.parametrize(("text", "column", "says"), REFUSED)
def test_a_refusal_names_the_column_and_what_to_write(text: str, column: int, says: str) -> None:
    with pytest.raises(SelectorError) as refused:
        parse_selector(text)
    assert refused.value.column == column
    assert says in refused.value.what
    assert refused.value.instead


def test_global_is_read_where_namespaces_are_selected_and_holds_for_none_of_them() -> None:
    assert not matches(parse_selector("global()", allow_global=True), WEB)
    assert matches(parse_selector("!global()", allow_global=True), WEB)
