"""Compiling again after a change: only the workloads that it can concern.

A snapshot depends on its own service, on the services that share a network with it, on the policies, and on
what policies name elsewhere. The last is known from the answers that the compilation before was given
(`Directory.asked`, `Selection.answers`): while every one of them would be the same now, a workload that
shares no network with what changed keeps its snapshot. Where one differs, or a policy changed that may
concern anybody, all are compiled.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from meshpy.compile.hosts import Directory
from meshpy.compile.snapshot import Mesh, compile_with_clashes
from meshpy.errors import Problem
from meshpy.model.inventory import Inventory, Service
from meshpy.model.names import ROOT_NAMESPACE, ServiceName
from meshpy.model.snapshot import Snapshot
from meshpy.policy import Document, PolicySet

__all__ = ["Compilation", "Inputs", "compile_changed"]

OWN_NAMESPACE = frozenset(
    {"AuthorizationPolicy", "PeerAuthentication", "RequestAuthentication", "NetworkPolicy"}
    | {"StagedNetworkPolicy", "StagedKubernetesNetworkPolicy", "CiliumNetworkPolicy"}
)
"""Kinds that decide for workloads of their own namespace alone, unless that is the root."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a compilation is made of, the revision's number aside."""

    inventory: Inventory
    policies: PolicySet
    trust_domain: str
    denied: frozenset[str]
    keys: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Compilation:
    """What the next one begins with.

    Args:
        leads_to: workload → labels of the hosts that its clusters lead to.
        clashes: workload → what its listeners cannot tell apart.
    """

    inputs: Inputs
    mesh: Mesh
    leads_to: Mapping[ServiceName, frozenset[str]]
    clashes: Mapping[ServiceName, tuple[Problem, ...]]


def compile_changed(
    before: Compilation | None, inputs: Inputs, *, revision: int
) -> tuple[Compilation, Mapping[ServiceName, Snapshot]]:
    """The snapshots that may differ from those of `before`, the revision's number aside; all without it."""
    services = inputs.inventory.services
    meshed = {name for name, service in services.items() if not service.exempt}
    mesh, concerned = _concerned(before, inputs)
    names = meshed if before is None or concerned is None else concerned & meshed
    compiled = {
        name: compile_with_clashes(
            mesh,
            services[name],
            trust_domain=inputs.trust_domain,
            revision=revision,
            denied=inputs.denied,
        )
        for name in sorted(names)
    }
    snapshots = {name: snapshot for name, (snapshot, _) in compiled.items()}
    kept = meshed - compiled.keys() if before is not None else set()
    leads_to = {name: before.leads_to[name] for name in kept} if before is not None else {}
    clashes = {name: before.clashes[name] for name in kept} if before is not None else {}
    leads_to |= {name: _labels(snapshot) for name, snapshot in snapshots.items()}
    clashes |= {name: found for name, (_, found) in compiled.items()}
    return Compilation(inputs, mesh, leads_to, clashes), snapshots


def _labels(snapshot: Snapshot) -> frozenset[str]:
    """`outbound|8080|v1|catalog.shop` leads to `catalog.shop`."""
    return frozenset(name.split("|", 3)[3] for name in snapshot.clusters)


