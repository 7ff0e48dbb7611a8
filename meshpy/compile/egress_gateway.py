"""Egress gateways: how callers' clusters lead through one, and what the gateway itself lets whom reach."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from meshpy.compile.hosts import LogicalHost
from meshpy.compile.network import stages_for
from meshpy.compile.outside import entries_seen, outside_hosts
from meshpy.compile.selection import Selection
from meshpy.model.authz import Authorization
from meshpy.model.endpoint import Cluster, Endpoint, Protocol, Transport
from meshpy.model.gateway import GatewayGrant, outside_sni
from meshpy.model.inventory import Inventory, Service
from meshpy.model.names import ServiceName
from meshpy.model.snapshot import MESH_PORT
from meshpy.policy import PolicySet
from meshpy.policy.mesh_docs import ServiceEntryDoc

__all__ = ["egress_rules_of", "gateway_cluster", "grants_of", "through_gateway"]


def _gateway_of(caller: Service, inventory: Inventory) -> Service | None:
    """Its gateway, where that is one: an ordinary service of that name gets nothing."""
    found = inventory.services.get(caller.gateway) if caller.gateway is not None else None
    return found if found is not None and found.is_gateway else None


def through_gateway(cluster: Cluster, host: str, port: int, caller: Service, inventory: Inventory) -> Cluster:
    """A cluster of a host outside, reached by way of the caller's gateway where it has one.

    The addresses of the host itself are kept for the caller's own egress rules. A gateway that is not there
    leaves the cluster empty: nothing goes out another way.
    """
    if caller.gateway is None:
        return cluster
    gateway = _gateway_of(caller, inventory)
    addresses = {each.address for each in cluster.endpoints}
    return replace(
        cluster,
        transport=Transport.GATEWAY,
        endpoints=_endpoints(gateway),
        dns="",
        dns_port=0,
        sni=outside_sni(host, port),
        stands_for=tuple(sorted(addresses)),
        pool=replace(cluster.pool, h2_upgrade=False),
        outlier=None,
        health_check=None,
        proxy_protocol=0,
    )


def gateway_cluster(caller: Service, inventory: Inventory) -> Cluster | None:
    """The gateway by itself, for what only a connection of the app names; None where it has none."""
    if caller.gateway is None:
        return None
    name = f"outbound|{MESH_PORT}||{caller.gateway.name}.{caller.gateway.namespace}"
    gateway = _gateway_of(caller, inventory)
    return Cluster(name, Protocol.TCP, Transport.GATEWAY, endpoints=_endpoints(gateway))


def _endpoints(gateway: Service | None) -> tuple[Endpoint, ...]:
    if gateway is None:
        return ()
    found = (replace(each, workload=each.workload or gateway.name) for each in gateway.endpoints)
    return tuple(sorted(found, key=lambda each: each.address))


def grants_of(
    gateway: Service, inventory: Inventory, entries: Iterable[ServiceEntryDoc]
) -> tuple[GatewayGrant, ...]:
    """Everything that the services which name this gateway may reach through it."""
    callers: dict[tuple[str, int, tuple[tuple[str, int], ...]], set[ServiceName]] = defaultdict(set)
    known = tuple(entries)
    for name, service in inventory.services.items():
        if service.gateway != gateway.name or service.exempt:
            continue
        seen = entries_seen(known, name.namespace)
        for grant in _grants(service, outside_hosts(service, seen)):
            callers[grant].add(name)
    return tuple(
        GatewayGrant(host, port, frozenset(names), dial)
        for (host, port, dial), names in sorted(callers.items())
    )


def _grants(
    service: Service, hosts: Mapping[str, LogicalHost]
) -> Iterator[tuple[str, int, tuple[tuple[str, int], ...]]]:
    if service.outbound == "ALLOW_ANY":
        yield "*", 0, ()
    for pattern in service.patterns:
        host, _, port = pattern.rpartition(":")
        yield host, int(port), ()
    for each in hosts.values():
        for number in each.ports:
            yield each.name.lower(), number, _dial(each, number)


def egress_rules_of(
    callers: Iterable[ServiceName], policies: PolicySet, selection: Selection
) -> Mapping[str, Authorization]:
    """The egress tiers of those callers that have any: the gateway knows the addresses that it dials."""
    tiers = {name: stages_for(policies, selection, name).egress for name in sorted(callers)}
    return {str(name): Authorization(egress=found) for name, found in tiers.items() if found}


def _dial(host: LogicalHost, port: int) -> tuple[tuple[str, int], ...]:
    """Where a ServiceEntry says that the host is; empty: where its name leads."""
    if host.entry is None:
        return ()
    known = next((item for item in host.entry.ports if item.number == port), None)
    target = known.target if known is not None else port
    found = tuple(
        (each.address, each.ports.get(known.name, target) if known is not None else target)
        for each in host.entry.endpoints
    )
    return found or (((host.name, target),) if target != port else ())
