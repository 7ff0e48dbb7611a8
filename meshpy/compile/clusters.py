"""Clusters of one caller: where a host, port and subset can be reached, under which DestinationRule."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from meshpy.compile.egress_gateway import through_gateway
from meshpy.compile.hosts import Directory, LogicalHost
from meshpy.compile.outside import outside_cluster
from meshpy.model.endpoint import Cluster, Endpoint, Protocol, Transport, inbound_name
from meshpy.model.inventory import Service
from meshpy.model.names import ROOT_NAMESPACE, ServiceName
from meshpy.model.resilience import CheckProtocol, ConnectionPool, ConsistentHash, HealthCheck
from meshpy.model.snapshot import mesh_sni
from meshpy.policy.kinds import BalancerDoc, DestinationRuleDoc, SubsetDoc, TrafficPolicy

__all__ = [
    "ClusterTable",
    "RuleIndex",
    "checks_fit",
    "inbound_cluster",
    "rule_index",
    "rules_for",
    "selected",
    "subset_named",
]

_SILENT = TrafficPolicy()
_LEAST_REQUEST = BalancerDoc()


RuleIndex: TypeAlias = Mapping[str, tuple[DestinationRuleDoc, ...]]
"""DestinationRules by the label of the host that they mean."""


def rule_index(rules: Iterable[DestinationRuleDoc], directory: Directory) -> RuleIndex:
    """Resolve each rule's host once."""
    found: dict[str, list[DestinationRuleDoc]] = defaultdict(list)
    for rule in rules:
        found[directory.label_of(rule.host.host, rule.meta.namespace)].append(rule)
    return {label: tuple(members) for label, members in found.items()}


def rules_for(
    rules: RuleIndex, host: LogicalHost, caller_namespace: str, labels: Mapping[str, str] | None = None
) -> tuple[DestinationRuleDoc, ...]:
    """Istio's look-up: the caller's namespace, else the host's, else the root's; in name order.

    A rule with a `workloadSelector` is for callers of its own namespace with these labels, and comes first.

    Args:
        labels: of the caller; None asks for the rules of any caller.
    """
    found: dict[str, list[DestinationRuleDoc]] = {}
    for rule in rules.get(host.label, ()):
        found.setdefault(rule.meta.namespace, []).append(rule)
    for namespace in dict.fromkeys((caller_namespace, host.namespace, ROOT_NAMESPACE)):
        usable = [
            rule
            for rule in found.get(namespace, ())
            if (namespace == caller_namespace or not rule.is_private)
            and (rule.callers is None or _is_meant(rule.callers, labels, own=namespace == caller_namespace))
        ]
        if usable:
            return tuple(sorted(usable, key=lambda rule: (rule.callers is None, rule.meta.name)))
    return ()


def _is_meant(callers: Mapping[str, str], labels: Mapping[str, str] | None, *, own: bool) -> bool:
    return own and (labels is None or callers.items() <= labels.items())


def subset_named(rules: Iterable[DestinationRuleDoc], name: str) -> SubsetDoc | None:
    """The first subset of that name."""
    return next((subset for rule in rules for subset in rule.subsets if subset.name == name), None)


def selected(directory: Directory, host: LogicalHost, subset: SubsetDoc | None) -> tuple[ServiceName, ...]:
    """The services of a host that a subset's labels choose."""
    if subset is None:
        return host.services
    wanted = subset.labels.items()
    services = directory.inventory.services
    return tuple(name for name in host.services if wanted <= services[name].labels.items())


def _merged(below: TrafficPolicy, above: TrafficPolicy | None, port: int) -> TrafficPolicy:
    """Field by field; settings for the port replace all of it and inherit nothing (Istio)."""
    if above is None:
        return below
    proxied = above.proxy_protocol or below.proxy_protocol
    if port in above.ports:
        return replace(above.ports[port], proxy_protocol=proxied)
    return TrafficPolicy(
        above.load_balancing or below.load_balancing,
        above.pool or below.pool,
        above.outlier or below.outlier,
        health_check=above.health_check or below.health_check,
        proxy_protocol=proxied,
    )


def checks_fit(check: HealthCheck, protocol: Protocol) -> bool:
    """Whether a port of that protocol can answer the check."""
    if check.protocol is CheckProtocol.GRPC:
        return protocol in (Protocol.GRPC, Protocol.HTTP2)
    return check.protocol is CheckProtocol.TCP or protocol.is_http


def _is_checked(policy: TrafficPolicy, protocol: Protocol) -> bool:
    return policy.health_check is not None and checks_fit(policy.health_check, protocol)


def can_be_proxied(transport: Transport, protocol: Protocol) -> bool:
    """Whether a connection can begin with a PROXY header: one for one caller's connection, in plaintext."""
    return transport is Transport.PLAIN and not protocol.is_http


