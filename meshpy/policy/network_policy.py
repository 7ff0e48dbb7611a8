"""Calico's policies, enforced and staged, Tiers and NetworkSets.

Source: docs.tigera.io, Calico resource reference.
"""

from __future__ import annotations

import datetime as dt
import re

from meshpy.errors import Place
from meshpy.model.authz import NetworkAction
from meshpy.policy.kinds import Meta, NetworkPolicyDoc, NetworkRuleDoc, NetworkSetDoc, StagedAction, TierDoc
from meshpy.policy.network_rule import network_rule, optional_selector, selector_doc
from meshpy.policy.reader import Cursor, Fields, no_meaning
from meshpy.policy.strings import cidr

__all__ = ["EXPIRES", "expiry", "network_policy", "network_set", "staged_action", "tier"]

EXPIRES = "meshpy.io/expires"
"""An annotation of staged policies: the day after which they are a leftover, which lint tells."""

_MAX_RULES = 1024
_KNOWN = ("tier", "order", "selector", "serviceAccountSelector", "types", "ingress", "egress")
_ONLY_NODES = no_meaning("it is for nodes and their interfaces, the mesh sees services only")
_REFUSED = {
    "doNotTrack": _ONLY_NODES,
    "preDNAT": _ONLY_NODES,
    "applyOnForward": _ONLY_NODES,
    "performanceHints": no_meaning("there are no nodes to program ahead"),
}
_TIER_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_MAX_ORDER = 1e15


def network_policy(meta: Meta, spec: Cursor) -> NetworkPolicyDoc:
    """Read `spec` of all four kinds; global ones have `namespaceSelector`, staged ones `stagedAction`."""
    known = _KNOWN if meta.namespace else (*_KNOWN, "namespaceSelector")
    is_staged = meta.kind.startswith("Staged")
    if is_staged:
        known = (*known, "stagedAction")
    refused = dict(_REFUSED)
    if meta.namespace:
        refused["namespaceSelector"] = ("belongs to GlobalNetworkPolicy", "remove it, or change the kind")
    fields = spec.fields(known, refused)
    at_selector, at_tier, order = fields.get("selector"), fields.get("tier"), fields.get("order")
    ingress, egress = _rules(fields, "ingress"), _rules(fields, "egress")
    types = _types(fields, has_ingress=bool(ingress), has_egress=bool(egress))
    for name, rules in (("Ingress", ingress), ("Egress", egress)):
        cursor = fields.get(name.lower())
        if rules and name not in types and cursor is not None:
            cursor.problem(
                f"has no effect: `types` does not list {name}", f"add {name} to types, or remove it"
            )
    return NetworkPolicyDoc(
        meta,
        selector_doc(at_selector, at_selector.place if at_selector is not None else spec.place),
        optional_selector(fields, "serviceAccountSelector"),
        optional_selector(fields, "namespaceSelector", allow_global=True),
        at_tier.text() if at_tier is not None else "default",
        at_tier.place if at_tier is not None else Place(),
        order.number(-_MAX_ORDER, _MAX_ORDER) if order is not None else None,
        ingress if "Ingress" in types else None,
        egress if "Egress" in types else None,
        staged_action(fields) if is_staged else None,
        expiry(meta, spec),
    )


def staged_action(fields: Fields) -> StagedAction:
    """`stagedAction`, by default Set."""
    cursor = fields.get("stagedAction")
    known = tuple(action.value for action in StagedAction)
    value = cursor.choice(known) if cursor is not None else StagedAction.SET.value
    return StagedAction(value) if value in known else StagedAction.IGNORE


def expiry(meta: Meta, spec: Cursor) -> str:
    """The day that the annotation names, empty without it; an enforced policy does not expire."""
    text = meta.annotations.get(EXPIRES, "")
    if not text:
        return ""
    if not meta.kind.startswith("Staged"):
        spec.problem(f"the annotation {EXPIRES} is for staged policies, {meta.kind} stays", "remove it")
    try:
        return dt.date.fromisoformat(text).isoformat()
    except ValueError:
        spec.problem(f"the annotation {EXPIRES} is {text!r}, which is no day", 'write "2027-03-31"')
        return ""


def _rules(fields: Fields, name: str) -> tuple[NetworkRuleDoc, ...]:
    items = fields.items(name, empty=True)
    if len(items) > _MAX_RULES:
        items[_MAX_RULES].problem(f"is rule {_MAX_RULES + 1}, Calico takes {_MAX_RULES}", "split the policy")
    return tuple(network_rule(item, is_ingress=name == "ingress") for item in items)


def _types(fields: Fields, *, has_ingress: bool, has_egress: bool) -> frozenset[str]:
    """`types`, by default after the rules that are there: egress alone is Egress, else Ingress is in."""
    cursor = fields.get("types")
    if cursor is not None:
        return frozenset(item.choice(("Ingress", "Egress")) for item in cursor.items())
    if has_egress and not has_ingress:
        return frozenset({"Egress"})
    return frozenset({"Ingress", "Egress"}) if has_egress else frozenset({"Ingress"})


def tier(meta: Meta, spec: Cursor) -> TierDoc:
    """Read `spec` of a Tier."""
    fields = spec.fields(("order", "defaultAction"))
    order, action = fields.get("order"), fields.get("defaultAction")
    if not _TIER_NAME.fullmatch(meta.name):
        spec.problem(f"{meta.name!r} is no tier name", "write lower-case letters, digits and -")
    chosen = action.choice(("Deny", "Pass")) if action is not None else "Deny"
    if meta.name == "default" and chosen == "Pass":
        spec.problem("the default tier always ends in Deny", "remove `defaultAction`")
    return TierDoc(
        meta,
        order.number(-_MAX_ORDER, _MAX_ORDER) if order is not None else None,
        NetworkAction.PASS if chosen == "Pass" else NetworkAction.DENY,
    )


def network_set(meta: Meta, spec: Cursor) -> NetworkSetDoc:
    """Read a NetworkSet or GlobalNetworkSet; what picks it are its `metadata.labels`."""
    fields = spec.fields(
        ("nets",),
        {"allowedEgressDomains": ("is of Calico Enterprise", "write a rule with destination.domains")},
    )
    if "nets" not in fields:
        spec.problem("`nets` is missing", "write nets: [192.0.2.0/24]")
    return NetworkSetDoc(meta, meta.labels, tuple(cidr(item) for item in fields.items("nets", empty=True)))
