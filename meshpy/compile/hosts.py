"""The directory of logical hosts: which name, seen from where, is which services.

A service is a host under its own name. A name that several services of a stack share (`meshpy.host: catalog`
on `catalog-v1` and `catalog-v2`) is a host of its own: the union of them, as a Kubernetes Service is to its
Deployments. A further name of one service alone is only another name of that service's host.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from meshpy.model.endpoint import Protocol
from meshpy.model.inventory import Inventory, Service
from meshpy.model.names import ServiceName, standard_hosts
from meshpy.policy.mesh_docs import ServiceEntryDoc

__all__ = ["Directory", "LogicalHost", "directory_of", "egress_hosts", "share_network"]

_CLUSTER_SUFFIXES = (".svc.cluster.local", ".svc")


@dataclass(frozen=True, slots=True)
class LogicalHost:
    """A destination by name.

    Args:
        namespace: empty for hosts outside the mesh.
        names: every short name that callers on a shared network use, lower case.
        services: sorted; empty for hosts outside the mesh.
        entry: the ServiceEntry that describes a host outside the mesh.
    """

    name: str
    namespace: str
    names: tuple[str, ...]
    services: tuple[ServiceName, ...] = ()
    ports: Mapping[int, Protocol] = field(default_factory=dict)
    entry: ServiceEntryDoc | None = None

    @property
    def label(self) -> str:
        """What logs, metrics and cluster names show: `catalog.shop`."""
        return f"{self.name}.{self.namespace}" if self.namespace else self.name

    @property
    def domains(self) -> tuple[str, ...]:
        """Authorities that mean this host, Istio's long forms included."""
        if not self.namespace:
            return self.names
        label = self.label.lower()
        return (*self.names, label, *(label + suffix for suffix in reversed(_CLUSTER_SUFFIXES)))

    @property
    def has_http(self) -> bool:
        return any(protocol.is_http for protocol in self.ports.values())


@dataclass(frozen=True, slots=True)
class Directory:
    """All logical hosts of an inventory.

    Invariant: `asked` remembers; nothing that is answered depends on it.
    """

    inventory: Inventory
    by_name: Mapping[tuple[str, str], LogicalHost]
    of_service: Mapping[ServiceName, tuple[LogicalHost, ...]]
    on_network: Mapping[str, tuple[ServiceName, ...]]
    namespaces: frozenset[str]
    labels: frozenset[str]
    asked: dict[tuple[str, str], LogicalHost | None] = field(default_factory=dict, compare=False)
    """Every answer of `resolve`: what a compilation took from names alone."""

    def resolve(self, host: str, namespace: str) -> LogicalHost | None:
        """A host as a document of `namespace` writes it."""
        key = (host, namespace)
        if key not in self.asked:
            self.asked[key] = self._resolved(host, namespace)
        return self.asked[key]

    def _resolved(self, host: str, namespace: str) -> LogicalHost | None:
        host = host.lower()
        found = self.by_name.get((namespace.lower(), host))
        if found is not None:
            return found
        for suffix in _CLUSTER_SUFFIXES:
            host = host.removesuffix(suffix)
        name, dot, other = host.rpartition(".")
        if dot and (found := self.by_name.get((other, name))):
            return found
        # the engine's own name `<stack>_<service>` is unique in the whole Swarm
        return self.by_name.get(("", host))

    def label_of(self, host: str, namespace: str) -> str:
        """The label that a document's host has, known or not: by it documents and hosts find each other."""
        found = self.resolve(host, namespace)
        return found.label if found is not None else host

    def reachable(self, service: Service) -> tuple[ServiceName, ...]:
        """Who shared an original network with it, itself included."""
        found = {name for network in service.networks for name in self.on_network.get(network, ())}
        return tuple(sorted(found))

    def visible_hosts(self, caller: Service) -> tuple[LogicalHost, ...]:
        """What the caller could name in the original topology: its own namespace first, itself left out."""
        reachable = set(self.reachable(caller)) - {caller.name}
        found = {host.label: host for name in reachable for host in self.of_service[name]}
        own = caller.name.namespace
        return tuple(sorted(found.values(), key=lambda h: (h.namespace != own, h.namespace, h.name)))


def share_network(one: Service, other: Service) -> bool:
    return not one.networks.isdisjoint(other.networks)


def egress_hosts(caller: Service) -> tuple[LogicalHost, ...]:
    """The hosts outside the mesh that the caller's sidecar may dial."""
    ports: dict[str, dict[int, Protocol]] = defaultdict(dict)
    for entry in caller.egress:
        ports[entry.host.lower()][entry.port] = entry.protocol
    return tuple(LogicalHost(name, "", (name,), (), known) for name, known in sorted(ports.items()))


def directory_of(inventory: Inventory) -> Directory:
    """Index an inventory."""
    claims: dict[tuple[str, str], set[ServiceName]] = defaultdict(set)
    for service in inventory.services.values():
        for alias in service.hosts:
            claims[service.name.namespace.lower(), alias.lower()].add(service.name)
    for name in inventory.services:
        key = (name.namespace.lower(), name.name.lower())
        if key in claims:
            claims[key].add(name)
    by_name: dict[tuple[str, str], LogicalHost] = {}
    of_service: dict[ServiceName, list[LogicalHost]] = defaultdict(list)
    networks: dict[str, list[ServiceName]] = defaultdict(list)
    for host in _hosts(inventory, claims):
        for known in host.names:
            by_name.setdefault((host.namespace.lower(), known), host)
        if len(host.services) == 1:
            by_name[("", host.services[0].swarm_name.lower())] = host
        for member in host.services:
            of_service[member].append(host)
    for name, service in sorted(inventory.services.items()):
        for network in service.networks:
            networks[network].append(name)
    return Directory(
        inventory,
        by_name,
        {name: tuple(found) for name, found in of_service.items()},
        {name: tuple(found) for name, found in networks.items()},
        frozenset(name.namespace for name in inventory.services),
        frozenset(host.label for host in by_name.values()),
    )


def _hosts(inventory: Inventory, claims: Mapping[tuple[str, str], set[ServiceName]]) -> Iterable[LogicalHost]:
    """Shared names first: where one is also a service's own name, it means all that share it."""
    shared = {key: members for key, members in claims.items() if len(members) > 1}
    for (_, alias), members in sorted(shared.items()):
        services = tuple(sorted(members))
        own = tuple(
            name for service in services if service.name.lower() == alias for name in standard_hosts(service)
        )
        names = dict.fromkeys((alias, f"tasks.{alias}", *(name.lower() for name in own)))
        yield LogicalHost(alias, services[0].namespace, tuple(names), services, _ports(inventory, services))
    for name, service in sorted(inventory.services.items()):
        if (name.namespace.lower(), name.name.lower()) in shared:
            continue
        aliases = [a.lower() for a in service.hosts if (name.namespace.lower(), a.lower()) not in shared]
        names = dict.fromkeys((*(host.lower() for host in standard_hosts(name)), *aliases))
        yield LogicalHost(name.name, name.namespace, tuple(names), (name,), _ports(inventory, (name,)))


def _ports(inventory: Inventory, services: Iterable[ServiceName]) -> dict[int, Protocol]:
    """The union; where services disagree on a protocol, the one of the first in name order."""
    ports: dict[int, Protocol] = {}
    for name in services:
        for port in inventory.services[name].ports:
            ports.setdefault(port.number, port.protocol)
    return dict(sorted(ports.items()))
