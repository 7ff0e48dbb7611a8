"""RequestHeaderModifier and ResponseHeaderModifier of Gateway API."""

from __future__ import annotations

from collections.abc import Iterable

from meshpy.model.route import HeaderOps
from meshpy.policy.reader import Cursor
from meshpy.policy.strings import changeable_header, plain_value

__all__ = ["header_changes", "header_modifier"]

_FIELD_OF = {
    "RequestHeaderModifier": "requestHeaderModifier",
    "ResponseHeaderModifier": "responseHeaderModifier",
}


def header_changes(filters: Iterable[Cursor]) -> tuple[HeaderOps, HeaderOps]:
    """`filters` of a backend: changes of the request's and of the response's headers, no others."""
    found: dict[str, HeaderOps] = {}
    for item in filters:
        fields = item.fields(("type", *_FIELD_OF.values()))
        at_type = fields.required("type", "type: RequestHeaderModifier")
        if at_type is None:
            continue
        kind = at_type.text()
        if kind not in _FIELD_OF:
            what = f"a backend's filter cannot be {kind!r}"
            at_type.problem(what, f"write {' or '.join(_FIELD_OF)}, or put it into the rule's filters")
            continue
        if kind in found:
            at_type.problem(f"{kind} is written twice", "merge them")
        body = fields.required(_FIELD_OF[kind])
        found[kind] = header_modifier(body) if body is not None else HeaderOps()
    first, second = _FIELD_OF
    return found.get(first, HeaderOps()), found.get(second, HeaderOps())


def header_modifier(cursor: Cursor) -> HeaderOps:
    """`set`, `add` and `remove`; a header has one of them only."""
    fields = cursor.fields(("set", "add", "remove"))
    if not fields:
        cursor.problem("changes nothing", "write set:, add: or remove:")
    ops = HeaderOps(
        tuple(_pair(item) for item in fields.items("set")),
        tuple(_pair(item) for item in fields.items("add")),
        tuple(changeable_header(item, item.text()) for item in fields.items("remove")),
    )
    names = [name.lower() for name in (*(n for n, _ in (*ops.set, *ops.add)), *ops.remove)]
    for name in dict.fromkeys(name for name in names if names.count(name) > 1):
        cursor.problem(f"{name} is changed twice", "keep one of set, add and remove for a header")
    return ops


def _pair(cursor: Cursor) -> tuple[str, str]:
    fields = cursor.fields(("name", "value"))
    name, value = fields.required("name", "name: x-header"), fields.required("value", "value: text")
    text = plain_value(value) if value is not None else ""
    return changeable_header(name, name.text()) if name is not None else "", text
