"""The whole compilation: inventory + policies -> one snapshot per workload."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from meshpy.compile.authentication import jwt_rules_for
from meshpy.compile.authorization import authorization_for, plain_ports
from meshpy.compile.clusters import ClusterTable, RuleIndex, inbound_cluster, rule_index
from meshpy.compile.documents import DocumentIndex, document_index
from meshpy.compile.egress_gateway import egress_rules_of, gateway_cluster, grants_of
from meshpy.compile.gateway import GatewayIndex, gateway_index
from meshpy.compile.hosts import Directory, directory_of
from meshpy.compile.ingress import gateway_routes, gateway_servers
from meshpy.compile.listeners import Listeners, listeners_of, routed_hosts
from meshpy.compile.mtls import strict_ports
from meshpy.compile.outside import entries_seen, named_hosts, outside_hosts
from meshpy.compile.providers import providers_for
from meshpy.compile.rate_limits import rate_limits_of
from meshpy.compile.routes import RouteTable
from meshpy.compile.selection import Selection
from meshpy.compile.telemetry import telemetry_of
from meshpy.compile.tunnels import connect_ports
from meshpy.errors import Problem
from meshpy.model.endpoint import Cluster, inbound_name
from meshpy.model.gateway import GatewayGrant
from meshpy.model.ingress import IngressServer
from meshpy.model.inventory import Inventory, Service
from meshpy.model.names import ServiceName
from meshpy.model.snapshot import InboundPort, OutboundListener, Snapshot, Workload
from meshpy.policy import PolicySet
from meshpy.wire import encode, version_of

__all__ = ["Mesh", "compile_mesh", "compile_with_clashes", "compile_workload", "outbound_of"]


@dataclass(frozen=True, slots=True)
class Mesh:
    """What all workloads of one compilation share: indices over the inventory."""

    directory: Directory
    policies: PolicySet
    selection: Selection
    documents: DocumentIndex
    rules: RuleIndex
    keys: Mapping[str, str] = field(default_factory=dict)
    gateway: GatewayIndex = field(default_factory=GatewayIndex)
    tunnels: Mapping[ServiceName, frozenset[int]] = field(default_factory=dict)

    @classmethod
    def of(cls, inventory: Inventory, policies: PolicySet, keys: Mapping[str, str] | None = None) -> Mesh:
        directory = directory_of(inventory)
        return cls(
            directory,
            policies,
            Selection(directory, policies.network_sets),
            document_index(policies.virtual_services, directory),
            rule_index(policies.destination_rules, directory),
            keys or {},
            gateway_index(policies.gateway_routes, policies.reference_grants, directory),
            connect_ports(policies, directory),
        )


def compile_mesh(
    inventory: Inventory,
    policies: PolicySet,
    *,
    trust_domain: str,
    revision: int,
    denied: frozenset[str] = frozenset(),
    keys: Mapping[str, str] | None = None,
) -> Mapping[ServiceName, Snapshot]:
    """A snapshot for every meshed service.

    It never fails: what `check` would call an error becomes an empty cluster or an absent listener, so that
    an inventory that changes under a good policy closes what it must and nothing else.

    Args:
        denied: SPIFFE ids that every sidecar refuses.
        keys: URI -> key set of a token issuer, as fetched.
    """
    mesh = Mesh.of(inventory, policies, keys)
    workloads = (service for _, service in sorted(inventory.services.items()) if not service.exempt)
    compiled = (
        compile_workload(mesh, service, trust_domain=trust_domain, revision=revision, denied=denied)
        for service in workloads
    )
    return {each.workload.name: replace(each, version=version_of(encode(each))) for each in compiled}


def compile_workload(
    mesh: Mesh,
    service: Service,
    *,
    trust_domain: str,
    revision: int,
    denied: frozenset[str] = frozenset(),
) -> Snapshot:
    """The snapshot of one workload, without its version; its size depends on what it can reach alone."""
    found = compile_with_clashes(mesh, service, trust_domain=trust_domain, revision=revision, denied=denied)
    return found[0]


def compile_with_clashes(
    mesh: Mesh,
    service: Service,
    *,
    trust_domain: str,
    revision: int,
    denied: frozenset[str] = frozenset(),
) -> tuple[Snapshot, tuple[Problem, ...]]:
    """As `compile_workload`, with what its listeners cannot tell apart."""
    listeners, clusters = outbound_of(mesh, service)
    exposed = plain_ports(service, mesh.directory)
    authorization = replace(
        authorization_for(service, mesh.policies, mesh.selection, trust_domain),
        strict=strict_ports(service, mesh.policies, mesh.selection),
    )
    grants = _grants_of(mesh, service)
    known = frozenset(name for grant in grants for name in grant.callers)
    if service.is_gateway:
        authorization = replace(authorization, baseline=known)
    own_gateway = gateway_cluster(service, mesh.directory.inventory)
    if own_gateway is not None:
        clusters[own_gateway.name] = own_gateway
    table = ClusterTable(mesh.directory, mesh.rules, service, clusters)
    servers = (*service.servers, *gateway_servers(service, mesh.policies.gateways))
    edge, led = _edge_of(mesh, service, servers)
    clusters |= led
    providers = providers_for(authorization, mesh.policies, mesh.directory, table)
    for port in service.ports:
        clusters[inbound_name(port.number)] = inbound_cluster(service, port.number, port.protocol)
    snapshot = Snapshot(
        version="",
        revision=revision,
        workload=Workload(service.name, trust_domain, dict(service.labels)),
        authorization=authorization,
        inbound=tuple(
            InboundPort(
                port.number,
                port.protocol,
                inbound_name(port.number),
                port.number in exposed,
                port.proxy_protocol,
                port.number in mesh.tunnels.get(service.name, ()),
            )
            for port in sorted(service.ports)
        ),
        outbound=listeners.outbound,
        clusters=dict(sorted(clusters.items())),
        denied=denied,
        rate_limits=rate_limits_of(service, mesh.policies, mesh.directory),
        localities=_localities(mesh.directory.inventory, service, clusters.values()),
        jwt=jwt_rules_for(service.name, mesh.policies, mesh.selection, mesh.keys),
        providers=providers,
        telemetry=telemetry_of(service.name, mesh.policies, mesh.selection),
        servers=servers,
        edge=edge,
        gateway=grants,
        callers=egress_rules_of(known, mesh.policies, mesh.selection) if service.is_gateway else {},
        egress_gateway=own_gateway.name if own_gateway is not None else "",
    )
    return snapshot, tuple(listeners.clashes)


def _grants_of(mesh: Mesh, service: Service) -> tuple[GatewayGrant, ...]:
    """Who may go where through it, when it is an egress gateway."""
    if not service.is_gateway:
        return ()
    return grants_of(service, mesh.directory.inventory, mesh.policies.service_entries)


def _edge_of(
    mesh: Mesh, service: Service, servers: Sequence[IngressServer]
) -> tuple[tuple[OutboundListener, ...], Mapping[str, Cluster]]:
    """The routes of requests that enter at servers, and the clusters that these lead to."""
    if not service.gateway_ports:
        return (), {}
    table = ClusterTable(mesh.directory, mesh.rules, service)
    entries = entries_seen(mesh.policies.service_entries, service.name.namespace)
    outside = outside_hosts(service, entries)
    routes = RouteTable(mesh.directory, mesh.documents, service, table, outside, mesh.gateway)
    edge = gateway_routes(routes, mesh.policies, servers)
    named = {target.cluster for listener in edge for target in listener.destinations()}
    return edge, {name: cluster for name, cluster in table.clusters.items() if name in named}


def _localities(inventory: Inventory, service: Service, clusters: Iterable[Cluster]) -> dict[str, str]:
    """Where the nodes lie that matter to a workload whose clusters ask for it."""
    asking = [cluster for cluster in clusters if cluster.locality is not None]
    if not asking:
        return {}
    nodes = {endpoint.node for cluster in asking for endpoint in cluster.endpoints}
    nodes.update(endpoint.node for endpoint in service.endpoints)
    return {node: inventory.localities.get(node, f"//{node}") for node in sorted(nodes) if node}


def outbound_of(mesh: Mesh, service: Service) -> tuple[Listeners, dict[str, Cluster]]:
    """The listeners of a caller, and the clusters that they name."""
    table = ClusterTable(mesh.directory, mesh.rules, service)
    entries = entries_seen(mesh.policies.service_entries, service.name.namespace)
    outside = named_hosts(service, entries)
    routes = RouteTable(
        mesh.directory,
        mesh.documents,
        service,
        table,
        outside_hosts(service, entries),
        mesh.gateway,
    )
    known = (*mesh.directory.visible_hosts(service), *outside)
    return listeners_of(routes, (*known, *routed_hosts(routes, known))), table.clusters
