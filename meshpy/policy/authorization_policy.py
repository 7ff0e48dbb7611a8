"""Istio AuthorizationPolicy. Source: istio.io/latest/docs/reference/config/security/authorization-policy."""

from __future__ import annotations

from meshpy.errors import Place
from meshpy.model.authz import Action
from meshpy.policy.attachment import ATTACH_REFUSED, ATTACHED_BY, attachment
from meshpy.policy.authorization_rules import authorization_rule
from meshpy.policy.kinds import NOWHERE, AuthorizationPolicyDoc, Meta
from meshpy.policy.reader import Cursor, Fields

__all__ = ["authorization_policy"]


def authorization_policy(meta: Meta, spec: Cursor) -> AuthorizationPolicyDoc:
    """Read `spec`; `{}` is ALLOW without a rule, which allows nothing."""
    fields = spec.fields((*ATTACHED_BY, "action", "provider", "rules"), ATTACH_REFUSED)
    attached = attachment(fields, meta)
    action = _action(fields)
    provider, place = _provider(spec, fields, action)
    return AuthorizationPolicyDoc(
        meta,
        action,
        tuple(authorization_rule(item, meta.namespace) for item in fields.items("rules", empty=True)),
        attached.selector,
        attached.place,
        _dry_run(meta, spec),
        attached.refs,
        provider,
        place,
    )


def _action(fields: Fields) -> Action:
    cursor = fields.get("action")
    if cursor is None:
        return Action.ALLOW
    known = tuple(action.value for action in Action)
    value = cursor.choice(known)
    return Action(value) if value in known else Action.DENY


def _provider(spec: Cursor, fields: Fields, action: Action) -> tuple[str, Place]:
    """The provider that CUSTOM asks; it is nothing to the other actions."""
    cursor = fields.get("provider")
    if action is not Action.CUSTOM:
        if cursor is not None:
            cursor.problem("`provider` belongs to action CUSTOM", "write action: CUSTOM, or remove it")
        return "", NOWHERE
    if cursor is None:
        spec.problem("CUSTOM without `provider` asks nobody", "write provider: {name: …}")
        return "", NOWHERE
    at_name = cursor.fields(("name",)).required("name", "name: of an extensionProvider of MeshConfig")
    return (at_name.text(), at_name.place) if at_name is not None else ("", cursor.place)


def _dry_run(meta: Meta, spec: Cursor) -> bool:
    value = meta.annotations.get("istio.io/dry-run", "false")
    if value.lower() not in ("true", "false"):
        spec.problem(f"the annotation istio.io/dry-run is {value!r}", 'write "true" or "false"')
    return value.lower() == "true"
