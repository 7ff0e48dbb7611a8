"""Istio AuthorizationPolicy. Source: istio.io/latest/docs/reference/config/security/authorization-policy."""

from __future__ import annotations

from meshpy.model.authz import Action
from meshpy.policy.attachment import ATTACH_REFUSED, ATTACHED_BY, attachment
from meshpy.policy.authorization_rules import authorization_rule
from meshpy.policy.kinds import AuthorizationPolicyDoc, Meta
from meshpy.policy.reader import Cursor, Fields

__all__ = ["authorization_policy"]


def authorization_policy(meta: Meta, spec: Cursor) -> AuthorizationPolicyDoc:
    """Read `spec`; `{}` is ALLOW without a rule, which allows nothing."""
    fields = spec.fields(
        (*ATTACHED_BY, "action", "rules"),
        {
            **ATTACH_REFUSED,
            "provider": ("belongs to action CUSTOM, which is not supported yet by meshpy", "remove it"),
        },
    )
    attached = attachment(fields, meta)
    return AuthorizationPolicyDoc(
        meta,
        _action(fields),
        tuple(authorization_rule(item, meta.namespace) for item in fields.items("rules", empty=True)),
        attached.selector,
        attached.place,
        _dry_run(meta, spec),
        attached.refs,
    )


def _action(fields: Fields) -> Action:
    cursor = fields.get("action")
    if cursor is None:
        return Action.ALLOW
    if cursor.text() == "CUSTOM":
        cursor.problem("CUSTOM is not supported yet by meshpy", "write ALLOW, DENY or AUDIT")
        return Action.DENY
    known = tuple(action.value for action in Action if action is not Action.CUSTOM)
    value = cursor.choice(known)
    return Action(value) if value in known else Action.DENY


def _dry_run(meta: Meta, spec: Cursor) -> bool:
    value = meta.annotations.get("istio.io/dry-run", "false")
    if value.lower() not in ("true", "false"):
        spec.problem(f"the annotation istio.io/dry-run is {value!r}", 'write "true" or "false"')
    return value.lower() == "true"
