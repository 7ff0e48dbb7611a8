"""CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy. Source: docs.cilium.io, "Network Policy".

They become rules of the tier `default` at order 1000, beside those of Kubernetes' NetworkPolicies, with which
Cilium adds them up: first what is denied, whichever policy says so, then what is allowed. What remains is
denied, unless every policy that selects the service says `enableDefaultDeny: false`.
"""

from __future__ import annotations

from dataclasses import replace

from meshpy.model.authz import NetworkAction
from meshpy.policy.cilium_peers import PEER_REFUSALS, endpoint_selector, peers
from meshpy.policy.cilium_ports import PortRule, port_rules
from meshpy.policy.kinds import Meta, NetworkPolicyDoc, NetworkRuleDoc, PeerDoc, RulePhase
from meshpy.policy.kubernetes import KUBERNETES_ORDER
from meshpy.policy.reader import Cursor, Fields, Refusal, no_meaning

__all__ = ["cilium_policy"]

_KNOWN = (
    "endpointSelector",
    "description",
    "enableDefaultDeny",
    "ingress",
    "ingressDeny",
    "egress",
    "egressDeny",
)
_REFUSED = {
    "nodeSelector": no_meaning("it selects nodes, the mesh sees services only", "write endpointSelector:"),
    "labels": ("names the rule for Cilium's own tools", "write metadata.labels"),
    "log": ("is not read", "remove it: every verdict is in the access log"),
}
_MTLS: Refusal = ("is not read: every call of the mesh is mutually authenticated", "remove it")
_ICMP = no_meaning("the mesh carries TCP only")


def cilium_policy(meta: Meta, spec: Cursor) -> NetworkPolicyDoc:
    """Read `spec`. A direction with a rule is denied by default; `- {}` is such a rule and allows nothing."""
    fields = spec.fields(_KNOWN, _REFUSED)
    if (description := fields.get("description")) is not None:
        description.text()
    at_selector = fields.required("endpointSelector", "endpointSelector: {} for every service of the stack")
    selector = endpoint_selector(at_selector if at_selector is not None else spec, "")
    denies_by_default = _default_deny(fields)
    rules: dict[str, tuple[NetworkRuleDoc, ...] | None] = {}
    passive = set()
    for direction in ("ingress", "egress"):
        is_written = direction in fields or f"{direction}Deny" in fields
        asked = denies_by_default.get(direction)
        if asked is False:
            passive.add(direction)
        found = (*_denied(fields, meta, direction), *_allowed(fields, meta, direction, asked is False))
        rules[direction] = found if is_written or asked else None
    if not any(name in fields for name in _KNOWN[2:]):
        spec.problem("says nothing", "write ingress: or egress:; `- {}` denies by default")
    return NetworkPolicyDoc(
        meta,
        selector,
        order=KUBERNETES_ORDER,
        ingress=rules["ingress"],
        egress=rules["egress"],
        passive=frozenset(passive),
    )


def _default_deny(fields: Fields) -> dict[str, bool]:
    cursor = fields.get("enableDefaultDeny")
    if cursor is None:
        return {}
    inner = cursor.fields(("ingress", "egress"))
    return {name: inner.boolean(name) for name in inner}


def _denied(fields: Fields, meta: Meta, direction: str) -> list[NetworkRuleDoc]:
    return [
        rule
        for item in fields.items(f"{direction}Deny")
        for rule in _rule(item, meta, direction, denies=True, is_passive=False)
    ]


def _allowed(fields: Fields, meta: Meta, direction: str, is_passive: bool) -> list[NetworkRuleDoc]:
    return [
        rule
        for item in fields.items(direction)
        for rule in _rule(item, meta, direction, denies=False, is_passive=is_passive)
    ]


def _rule(
    cursor: Cursor, meta: Meta, direction: str, *, denies: bool, is_passive: bool
) -> list[NetworkRuleDoc]:
    """Every peer with every port rule, since lists are alternatives."""
    word = "from" if direction == "ingress" else "to"
    names = [f"{word}{name}" for name in ("Endpoints", "CIDR", "CIDRSet", "Entities")]
    if word == "to":
        names += ["toServices"] if denies else ["toServices", "toFQDNs"]
    refused = {**PEER_REFUSALS, "icmps": _ICMP, "authentication": _MTLS}
    if word == "to" and denies:
        refused["toFQDNs"] = ("cannot be denied", "write toCIDR:, or allow the names in egress")
    fields = cursor.fields((*names, "toPorts"), refused)
    fields.only_one(*names)
    fields.only_one("toServices", "toPorts")
    if not fields:
        return []
    found = peers(fields, names, meta) or [("", PeerDoc(cursor.place, takes_sets=False))]
    ports = port_rules(fields.get("toPorts"), denies=denies)
    key = cursor.key.removeprefix("spec.")
    rules: list[NetworkRuleDoc] = []
    for suffix, peer in found:
        for port in ports or [PortRule()]:
            rules += _rules_of(peer, port, key + suffix, direction, denies=denies, is_passive=is_passive)
    return rules


def _rules_of(
    peer: PeerDoc, port: PortRule, name: str, direction: str, *, denies: bool, is_passive: bool
) -> list[NetworkRuleDoc]:
    """A rule per HTTP alternative. Other requests of its port stay denied even without a default (Cilium)."""
    own = PeerDoc(peer.place)
    source, target = (peer, own) if direction == "ingress" else (own, peer)
    rule = NetworkRuleDoc(
        port.place or peer.place,
        NetworkAction.DENY if denies else NetworkAction.ALLOW,
        source,
        replace(target, ports=port.ports),
        port.is_tcp,
        name=name + port.suffix,
        phase=RulePhase.DENY if denies else RulePhase.ALLOW,
    )
    if not port.http:
        return [rule]
    found = [
        replace(rule, http=http, name=f"{rule.name}.rules.http[{index}]")
        for index, http in enumerate(port.http)
    ]
    if is_passive:
        rest = replace(rule, action=NetworkAction.DENY, phase=RulePhase.REST, name=f"{rule.name}.rules")
        found.append(rest)
    return found
