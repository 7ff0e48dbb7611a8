"""What documents say, as frozen values; hosts, labels and selectors are not resolved yet.

Model values are used where the document alone decides (matches, retries, pools); every value that is
resolved against the inventory later keeps its `Place`, so that an unknown host is named with its line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import TypeAlias

from meshpy.errors import Place
from meshpy.model.authz import Action, Condition, HttpMatch, NetworkAction, Operation, PortRange
from meshpy.model.match import StringMatch
from meshpy.model.rate_limit import RateLimit
from meshpy.model.resilience import (
    ConnectionPool,
    ConsistentHash,
    HealthCheck,
    LoadBalancing,
    Locality,
    OutlierDetection,
    Warmup,
)
from meshpy.policy.meta import HostRef, Meta
from meshpy.policy.route_docs import (
    NO_HEADER_OPS,
    BackendDoc,
    BackendMirrorDoc,
    DelegateRef,
    DestinationDoc,
    GatewayMatchDoc,
    GatewayRouteDoc,
    GatewayRuleDoc,
    HttpMatchDoc,
    HttpRouteDoc,
    MirrorDoc,
    ParentDoc,
    ReferenceGrantDoc,
    TcpMatchDoc,
    TcpRouteDoc,
    TlsMatchDoc,
    TlsRouteDoc,
    VirtualServiceDoc,
)
from meshpy.policy.selectors import Selector

__all__ = [
    "NO_HEADER_OPS",
    "AuthorizationPolicyDoc",
    "AuthorizationRuleDoc",
    "BackendDoc",
    "BackendMirrorDoc",
    "BalancerDoc",
    "DelegateRef",
    "DestinationDoc",
    "DestinationRuleDoc",
    "GatewayMatchDoc",
    "GatewayRouteDoc",
    "GatewayRuleDoc",
    "HostRef",
    "HttpMatchDoc",
    "HttpRouteDoc",
    "Meta",
    "MirrorDoc",
    "NetworkPolicyDoc",
    "NetworkRuleDoc",
    "NetworkSetDoc",
    "ParentDoc",
    "PeerDoc",
    "PolicyValue",
    "RateLimitDoc",
    "ReferenceGrantDoc",
    "RulePhase",
    "SelectorDoc",
    "ServiceRef",
    "SourceDoc",
    "StagedAction",
    "SubsetDoc",
    "TcpMatchDoc",
    "TcpRouteDoc",
    "TierDoc",
    "TlsMatchDoc",
    "TlsRouteDoc",
    "TrafficPolicy",
    "VirtualServiceDoc",
]

NOWHERE = Place()


@dataclass(frozen=True, slots=True)
class BalancerDoc:
    """`loadBalancer`: one thing, which a subset's word replaces whole."""

    simple: LoadBalancing = LoadBalancing.LEAST_REQUEST
    affinity: ConsistentHash | None = None
    locality: Locality | None = None
    warmup: Warmup | None = None


@dataclass(frozen=True, slots=True)
class TrafficPolicy:
    """None is 'not said': a subset's silence leaves the host's word in force."""

    load_balancing: BalancerDoc | None = None
    pool: ConnectionPool | None = None
    outlier: OutlierDetection | None = None
    ports: Mapping[int, TrafficPolicy] = field(default_factory=dict)
    health_check: HealthCheck | None = None
    proxy_protocol: int = 0


@dataclass(frozen=True, slots=True)
class SubsetDoc:
    name: str
    place: Place
    labels: Mapping[str, str] = field(default_factory=dict)
    policy: TrafficPolicy = field(default_factory=TrafficPolicy)


@dataclass(frozen=True, slots=True)
class DestinationRuleDoc:
    meta: Meta
    host: HostRef
    policy: TrafficPolicy | None = None
    subsets: tuple[SubsetDoc, ...] = ()
    is_private: bool = False
    callers: Mapping[str, str] | None = None
    """`workloadSelector`: labels of the callers that it is for; None is all of them."""


@dataclass(frozen=True, slots=True)
class SourceDoc:
    """`service_accounts` are (namespace, name); `trust_domains` as written. Both become principals."""

    place: Place
    principals: tuple[StringMatch, ...] = ()
    not_principals: tuple[StringMatch, ...] = ()
    namespaces: tuple[StringMatch, ...] = ()
    not_namespaces: tuple[StringMatch, ...] = ()
    service_accounts: tuple[tuple[str, str], ...] = ()
    not_service_accounts: tuple[tuple[str, str], ...] = ()
    trust_domains: tuple[str, ...] = ()
    not_trust_domains: tuple[str, ...] = ()
    ip_blocks: tuple[str, ...] = ()
    not_ip_blocks: tuple[str, ...] = ()
    request_principals: tuple[StringMatch, ...] = ()
    not_request_principals: tuple[StringMatch, ...] = ()
    remote_ip_blocks: tuple[str, ...] = ()
    not_remote_ip_blocks: tuple[str, ...] = ()

    @property
    def is_l7(self) -> bool:
        """True when it can be judged on a request only."""
        return bool(self.request_principals or self.not_request_principals)


