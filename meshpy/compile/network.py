"""Network policies -> the tiers of one workload, ingress and egress, in force and pending.

Kubernetes' NetworkPolicies stand in the tier `default` at order 1000 (their reader puts them there).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from meshpy.compile.selection import Selection
from meshpy.model.authz import (
    NetworkAction,
    NetworkPolicy,
    NetworkRule,
    PeerMatch,
    Pending,
    PortRange,
    Tier,
)
from meshpy.model.names import ServiceName
from meshpy.policy import PolicySet
from meshpy.policy.kinds import NetworkPolicyDoc, NetworkRuleDoc, PeerDoc, StagedAction, TierDoc

__all__ = ["DEFAULT_TIER_ORDER", "Stages", "enforced", "staged", "stages_for"]

DEFAULT_TIER_ORDER = 1_000_000.0
"""Calico's own order of the tier `default`."""


@dataclass(frozen=True, slots=True)
class Stages:
    """The network stage of one workload; `pending` is None when staged policies change nothing for it."""

    ingress: tuple[Tier, ...]
    egress: tuple[Tier, ...]
    pending: Pending | None


def enforced(policies: Iterable[NetworkPolicyDoc]) -> tuple[NetworkPolicyDoc, ...]:
    """Those that decide."""
    return tuple(policy for policy in policies if policy.staged is None)


def staged(policies: Iterable[NetworkPolicyDoc]) -> tuple[NetworkPolicyDoc, ...]:
    """All as they would be with the staged ones in force.

    Set and Learn put a policy in the place of the enforced one of its name, Delete takes that away, Ignore is
    kept for later and judged nowhere.
    """
    known = tuple(policies)
    active = {p.target: p for p in known if p.staged not in (None, StagedAction.IGNORE)}
    new = tuple(policy for policy in active.values() if policy.staged is not StagedAction.DELETE)
    return (*(policy for policy in enforced(known) if policy.target not in active), *new)


def stages_for(policies: PolicySet, selection: Selection, workload: ServiceName) -> Stages:
    """The tiers that apply to a workload, in both directions."""
    every = policies.network_policies
    mine = tuple(policy for policy in every if selection.applies_to(policy, workload))
    now = _both(enforced(mine), policies.tiers, selection, workload)
    if all(policy.staged is None for policy in every):
        return Stages(*now, None)
    next_ones = {policy.meta.title for policy in staged(every)}
    after = _both(
        tuple(policy for policy in mine if policy.meta.title in next_ones),
        policies.tiers,
        selection,
        workload,
    )
    return Stages(*now, None if after == now else Pending(*after))


def _both(
    policies: Iterable[NetworkPolicyDoc],
    tiers: Iterable[TierDoc],
    selection: Selection,
    workload: ServiceName,
) -> tuple[tuple[Tier, ...], tuple[Tier, ...]]:
    documents = {document.meta.name: document for document in tiers}
    found = tuple(policies)
    return (
        _tiers(found, documents, selection, workload, is_ingress=True),
        _tiers(found, documents, selection, workload, is_ingress=False),
    )


def _tiers(
    policies: Iterable[NetworkPolicyDoc],
    documents: Mapping[str, TierDoc],
    selection: Selection,
    workload: ServiceName,
    *,
    is_ingress: bool,
) -> tuple[Tier, ...]:
    """The tiers with a policy that applies in this direction, in the order in which they are asked."""
    by_tier: dict[str, list[NetworkPolicyDoc]] = {}
    for policy in policies:
        if (policy.ingress if is_ingress else policy.egress) is not None:
            by_tier.setdefault(policy.tier, []).append(policy)
    names = sorted(by_tier, key=lambda name: (_tier_order(name, documents), name))
    return tuple(
        Tier(
            name,
            tuple(
                _policy(policy, selection, workload, is_ingress=is_ingress)
                for policy in sorted(by_tier[name], key=_policy_order)
            ),
            documents[name].default_action if name in documents else NetworkAction.DENY,
        )
        for name in names
    )


def _tier_order(name: str, documents: Mapping[str, TierDoc]) -> float:
    if name in documents and documents[name].order is not None:
        return documents[name].order or 0.0
    return DEFAULT_TIER_ORDER if name == "default" else math.inf


def _policy_order(policy: NetworkPolicyDoc) -> tuple[float, str, str]:
    """Without an order last; ties by name, then by namespace."""
    order = math.inf if policy.order is None else policy.order
    return order, policy.meta.name, policy.meta.namespace


def _policy(
    policy: NetworkPolicyDoc, selection: Selection, workload: ServiceName, *, is_ingress: bool
) -> NetworkPolicy:
    rules = (policy.ingress if is_ingress else policy.egress) or ()
    direction = "ingress" if is_ingress else "egress"
    compiled = (
        _rule(rule.name or f"{direction}[{index}]", rule, policy, selection, workload, is_ingress=is_ingress)
        for index, rule in enumerate(rules)
    )
    return NetworkPolicy(policy.meta.title, tuple(rule for rule in compiled if rule is not None))


def _rule(
    name: str,
    rule: NetworkRuleDoc,
    policy: NetworkPolicyDoc,
    selection: Selection,
    workload: ServiceName,
    *,
    is_ingress: bool,
) -> NetworkRule | None:
    """None for a rule that can never meet a connection of this workload."""
    own, other = (rule.destination, rule.source) if is_ingress else (rule.source, rule.destination)
    namespace = policy.meta.namespace
    if not rule.is_tcp or not _holds_for(selection.peer(own, namespace), workload):
        return None
    ports = rule.destination.ports
    if not is_ingress and other.service is not None:
        ports = _service_ports(other, selection, namespace)
    return NetworkRule(
        name, rule.action, selection.peer(other, namespace), ports, rule.destination.not_ports, rule.http
    )


def _holds_for(own: PeerMatch, workload: ServiceName) -> bool:
    if own.services is not None and workload not in own.services:
        return False
    return own.not_services is None or workload not in own.not_services


def _service_ports(peer: PeerDoc, selection: Selection, namespace: str) -> tuple[PortRange, ...]:
    """`services` means a service's endpoints and its ports."""
    ref = peer.service
    if ref is None:
        return ()
    host = selection.directory.resolve(ref.name, ref.namespace or namespace or "default")
    return tuple(PortRange(port, port) for port in host.ports) if host is not None else ()