@dataclass(slots=True)
class ClusterTable:
    """Collects the clusters that the caller's routes name."""

    directory: Directory
    rules: RuleIndex
    caller: Service
    clusters: dict[str, Cluster] = field(default_factory=dict)
    _rules_of: dict[str, tuple[DestinationRuleDoc, ...]] = field(default_factory=dict)

    def add(
        self, host: LogicalHost, port: int, subset: str = "", affinity: ConsistentHash | None = None
    ) -> tuple[str, tuple[ServiceName, ...]]:
        """The name of the cluster and the services behind it; unknown ones are empty clusters (503, UH).

        Args:
            affinity: of one route's own, in place of the DestinationRule's.
        """
        own = f"~{affinity.name}~{affinity.ttl_s:g}" if affinity is not None else ""
        name = f"outbound|{port}|{subset}{own}|{host.label}"
        rules = self._applicable(host)
        chosen = subset_named(rules, subset) if subset else None
        members = selected(self.directory, host, chosen)
        if subset and chosen is None:
            members = ()
        services = tuple(m for m in members if any(p.number == port for p in self._service(m).ports))
        if name not in self.clusters:
            policy = self._policy(rules, chosen, port)
            found = self._cluster(name, host, port, services, policy, chosen)
            if policy.proxy_protocol and can_be_proxied(found.transport, found.protocol):
                found = replace(found, proxy_protocol=policy.proxy_protocol)
            self.clusters[name] = found if affinity is None else replace(found, affinity=affinity)
        return name, services

    def _applicable(self, host: LogicalHost) -> tuple[DestinationRuleDoc, ...]:
        if host.label not in self._rules_of:
            namespace = self.caller.name.namespace
            self._rules_of[host.label] = rules_for(self.rules, host, namespace, self.caller.labels)
        return self._rules_of[host.label]

    def _policy(
        self, rules: tuple[DestinationRuleDoc, ...], subset: SubsetDoc | None, port: int
    ) -> TrafficPolicy:
        base = next((rule.policy for rule in rules if rule.policy is not None), None)
        return _merged(_merged(_SILENT, base, port), subset.policy if subset is not None else None, port)

    def _service(self, name: ServiceName) -> Service:
        return self.directory.inventory.services[name]

    def _cluster(
        self,
        name: str,
        host: LogicalHost,
        port: int,
        services: tuple[ServiceName, ...],
        policy: TrafficPolicy,
        subset: SubsetDoc | None,
    ) -> Cluster:
        balancer = policy.load_balancing or _LEAST_REQUEST
        protocol = host.ports.get(port, Protocol.TCP)
        cluster = Cluster(
            name,
            protocol,
            Transport.MTLS,
            load_balancing=balancer.simple,
            pool=_pool(policy.pool or ConnectionPool(), protocol),
            outlier=policy.outlier,
            affinity=balancer.affinity,
            locality=balancer.locality,
            warmup=balancer.warmup,
            health_check=policy.health_check if _is_checked(policy, protocol) else None,
        )
        if not host.namespace:
            labels = subset.labels if subset is not None else {}
            found = outside_cluster(cluster, host, port, labels, self.caller)
            return through_gateway(found, host.name, port, self.caller, self.directory.inventory)
        meshed = [member for member in services if not self._service(member).exempt]
        if services and not meshed:
            return self._plain(cluster, host, port, services)
        endpoints = (
            replace(endpoint, workload=endpoint.workload or member)
            for member in meshed
            for endpoint in self._service(member).endpoints
        )
        return replace(
            cluster,
            endpoints=tuple(sorted(endpoints, key=lambda e: (e.address, e.port))),
            sni=mesh_sni(meshed[0], port) if len(meshed) == 1 else "",
        )

    def _plain(
        self, cluster: Cluster, host: LogicalHost, port: int, services: tuple[ServiceName, ...]
    ) -> Cluster:
        """Services without a sidecar: as they are, over the network that both sat on.

        The network in the name keeps the look-up off the pod network, where the sidecar carries the name.
        """
        apps = [self._service(member) for member in services]
        addresses = sorted(address for app in apps for address in app.app.addresses)
        if addresses:
            endpoints = tuple(Endpoint(address, port) for address in addresses)
            return replace(cluster, transport=Transport.PLAIN, endpoints=endpoints)
        dns = next((app.app.dns for app in apps if app.app.dns), "")
        shared = sorted(network for app in apps for network in app.networks & self.caller.networks)
        if not dns and shared:
            name = services[0].swarm_name if len(services) == 1 else host.name
            dns = f"tasks.{name}.{shared[0]}"
        return replace(cluster, transport=Transport.PLAIN, dns=dns, dns_port=port if dns else 0)


def _pool(pool: ConnectionPool, protocol: Protocol) -> ConnectionPool:
    """Where the first bytes tell what is spoken, they tell it for both sides."""
    return replace(pool, use_client_protocol=True) if protocol is Protocol.AUTO else pool


def inbound_cluster(service: Service, port: int, protocol: Protocol) -> Cluster:
    """The app behind its own sidecar."""
    app = service.app
    return Cluster(
        inbound_name(port),
        protocol,
        Transport.PLAIN,
        endpoints=tuple(Endpoint(address, port) for address in app.addresses),
        dns="" if app.addresses else app.dns,
        dns_port=port if app.dns and not app.addresses else 0,
        pool=_pool(ConnectionPool(), protocol),
    )
