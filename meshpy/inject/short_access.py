"""`allow` and `deny` of a service -> the rules of an AuthorizationPolicy.

A name is a service of the stack, `STACK/SERVICE`, `STACK/*`, `outside` (callers without an identity) or `*`.
An item may say more: `{from: [web], methods: [GET], paths: [/v1/*], ports: [8080], hosts: [api]}`.
"""

from __future__ import annotations

from typing import Any

from meshpy.inject.members import Plan
from meshpy.model.names import OUTSIDE, OUTSIDE_WORDS
from meshpy.policy.documents import Scalar, Sequence
from meshpy.policy.reader import Cursor, suggestion

__all__ = ["access_rules"]

_OPERATION = ("methods", "paths", "ports", "hosts")


def access_rules(cursor: Cursor, plan: Plan, *, denies: bool) -> list[dict[str, Any]]:
    """One rule per item; names alone are one rule together. `allow: []` allows nobody."""
    if isinstance(cursor.node, Scalar):
        names = [_part(cursor, text) for text in cursor.node.text.split(",") if text.strip()]
        return [_rule(names, {}, plan)]
    items = cursor.items(empty=not denies)
    names = [item for item in items if isinstance(item.node, Scalar)]
    rules = [_rule(names, {}, plan)] if names else []
    for item in items:
        if not isinstance(item.node, Scalar):
            fields = item.fields(("from", *_OPERATION))
            if not fields:
                item.problem("says nothing", "write from:, methods:, paths:, ports: or hosts:")
            given = {key: fields.get(key) for key in _OPERATION}
            operation = {key: _texts(value) for key, value in given.items() if value is not None}
            at_from = fields.get("from")
            rules.append(_rule(_each(at_from) if at_from is not None else [], operation, plan))
    return rules


def _part(cursor: Cursor, text: str) -> Cursor:
    node = cursor.node
    return Cursor(Scalar(text.strip(), False, node.line, node.column), cursor.key, cursor.report)


def _each(cursor: Cursor) -> list[Cursor]:
    """The items of a list, or the one word in its place."""
    return cursor.items() if isinstance(cursor.node, Sequence) else [cursor]


def _texts(cursor: Cursor) -> list[str]:
    return [_word(item) for item in _each(cursor)]


def _word(cursor: Cursor) -> str:
    """A text, or a port as a number."""
    node = cursor.node
    if isinstance(node, Scalar) and node.plain and node.text.isdecimal():
        return str(cursor.integer(1, 65535))
    return cursor.text()


def _rule(names: list[Cursor], operation: dict[str, list[str]], plan: Plan) -> dict[str, Any]:
    rule: dict[str, Any] = {}
    sources = [_source(name, plan) for name in names]
    if sources and all(source is not None for source in sources):
        rule["from"] = [{"source": source} for source in sources]
    if operation:
        rule["to"] = [{"operation": operation}]
    return rule


def _source(cursor: Cursor, plan: Plan) -> dict[str, list[str]] | None:
    """What a name means; None is anybody."""
    text = cursor.text()
    if text == "*":
        return None
    if text in OUTSIDE_WORDS:
        return {"notPrincipals": ["*"]}
    stack, slash, name = text.rpartition("/")
    if slash and name == "*" and stack and "/" not in stack:
        return {"namespaces": [stack]}
    if slash and stack and "/" not in stack:
        return {"serviceAccounts": [text]}
    known = [member.key for member in plan.members]
    if text not in known:
        cursor.problem(f"{text!r} is no service of the file", suggestion(text, (*known, OUTSIDE, "*")))
    member = next((member for member in plan.members if member.key == text), None)
    if member is not None and member.exempt:
        what = f"{text} has no sidecar and no identity ({member.exempt})"
        cursor.problem(what, f"write {OUTSIDE} for all callers without identity")
    return {"serviceAccounts": [text]}
