"""Kubernetes NetworkPolicy (networking.k8s.io/v1) and Calico's StagedKubernetesNetworkPolicy.

Source: kubernetes.io "Network Policies". A policy becomes allow rules of the tier `default` at order 1000, as
Calico converts it: several policies add up, what none of them allows ends in the tier's Deny, and Calico's
own policies stand before or behind them by their `order`.
"""

from __future__ import annotations

from meshpy.model.authz import NetworkAction, PortRange
from meshpy.policy.kinds import Meta, NetworkPolicyDoc, NetworkRuleDoc, PeerDoc
from meshpy.policy.label_selector import label_selector
from meshpy.policy.network_policy import expiry, staged_action
from meshpy.policy.reader import Cursor, Fields
from meshpy.policy.strings import cidr, cidr_outside

__all__ = ["KUBERNETES_ORDER", "kubernetes_network_policy"]

KUBERNETES_ORDER = 1000.0
"""Where Calico puts NetworkPolicies of Kubernetes in the tier `default`."""

_TYPES = ("Ingress", "Egress")
_PROTOCOLS = ("TCP", "UDP", "SCTP")


def kubernetes_network_policy(meta: Meta, spec: Cursor) -> NetworkPolicyDoc:
    """Read `spec`; without `policyTypes` it is for Ingress, and for Egress when it has egress rules."""
    is_staged = meta.kind.startswith("Staged")
    known = ("podSelector", "policyTypes", "ingress", "egress", *(("stagedAction",) if is_staged else ()))
    fields = spec.fields(known)
    at_selector = fields.required("podSelector", "podSelector: {} for every service of the stack")
    selector = label_selector(at_selector if at_selector is not None else spec)
    ingress, egress = _rules(fields, "ingress"), _rules(fields, "egress")
    types = _types(fields, has_egress=bool(egress))
    for name in _TYPES:
        cursor = fields.get(name.lower())
        if cursor is not None and name not in types:
            cursor.problem(
                f"has no effect: `policyTypes` does not list {name}", f"add {name} to it, or remove this"
            )
    return NetworkPolicyDoc(
        meta,
        selector,
        order=KUBERNETES_ORDER,
        ingress=ingress if "Ingress" in types else None,
        egress=egress if "Egress" in types else None,
        staged=staged_action(fields) if is_staged else None,
        expires=expiry(meta, spec),
    )


def _types(fields: Fields, *, has_egress: bool) -> frozenset[str]:
    cursor = fields.get("policyTypes")
    if cursor is not None:
        return frozenset(item.choice(_TYPES) for item in cursor.items())
    return frozenset(_TYPES if has_egress else ("Ingress",))


def _rules(fields: Fields, name: str) -> tuple[NetworkRuleDoc, ...]:
    return tuple(
        rule
        for index, item in enumerate(fields.items(name, empty=True))
        for rule in _rule(item, f"{name}[{index}]", is_ingress=name == "ingress")
    )


def _rule(cursor: Cursor, name: str, *, is_ingress: bool) -> list[NetworkRuleDoc]:
    """One allow rule per peer: peers of a list are alternatives, as its ports are."""
    word = "from" if is_ingress else "to"
    fields = cursor.fields((word, "ports"))
    items = fields.items(word, empty=True)
    peers = [(f".{word}[{i}]", _peer(item)) for i, item in enumerate(items)]
    ports, is_tcp = _ports(fields)
    rules = []
    for suffix, peer in peers or [("", PeerDoc(cursor.place))]:
        own = PeerDoc(cursor.place)
        source, target = (peer, own) if is_ingress else (own, peer)
        rules.append(
            NetworkRuleDoc(
                peer.place, NetworkAction.ALLOW, source, _to_ports(target, ports), is_tcp, name=name + suffix
            )
        )
    return rules


def _to_ports(peer: PeerDoc, ports: tuple[PortRange, ...]) -> PeerDoc:
    return PeerDoc(
        peer.place,
        peer.selector,
        namespace_selector=peer.namespace_selector,
        nets=peer.nets,
        not_nets=peer.not_nets,
        ports=ports,
        takes_sets=False,
    )


def _peer(cursor: Cursor) -> PeerDoc:
    """A peer: both selectors in one item must hold; two items are alternatives."""
    fields = cursor.fields(("podSelector", "namespaceSelector", "ipBlock"))
    if not fields:
        cursor.problem("is empty", "name podSelector, namespaceSelector or ipBlock; {} matches no peer")
    fields.only_one("ipBlock", "podSelector")
    fields.only_one("ipBlock", "namespaceSelector")
    pods, spaces, block = (fields.get(name) for name in ("podSelector", "namespaceSelector", "ipBlock"))
    nets, not_nets = _block(block) if block is not None else (None, None)
    return PeerDoc(
        cursor.place,
        label_selector(pods) if pods is not None else None,
        namespace_selector=label_selector(spaces) if spaces is not None else None,
        nets=nets,
        not_nets=not_nets,
        takes_sets=False,
    )


def _block(cursor: Cursor) -> tuple[tuple[str, ...], tuple[str, ...] | None]:
    fields = cursor.fields(("cidr", "except"))
    at_cidr = fields.required("cidr", "cidr: 10.0.0.0/8")
    net = cidr(at_cidr) if at_cidr is not None else "0.0.0.0/32"
    excepted = tuple(cidr_outside(item, net) for item in fields.items("except"))
    return (net,), excepted or None


def _ports(fields: Fields) -> tuple[tuple[PortRange, ...], bool]:
    """TCP ports, none is any of them; False when every port is of another protocol."""
    found: list[PortRange] = []
    items = fields.items("ports", empty=True)
    is_any = not items
    for item in items:
        inner = item.fields(("protocol", "port", "endPort"))
        protocol = inner.get("protocol")
        is_tcp = protocol is None or protocol.choice(_PROTOCOLS) == "TCP"
        port, end = inner.get("port"), inner.get("endPort")
        span = _range(port, end)
        if is_tcp and span is None:
            is_any = True
        elif is_tcp and span is not None:
            found.append(span)
    return (() if is_any else tuple(found)), is_any or bool(found)


def _range(port: Cursor | None, end: Cursor | None) -> PortRange | None:
    if port is None:
        if end is not None:
            end.problem("`endPort` stands without `port`", "write port: the first of the range")
        return None
    text = str(getattr(port.node, "text", ""))
    if text and not text.isdecimal():
        port.problem(f"{text!r} is a named port, services of a Swarm have none", "write its number")
        return PortRange(1, 1)
    first = port.integer(1, 65535)
    last = end.integer(1, 65535) if end is not None else first
    if last < first and end is not None:
        end.problem(f"{last} is below `port`", f"write {first} or more")
    return PortRange(first, max(first, last))