@dataclass(frozen=True, slots=True)
class AuthorizationRuleDoc:
    place: Place
    sources: tuple[SourceDoc, ...] = ()
    operations: tuple[Operation, ...] = ()
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class AuthorizationPolicyDoc:
    """`selector` None and no `target_refs` is every workload of the namespace."""

    meta: Meta
    action: Action
    rules: tuple[AuthorizationRuleDoc, ...] = ()
    selector: Mapping[str, str] | None = None
    selector_place: Place = NOWHERE
    dry_run: bool = False
    target_refs: tuple[ServiceRef, ...] = ()
    provider: str = ""
    provider_place: Place = NOWHERE


@dataclass(frozen=True, slots=True)
class SelectorDoc:
    """A Calico selector as written, and read."""

    text: str
    selector: Selector
    place: Place


@dataclass(frozen=True, slots=True)
class ServiceRef:
    name: str
    namespace: str
    place: Place


@dataclass(frozen=True, slots=True)
class PeerDoc:
    """A `source` or `destination`; None is 'not said'.

    Args:
        takes_sets: a selector also picks NetworkSets by their labels (Calico); Kubernetes knows none.
        is_outside: it has no identity of the mesh.
    """

    place: Place
    selector: SelectorDoc | None = None
    not_selector: SelectorDoc | None = None
    namespace_selector: SelectorDoc | None = None
    account_names: tuple[str, ...] = ()
    account_selector: SelectorDoc | None = None
    service: ServiceRef | None = None
    nets: tuple[str, ...] | None = None
    not_nets: tuple[str, ...] | None = None
    ports: tuple[PortRange, ...] = ()
    not_ports: tuple[PortRange, ...] = ()
    takes_sets: bool = True
    domains: tuple[StringMatch, ...] | None = None
    is_outside: bool = False

    @property
    def picks_workloads(self) -> bool:
        """True when it speaks of workloads, which a NetworkPolicy narrows to its own namespace."""
        return bool(
            self.selector
            or self.not_selector
            or self.namespace_selector
            or self.account_names
            or self.account_selector
        )


class RulePhase(IntEnum):
    """Cilium's order: what any policy denies, what any allows, and at the very end the rest of L7 ports."""

    DENY = 0
    ALLOW = 1
    REST = 2


@dataclass(frozen=True, slots=True)
class NetworkRuleDoc:
    """`is_tcp` False: the rule speaks of another protocol and never meets a connection of the mesh.

    Args:
        name: as verdicts show it, where one written rule became several; empty is `ingress[INDEX]`.
        phase: among policies of one order; Calico's and Kubernetes' have one phase.
    """

    place: Place
    action: NetworkAction
    source: PeerDoc
    destination: PeerDoc
    is_tcp: bool = True
    http: HttpMatch | None = None
    name: str = ""
    phase: RulePhase = RulePhase.ALLOW


class StagedAction(StrEnum):
    """Calico `stagedAction`: what becomes of the policy of the same name when the staged one is enforced."""

    SET = "Set"
    DELETE = "Delete"
    LEARN = "Learn"
    IGNORE = "Ignore"


@dataclass(frozen=True, slots=True)
class NetworkPolicyDoc:
    """What decides on connections: Calico's policies, staged ones too, and Kubernetes' NetworkPolicy.

    It belongs to no namespace (GlobalNetworkPolicy) when `meta.namespace` is empty.

    Args:
        ingress: None when the policy does not apply in that direction.
        staged: it decides nothing and is judged beside what does; None for enforced policies.
        expires: an ISO date, of the annotation `meshpy.io/expires`.
        passive: directions in which it puts nobody into default deny (Cilium `enableDefaultDeny`).
    """

    meta: Meta
    selector: SelectorDoc
    account_selector: SelectorDoc | None = None
    namespace_selector: SelectorDoc | None = None
    tier: str = "default"
    tier_place: Place = NOWHERE
    order: float | None = None
    ingress: tuple[NetworkRuleDoc, ...] | None = None
    egress: tuple[NetworkRuleDoc, ...] | None = None
    staged: StagedAction | None = None
    expires: str = ""
    passive: frozenset[str] = frozenset()

    @property
    def target(self) -> tuple[str, str, str]:
        """Kind, namespace and name of the enforced policy that this is, or that it is the next version of."""
        kind = self.meta.kind.removeprefix("Staged")
        if kind == "KubernetesNetworkPolicy":
            kind = "NetworkPolicy.networking.k8s.io"
        return kind, self.meta.namespace, self.meta.name


@dataclass(frozen=True, slots=True)
class NetworkSetDoc:
    """NetworkSet, and GlobalNetworkSet when `meta.namespace` is empty: addresses that selectors pick."""

    meta: Meta
    labels: Mapping[str, str] = field(default_factory=dict)
    nets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RateLimitDoc:
    """HTTPLocalRateLimitPolicy; `override_places` are where its overrides stand."""

    meta: Meta
    target: ServiceRef
    limit: RateLimit
    override_places: tuple[Place, ...] = ()


@dataclass(frozen=True, slots=True)
class TierDoc:
    meta: Meta
    order: float | None = None
    default_action: NetworkAction = NetworkAction.DENY


PolicyValue: TypeAlias = (
    VirtualServiceDoc
    | GatewayRouteDoc
    | ReferenceGrantDoc
    | DestinationRuleDoc
    | AuthorizationPolicyDoc
    | NetworkPolicyDoc
    | NetworkSetDoc
    | RateLimitDoc
    | TierDoc
)
