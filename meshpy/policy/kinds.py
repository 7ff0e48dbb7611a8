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
from meshpy.model.match import RequestMatch, StringMatch
from meshpy.model.rate_limit import RateLimit
from meshpy.model.resilience import (
    ConnectionPool,
    ConsistentHash,
    HealthCheck,
    LoadBalancing,
    Locality,
    OutlierDetection,
    RetryPolicy,
    Warmup,
)
from meshpy.model.route import Cors, DirectResponse, Fault, HeaderOps, Redirect, Rewrite
from meshpy.policy.selectors import Selector

__all__ = [
    "AuthorizationPolicyDoc",
    "AuthorizationRuleDoc",
    "BalancerDoc",
    "DelegateRef",
    "DestinationDoc",
    "DestinationRuleDoc",
    "HostRef",
    "HttpMatchDoc",
    "HttpRouteDoc",
    "Meta",
    "MirrorDoc",
    "NetworkPolicyDoc",
    "NetworkRuleDoc",
    "NetworkSetDoc",
    "PeerDoc",
    "PolicyValue",
    "RateLimitDoc",
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

NO_HEADER_OPS = HeaderOps()
NOWHERE = Place()


@dataclass(frozen=True, slots=True)
class Meta:
    """Identity of a document; `namespace` is empty for kinds that have none."""

    kind: str
    namespace: str
    name: str
    place: Place
    annotations: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """As refusals and logs name it: `VirtualService shop/catalog`, `Tier platform`."""
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class HostRef:
    """A host as written; short names belong to the document's namespace."""

    host: str
    place: Place


@dataclass(frozen=True, slots=True)
class DestinationDoc:
    host: HostRef
    subset: str = ""
    port: int | None = None
    weight: int = 100
    request_headers: HeaderOps = NO_HEADER_OPS
    response_headers: HeaderOps = NO_HEADER_OPS


@dataclass(frozen=True, slots=True)
class MirrorDoc:
    destination: DestinationDoc
    pct: float = 100.0


@dataclass(frozen=True, slots=True)
class DelegateRef:
    """`delegate`: another VirtualService whose rules stand in for this one; `namespace` as written or the
    document's own.
    """

    name: str
    namespace: str
    place: Place


@dataclass(frozen=True, slots=True)
class HttpMatchDoc:
    """`request` plus what is decided for the calling workload when it is compiled."""

    request: RequestMatch
    source_labels: Mapping[str, str] = field(default_factory=dict)
    source_namespace: str = ""


@dataclass(frozen=True, slots=True)
class HttpRouteDoc:
    """Invariant: exactly one of `destinations` (not empty), `answer` and `delegate` is given.

    Args:
        timeout_s: 0 turns it off; None is not said, which a delegate fills from its root.
        origin: the document that the rule came from by delegation; short hosts belong to its namespace.
    """

    place: Place
    name: str = ""
    matches: tuple[HttpMatchDoc, ...] = ()
    destinations: tuple[DestinationDoc, ...] = ()
    answer: Redirect | DirectResponse | None = None
    rewrite: Rewrite | None = None
    timeout_s: float | None = None
    retry: RetryPolicy | None = None
    fault: Fault | None = None
    request_headers: HeaderOps = NO_HEADER_OPS
    response_headers: HeaderOps = NO_HEADER_OPS
    mirrors: tuple[MirrorDoc, ...] = ()
    cors: Cors | None = None
    delegate: DelegateRef | None = None
    origin: Meta | None = None


@dataclass(frozen=True, slots=True)
class TcpMatchDoc:
    port: int | None = None
    source_labels: Mapping[str, str] = field(default_factory=dict)
    source_namespace: str = ""
    subnets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TcpRouteDoc:
    place: Place
    destinations: tuple[DestinationDoc, ...]
    matches: tuple[TcpMatchDoc, ...] = ()


@dataclass(frozen=True, slots=True)
class TlsMatchDoc:
    """`sni_hosts`: at least one, exact or `*.suffix`, lower case."""

    sni_hosts: tuple[str, ...]
    at: TcpMatchDoc = field(default_factory=TcpMatchDoc)


@dataclass(frozen=True, slots=True)
class TlsRouteDoc:
    place: Place
    destinations: tuple[DestinationDoc, ...]
    matches: tuple[TlsMatchDoc, ...]


@dataclass(frozen=True, slots=True)
class VirtualServiceDoc:
    """Without `hosts` it can only be delegated to.

    Args:
        export_to: namespaces whose callers see it, `.` being its own; `*` is every one.
    """

    meta: Meta
    hosts: tuple[HostRef, ...]
    http: tuple[HttpRouteDoc, ...] = ()
    tcp: tuple[TcpRouteDoc, ...] = ()
    tls: tuple[TlsRouteDoc, ...] = ()
    export_to: frozenset[str] = frozenset({"*"})

    def is_exported_to(self, namespace: str) -> bool:
        """Whether callers of a namespace see it."""
        own = namespace == self.meta.namespace
        return "*" in self.export_to or namespace in self.export_to or (own and "." in self.export_to)


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
    | DestinationRuleDoc
    | AuthorizationPolicyDoc
    | NetworkPolicyDoc
    | NetworkSetDoc
    | RateLimitDoc
    | TierDoc
)