def _concerned(before: Compilation | None, inputs: Inputs) -> tuple[Mesh, set[ServiceName] | None]:
    """What all share now, and whom the change can concern; None is everybody."""
    if before is None or _fixed(before.inputs) != _fixed(inputs):
        return _mesh_of(inputs), None
    old, new = before.inputs.inventory.services, inputs.inventory.services
    moved = {name for name in old.keys() & new.keys() if old[name] is not new[name] != old[name]}
    shaped = {name for name in moved if not _differ_in_endpoints_alone(old[name], new[name])}
    shaped |= old.keys() ^ new.keys()
    by_policy = _by_policy(before.inputs.policies, inputs.policies, new)
    if not shaped and before.inputs.policies is inputs.policies:
        directory = replace(before.mesh.directory, inventory=inputs.inventory)
        return replace(before.mesh, directory=directory), moved | _callers(before, moved)
    mesh = _mesh_of(inputs)
    shaped = _with_renamed(shaped, before.mesh.directory, mesh.directory)
    if by_policy is None or not _same_answers(before.mesh, mesh, shaped):
        return mesh, None
    mesh.directory.asked.update(before.mesh.directory.asked)
    mesh.selection.answers.update(before.mesh.selection.answers)
    near = _neighbours(shaped, before.mesh.directory) | _neighbours(shaped, mesh.directory)
    gateways = _gateways(shaped, old) | _gateways(shaped, new)
    return mesh, by_policy | shaped | near | moved | gateways | _callers(before, moved)


def _fixed(inputs: Inputs) -> tuple[object, ...]:
    return inputs.trust_domain, inputs.denied, inputs.keys, inputs.inventory.localities


def _mesh_of(inputs: Inputs) -> Mesh:
    return Mesh.of(inputs.inventory, inputs.policies, inputs.keys)


def _differ_in_endpoints_alone(old: Service, new: Service) -> bool:
    return replace(old, endpoints=new.endpoints, outside=new.outside) == new


def _callers(before: Compilation, moved: Collection[ServiceName]) -> set[ServiceName]:
    hosts = before.mesh.directory.of_service
    labels = {host.label for name in moved for host in hosts.get(name, ())}
    return {name for name, to in before.leads_to.items() if not labels.isdisjoint(to)} if labels else set()


def _gateways(names: Iterable[ServiceName], services: Mapping[ServiceName, Service]) -> set[ServiceName]:
    """Egress gateways that these services use: what they may reach stands in the gateway's own snapshot."""
    return {gateway for name in names if name in services and (gateway := services[name].gateway) is not None}


def _with_renamed(shaped: set[ServiceName], old: Directory, new: Directory) -> set[ServiceName]:
    """And those whose host is another one now: a name that two services share is a host of both."""
    hosts = old.of_service
    return shaped | {name for name, found in new.of_service.items() if hosts.get(name) != found}


def _neighbours(names: Iterable[ServiceName], directory: Directory) -> set[ServiceName]:
    services = directory.inventory.services
    networks = {network for name in names if name in services for network in services[name].networks}
    return {name for network in networks for name in directory.on_network.get(network, ())}


def _same_answers(old: Mesh, new: Mesh, shaped: set[ServiceName]) -> bool:
    """Whether policies mean now what they meant, whichever services they name."""
    if not shaped:
        return True
    for (host, namespace), found in tuple(old.directory.asked.items()):
        if new.directory.resolve(host, namespace) != found:
            return False
        if found is not None and not shaped.isdisjoint(found.services):
            return False
    asked = tuple(old.selection.answers.items())
    return all(new.selection.peer(peer, namespace) == found for (peer, namespace), found in asked)


def _by_policy(old: PolicySet, new: PolicySet, services: Iterable[ServiceName]) -> set[ServiceName] | None:
    """The workloads that the changed policies can concern."""
    if old is new:
        return set()
    before, after = _by_namespace(old.documents), _by_namespace(new.documents)
    spaces = {space for space in before.keys() | after.keys() if before.get(space) != after.get(space)}
    if "" in spaces:
        return None
    return {name for name in services if name.namespace in spaces}


def _by_namespace(documents: Iterable[Document]) -> dict[str, list[tuple[object, str]]]:
    """The documents in their order, by the namespace that they decide for; "" is every one."""
    found: dict[str, list[tuple[object, str]]] = {}
    for each in documents:
        is_own = each.kind in OWN_NAMESPACE and each.namespace != ROOT_NAMESPACE
        found.setdefault(each.namespace if is_own else "", []).append((each.identity, each.text))
    return found
