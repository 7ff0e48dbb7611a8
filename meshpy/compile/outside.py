"""Hosts outside the mesh: what a service's stack file lets it call, and what ServiceEntries say of them.

`meshpy.egress` gives an app the name: its sidecar answers to it. A ServiceEntry says how the host is reached,
and makes it a destination of routes. An entry of another stack never changes where a name leads that a stack
calls itself (ISTIO-SECURITY-2026-002).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from meshpy.compile.hosts import LogicalHost, egress_hosts
from meshpy.model.endpoint import Cluster, Endpoint, Transport
from meshpy.model.inventory import Service
from meshpy.model.names import ROOT_NAMESPACE
from meshpy.policy.mesh_docs import EntryEndpoint, EntryPort, ServiceEntryDoc

__all__ = ["entries_seen", "named_hosts", "outside_cluster", "outside_hosts"]


def entries_seen(entries: Iterable[ServiceEntryDoc], namespace: str) -> dict[str, ServiceEntryDoc]:
    """By host the entry that counts for a stack: its own, else the root's, else another's; ties by name."""
    rank = {ROOT_NAMESPACE: 1, namespace: 0}
    seen = [entry for entry in entries if entry.is_visible(namespace)]
    seen.sort(key=lambda e: (rank.get(e.meta.namespace, 2), e.meta.namespace, e.meta.name))
    found: dict[str, ServiceEntryDoc] = {}
    for entry in seen:
        for ref in entry.hosts:
            found.setdefault(ref.host, entry)
    return found


def named_hosts(caller: Service, entries: Mapping[str, ServiceEntryDoc]) -> tuple[LogicalHost, ...]:
    """The hosts that the caller's app can name, each with the entry that describes it."""
    trusted = (caller.name.namespace, ROOT_NAMESPACE)
    found = []
    for host in egress_hosts(caller):
        entry = entries.get(host.name)
        if entry is not None and entry.meta.namespace in trusted:
            host = replace(host, entry=entry)  # noqa: PLW2901 - the same host, described
        found.append(host)
    return tuple(found)


def outside_hosts(caller: Service, entries: Mapping[str, ServiceEntryDoc]) -> dict[str, LogicalHost]:
    """Every host outside the mesh that the caller's routes may lead to."""
    described = {
        name: LogicalHost(name, "", (name,), (), {p.number: p.protocol for p in entry.ports}, entry)
        for name, entry in entries.items()
    }
    for host in named_hosts(caller, entries):
        known = described.get(host.name)
        more = known.ports if known is not None and host.entry is known.entry else {}
        described[host.name] = replace(host, ports={**more, **host.ports})
    return described


def outside_cluster(
    cluster: Cluster, host: LogicalHost, port: int, labels: Mapping[str, str], caller: Service
) -> Cluster:
    """Where a host is dialled: at its endpoints, or where its name leads.

    Args:
        labels: of the subset that is asked for; empty asks for every endpoint.
    """
    plain = replace(cluster, transport=Transport.PLAIN)
    found = caller.outside.get(host.name, ())
    if host.entry is None:
        return _named(plain, host.name, port, found)
    known = next((item for item in host.entry.ports if item.number == port), None)
    target = known.target if known is not None else port
    if not host.entry.endpoints:
        return _named(plain, host.name, target, found)
    chosen = [each for each in host.entry.endpoints if labels.items() <= each.labels.items()]
    named = next((each for each in chosen if each.is_name), None)
    if named is not None:
        return replace(plain, dns=named.address, dns_port=_port_at(named, known, target))
    endpoints = (Endpoint(each.address, _port_at(each, known, target)) for each in chosen)
    return replace(plain, endpoints=tuple(sorted(endpoints, key=lambda e: (e.address, e.port))))


def _named(cluster: Cluster, name: str, port: int, found: Iterable[str]) -> Cluster:
    """Where its name leads; with the addresses that were found for it elsewhere."""
    endpoints = tuple(Endpoint(address, port) for address in found)
    return replace(cluster, dns=name, dns_port=port, endpoints=endpoints)


def _port_at(endpoint: EntryEndpoint, port: EntryPort | None, target: int) -> int:
    return endpoint.ports.get(port.name, target) if port is not None else target
