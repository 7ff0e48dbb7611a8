"""A finding on Cilium's policies: requests that a rule limits and another rule allows without a look.

Cilium adds rules up, so an L4 rule for the same peers and port leaves an L7 rule without effect. That is its
documented meaning and is kept; it is said, because nobody writes a limit to have none.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from meshpy.compile.findings import Notes
from meshpy.compile.snapshot import Mesh
from meshpy.model.authz import NetworkAction, PeerMatch, PortRange
from meshpy.policy.kinds import NetworkPolicyDoc, NetworkRuleDoc
from meshpy.policy.kubernetes import KUBERNETES_ORDER

__all__ = ["check_open_requests"]


@dataclass(frozen=True, slots=True)
class _Allowed:
    policy: NetworkPolicyDoc
    rule: NetworkRuleDoc
    peer: PeerMatch

    @property
    def ports(self) -> tuple[PortRange, ...]:
        return self.rule.destination.ports


def check_open_requests(mesh: Mesh, notes: Notes) -> None:
    """Name each rule with requests whose peers and port another rule allows whole."""
    policies = [p for p in mesh.policies.network_policies if _adds_up(p)]
    for is_ingress in (True, False):
        allowed = [item for policy in policies for item in _allow_rules(policy, mesh, is_ingress)]
        limited = [item for item in allowed if item.rule.http is not None]
        whole = [item for item in allowed if item.rule.http is None]
        for item in limited:
            for other in whole:
                if _overlap(item, other) and _select_together(item.policy, other.policy, mesh):
                    titles = item.policy.meta.title, other.policy.meta.title
                    what = f"{titles[0]} limits requests that {titles[1]} allows whole"
                    instead = f"remove {other.rule.name} there, or write its requests; rules add up"
                    notes.warning(item.rule.place, what, instead)
                    break


def _adds_up(policy: NetworkPolicyDoc) -> bool:
    """Kubernetes' and Cilium's, of which Cilium makes one set."""
    return policy.meta.kind.startswith(("Cilium", "NetworkPolicy.")) and policy.order == KUBERNETES_ORDER


def _allow_rules(policy: NetworkPolicyDoc, mesh: Mesh, is_ingress: bool) -> Iterator[_Allowed]:
    for rule in (policy.ingress if is_ingress else policy.egress) or ():
        if rule.action is NetworkAction.ALLOW and rule.is_tcp:
            peer = rule.source if is_ingress else rule.destination
            yield _Allowed(policy, rule, mesh.selection.peer(peer, policy.meta.namespace))


def _overlap(one: _Allowed, other: _Allowed) -> bool:
    """Some peer and port belongs to both; CIDRs and names are taken to differ."""
    if any(peer.nets is not None or peer.domains is not None for peer in (one.peer, other.peer)):
        return False
    mine, theirs = one.peer.services, other.peer.services
    if mine is not None and theirs is not None and mine.isdisjoint(theirs):
        return False
    if (mine is None) is not (theirs is None) and (one.peer.not_services or other.peer.not_services):
        return False
    return (
        not one.ports
        or not other.ports
        or any(a.first <= b.last and b.first <= a.last for a in one.ports for b in other.ports)
    )


def _select_together(one: NetworkPolicyDoc, other: NetworkPolicyDoc, mesh: Mesh) -> bool:
    applies = mesh.selection.applies_to
    services = mesh.directory.inventory.services
    return any(applies(one, name) and applies(other, name) for name in services)
