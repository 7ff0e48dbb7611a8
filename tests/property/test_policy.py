"""Selectors and documents under generated input."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from meshpy.errors import DocumentError
from meshpy.policy import load
from meshpy.policy.selectors import (
    All,
    And,
    Compare,
    Has,
    Member,
    Not,
    Or,
    SelectorError,
    matches,
    parse_selector,
    show,
)
from tests.helpers.policies import BRIEF

KEYS = st.sampled_from(["app", "tier", "a/b.c", "in", "has", "not"])
VALUES = st.sampled_from(["", "a", "web", "it's", "a b", "&&", ")"])
TERMS = st.one_of(
    st.just(All()),
    st.builds(Has, KEYS),
    st.builds(Compare, KEYS, st.sampled_from(["==", "!=", "contains", "starts with", "ends with"]), VALUES),
    st.builds(Member, KEYS, st.frozensets(VALUES), st.booleans()),
)
SELECTORS = st.recursive(
    TERMS,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(And, st.lists(inner, min_size=2, max_size=3).map(tuple)),
        st.builds(Or, st.lists(inner, min_size=2, max_size=3).map(tuple)),
    ),
    max_leaves=8,
)
LABELS = st.dictionaries(KEYS, VALUES)


@given(SELECTORS)
def test_a_printed_selector_reads_back_as_itself(selector: All) -> None:
    text = show(selector)
    if len(text) <= 1024:
        assert parse_selector(text) == selector


@given(SELECTORS, LABELS)
def test_negation_turns_every_verdict(selector: All, labels: dict[str, str]) -> None:
    assert matches(Not(selector), labels) is not matches(selector, labels)


@given(st.text(alphabet="ab'\"(){}=!&|,. \n\thasinotl", max_size=60))
def test_any_text_is_a_selector_or_a_selector_error(text: str) -> None:
    try:
        matches(parse_selector(text), {"a": "b"})
    except SelectorError as error:
        column = error.column
    else:
        column = 1
    assert 1 <= column <= len(text) + 1


@given(st.text(max_size=200))
def test_any_text_is_policies_or_a_document_error(text: str) -> None:
    try:
        load([("f", text)])
    except DocumentError as error:
        count = len(error.problems)
    else:
        count = 1
    assert count > 0


@settings(max_examples=200)
@given(
    st.integers(0, len(BRIEF) - 1),
    st.integers(0, 8),
    st.text(alphabet="ab:-{}[]&*!|>'\"%@`#? \n\t0", max_size=6),
)
def test_a_damaged_document_is_read_or_refused_with_a_place(at: int, cut: int, put: str) -> None:
    try:
        load([("f", BRIEF[:at] + put + BRIEF[at + cut :])])
    except DocumentError as error:
        files = {problem.place.file for problem in error.problems}
    else:
        files = {"f"}
    assert files == {"f"}
