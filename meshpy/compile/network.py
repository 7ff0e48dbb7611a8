"""Network policies -> the tiers of one workload, ingress and egress, in force and pending.

Kubernetes' and Cilium's policies stand in the tier `default` at order 1000 (their readers put them there).
Among policies of one order what Cilium denies comes first, whichever policy says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

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
from meshpy.policy.kinds import NetworkPolicyDoc, NetworkRuleDoc, PeerDoc, RulePhase, StagedAction, TierDoc

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
    mine = selection.policies_of(every, workload)
    now = _both(enforced(mine), policies.tiers, selection, workload)
    if all(policy.staged is None for policy in every):
        return Stages(*now, None)
    replaced = {policy.target for policy in every if policy.staged not in (None, StagedAction.IGNORE)}
    after = _both(
        (policy for policy in staged(mine) if policy.staged or policy.target not in replaced),
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
    direction = "ingress" if is_ingress else "egress"
    tiers = []
    for name in sorted(by_tier, key=lambda name: (_tier_order(name, documents), name)):
        pieces = sorted(
            (piece for policy in by_tier[name] for piece in _pieces(policy, selection, workload, direction)),
            key=lambda piece: piece[0],
        )
        action = documents[name].default_action if name in documents else NetworkAction.DENY
        if all(direction in policy.passive for policy in by_tier[name]):
            action = NetworkAction.PASS
        tiers.append(Tier(name, tuple(policy for _, policy in pieces), action))
    return tuple(tiers)


def _tier_order(name: str, documents: Mapping[str, TierDoc]) -> float:
    if name in documents and documents[name].order is not None:
        return documents[name].order or 0.0
    return DEFAULT_TIER_ORDER if name == "default" else math.inf


_Order: TypeAlias = tuple[float, int, str, str, str]


def _pieces(
    policy: NetworkPolicyDoc, selection: Selection, workload: ServiceName, direction: str
) -> Iterator[tuple[_Order, NetworkPolicy]]:
    """A policy by the phases of its rules, each with where it stands in its tier.

    Without an order it is last; ties go by name, by namespace, by kind.
    """
    is_ingress = direction == "ingress"
    rules = (policy.ingress if is_ingress else policy.egress) or ()
    phases: dict[RulePhase, list[NetworkRule]] = {rule.phase: [] for rule in rules} or {RulePhase.ALLOW: []}
    for index, rule in enumerate(rules):
        name = rule.name or f"{direction}[{index}]"
        found = _rule(name, rule, policy, selection, workload, is_ingress=is_ingress)
        if found is not None:
            phases[rule.phase].append(found)
    order = math.inf if policy.order is None else policy.order
    meta = policy.meta
    for phase, members in phases.items():
        place = math.inf if phase is RulePhase.REST else order
        yield (place, phase, meta.name, meta.namespace, meta.kind), NetworkPolicy(meta.title, tuple(members))


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
