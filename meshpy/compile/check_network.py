"""Findings on network policies: tiers, selectors that pick nothing, rules that never meet a connection."""

from __future__ import annotations

from collections.abc import Iterator

from meshpy.compile.check_requests import check_open_requests
from meshpy.compile.findings import Notes, listed
from meshpy.compile.network import enforced
from meshpy.compile.selection import namespace_labels
from meshpy.compile.snapshot import Mesh
from meshpy.errors import Place
from meshpy.model.inventory import Service
from meshpy.policy.kinds import NetworkPolicyDoc, NetworkRuleDoc, PeerDoc, StagedAction
from meshpy.policy.selectors import And, Compare, Global, Selector, matches

__all__ = ["check_network_policies"]


def check_network_policies(mesh: Mesh, notes: Notes) -> None:
    """Check every policy of the network stage, enforced or staged."""
    held = {policy.target for policy in enforced(mesh.policies.network_policies)}
    tiers = {"default", *(document.meta.name for document in mesh.policies.tiers)}
    for policy in mesh.policies.network_policies:
        if policy.tier not in tiers:
            what = f"{policy.meta.title}: there is no tier {policy.tier!r}"
            notes.error(policy.tier_place, what, f"write one, or a Tier of that name; {listed(tiers)}")
        if policy.staged is StagedAction.DELETE:
            if policy.target not in held:
                kind, namespace, name = policy.target
                what = f"{policy.meta.title}: there is no {kind} {namespace}/{name} to delete".replace(
                    " /", " "
                )
                notes.warning(policy.meta.place, what, "correct its name, or remove it")
            continue
        selected = _selected(policy, mesh, notes)
        for rule in (*(policy.ingress or ()), *(policy.egress or ())):
            _check_rule(policy, rule, selected, mesh, notes)
    check_open_requests(mesh, notes)


def _selected(policy: NetworkPolicyDoc, mesh: Mesh, notes: Notes) -> tuple[Service, ...]:
    services, namespace = mesh.directory.inventory.services, policy.meta.namespace
    selected = tuple(
        services[name]
        for name in sorted(mesh.selection.in_stack(namespace))
        if not services[name].exempt and mesh.selection.applies_to(policy, name)
    )
    if selected:
        return selected
    if namespace and namespace not in mesh.directory.namespaces:
        what = f"{policy.meta.title}: the namespace {namespace} has no service"
        notes.warning(policy.meta.place, what, f"namespaces {listed(mesh.directory.namespaces)}")
    else:
        what = f"{policy.meta.title}: the selector {policy.selector.text!r} matches no service"
        instead = f"write a selector of labels that a service has; {listed([str(name) for name in services])}"
        notes.missing(_place(policy), what, instead, expected=bool(services))
    return ()


def _place(policy: NetworkPolicyDoc) -> Place:
    return policy.selector.place


def _check_rule(
    policy: NetworkPolicyDoc,
    rule: NetworkRuleDoc,
    selected: tuple[Service, ...],
    mesh: Mesh,
    notes: Notes,
) -> None:
    if not rule.is_tcp:
        what = f"{policy.meta.title}: the mesh carries TCP only, this rule never meets a connection"
        notes.warning(rule.place, what, "remove the rule, or write protocol: TCP")
        return
    for peer in (rule.source, rule.destination):
        _check_peer(policy, peer, mesh, notes)
    if rule.http is not None:
        for service in selected:
            if service.ports and not any(port.protocol.is_http for port in service.ports):
                what = f"{policy.meta.title}: {service.name} has opaque ports only, `http` never holds there"
                notes.error(rule.place, what, "declare http in meshpy.ports, or select other services")


def _check_peer(policy: NetworkPolicyDoc, peer: PeerDoc, mesh: Mesh, notes: Notes) -> None:
    directory, namespace = mesh.directory, policy.meta.namespace
    if peer.service is not None:
        ref = peer.service
        scope = ref.namespace or namespace or "default"
        if directory.resolve(ref.name, scope) is None:
            what = f"there is no service {scope}/{ref.name}"
            names = [str(name) for name in directory.inventory.services]
            notes.missing(ref.place, what, listed(names), expected=scope in directory.namespaces)
        return
    meant = mesh.selection.peer(peer, namespace)
    if not peer.picks_workloads or meant.services or meant.services is None or meant.set_nets:
        return
    chooser = peer.selector or peer.namespace_selector or peer.account_selector or peer.not_selector
    place, text = (chooser.place, chooser.text) if chooser is not None else (peer.place, "serviceAccounts")
    if chooser is not None and isinstance(chooser.selector, Global):
        notes.warning(
            place, "global() matches nothing: no GlobalNetworkSet is picked", "write one, or remove it"
        )
        return
    scope = f" in namespace {namespace}" if namespace and peer.namespace_selector is None else ""
    what = f"{policy.meta.title}: {text!r} matches no service{scope} and no network set"
    names = [str(name) for name in directory.inventory.services]
    instead = f"write labels that a service has; services {listed(names)}"
    if scope and peer.takes_sets:
        instead = f"correct it, or add namespaceSelector: all(); namespaces {listed(directory.namespaces)}"
    is_known = (not namespace or namespace in directory.namespaces) and _means_known_stack(peer, mesh)
    notes.missing(place, what, instead, expected=is_known and bool(directory.inventory.services))


def _means_known_stack(peer: PeerDoc, mesh: Mesh) -> bool:
    """False where the peer is of stacks that are not there (yet): `kube-system`, or one deployed later."""
    spaces = peer.namespace_selector
    if spaces is not None and not any(
        matches(spaces.selector, namespace_labels(stack)) for stack in mesh.directory.namespaces
    ):
        return False
    named = [] if peer.selector is None else list(_named_stacks(peer.selector.selector))
    return not named or any(stack in mesh.directory.namespaces for stack in named)


def _named_stacks(selector: Selector) -> Iterator[str]:
    """The stack that a selector wants by name, as Cilium's do."""
    match selector:
        case And(parts):
            for part in parts:
                yield from _named_stacks(part)
        case Compare("projectcalico.org/namespace", "==", value):
            yield value
