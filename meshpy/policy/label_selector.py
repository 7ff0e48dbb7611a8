"""Kubernetes label selectors (`matchLabels`, `matchExpressions`) -> the selector language of Calico.

Source: kubernetes.io "Labels and selectors". NotIn and DoesNotExist also hold where the label is absent, as
Calico's `not in` does, so one expression language serves both.
"""

from __future__ import annotations

from collections.abc import Callable

from meshpy.policy.kinds import SelectorDoc
from meshpy.policy.reader import Cursor
from meshpy.policy.selectors import All, And, Compare, Has, Member, Not, Selector, show

__all__ = ["label_selector"]

_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")


def label_selector(cursor: Cursor, key: Callable[[Cursor, str], str] = lambda _at, key: key) -> SelectorDoc:
    """Read `{matchLabels, matchExpressions}`, all of which must hold; `{}` selects everything.

    Args:
        key: what a label's name is called here, given where it stands.
    """
    fields = cursor.fields(("matchLabels", "matchExpressions"))
    terms: list[Selector] = []
    labels = fields.get("matchLabels")
    for name, value in labels.pairs() if labels is not None else ():
        terms.append(Compare(key(value, name), "==", value.text()))
    terms += [_expression(item, key) for item in fields.items("matchExpressions", empty=True)]
    selector = All() if not terms else terms[0] if len(terms) == 1 else And(tuple(terms))
    return SelectorDoc(show(selector), selector, cursor.place)


def _expression(cursor: Cursor, key: Callable[[Cursor, str], str]) -> Selector:
    fields = cursor.fields(("key", "operator", "values"))
    at_key = fields.required("key", "key: app")
    at_operator = fields.required("operator", "operator: In")
    if at_key is None or at_operator is None:
        return All()
    name, operator = key(at_key, at_key.text()), at_operator.choice(_OPERATORS)
    values = frozenset(item.text() for item in fields.items("values"))
    at_values = fields.get("values")
    if operator in ("Exists", "DoesNotExist"):
        if at_values is not None:
            at_values.problem(f"`values` has no meaning with {operator}", "remove it, or write operator: In")
        return Has(name) if operator == "Exists" else Not(Has(name))
    if at_values is None:
        cursor.problem(f"`values` is missing, {operator} compares with them", "write values: [web]")
    return Member(name, values, operator == "NotIn")
