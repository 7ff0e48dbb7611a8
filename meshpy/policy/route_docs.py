"""What routing documents say, as frozen values: VirtualService, and Gateway API's HTTPRoute and GRPCRoute.

Hosts and labels are not resolved yet; every value that is resolved against the inventory later keeps its
`Place`, so that an unknown host is named with its line.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from meshpy.errors import Place
from meshpy.model.match import RequestMatch
from meshpy.model.resilience import ConsistentHash, RetryPolicy
from meshpy.model.route import Cors, DirectResponse, Fault, HeaderOps, Redirect, Rewrite
from meshpy.policy.meta import HostRef, Meta

__all__ = [
    "MESH",
    "OF_MESH",
    "BackendDoc",
    "BackendMirrorDoc",
    "DelegateRef",
    "DestinationDoc",
    "GatewayMatchDoc",
    "GatewayRef",
    "GatewayRouteDoc",
    "GatewayRuleDoc",
    "HttpMatchDoc",
    "HttpRouteDoc",
    "MirrorDoc",
    "ParentDoc",
    "ReferenceGrantDoc",
    "TcpMatchDoc",
    "TcpRouteDoc",
    "TlsMatchDoc",
    "TlsRouteDoc",
    "VirtualServiceDoc",
]

NO_HEADER_OPS = HeaderOps()
NOWHERE = Place()
MESH = "mesh"
"""The word of `gateways` for every sidecar."""


@dataclass(frozen=True, slots=True)
class GatewayRef:
    """A Gateway as a route names it: `gateways: [namespace/name]`, or a `parentRefs` item of that kind.

    Args:
        namespace: empty for `mesh`.
        section: the one listener that is meant; empty is every one (Gateway API).
        port: the port that is meant; None is every one (Gateway API).
    """

    namespace: str
    name: str
    place: Place = field(default=NOWHERE, compare=False)
    section: str = ""
    port: int | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.namespace, self.name


OF_MESH = GatewayRef("", MESH)


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
    """`request` plus what is decided for the calling workload when it is compiled.

    Args:
        gateways: where it applies; empty: where its document does.
    """

    request: RequestMatch
    source_labels: Mapping[str, str] = field(default_factory=dict)
    source_namespace: str = ""
    gateways: tuple[GatewayRef, ...] = ()


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
        gateways: where it applies.
    """

    meta: Meta
    hosts: tuple[HostRef, ...]
    http: tuple[HttpRouteDoc, ...] = ()
    tcp: tuple[TcpRouteDoc, ...] = ()
    tls: tuple[TlsRouteDoc, ...] = ()
    export_to: frozenset[str] = frozenset({"*"})
    gateways: tuple[GatewayRef, ...] = (OF_MESH,)

    def is_exported_to(self, namespace: str) -> bool:
        """Whether callers of a namespace see it."""
        own = namespace == self.meta.namespace
        return "*" in self.export_to or namespace in self.export_to or (own and "." in self.export_to)


@dataclass(frozen=True, slots=True)
class ParentDoc:
    """`parentRefs[]` of kind Service: to whose callers the route is; `port` None is every port of it."""

    host: HostRef
    namespace: str
    port: int | None = None


@dataclass(frozen=True, slots=True)
class BackendDoc:
    """`backendRefs[]`: a Service and its port."""

    host: HostRef
    namespace: str
    port: int
    weight: int = 1
    request_headers: HeaderOps = NO_HEADER_OPS
    response_headers: HeaderOps = NO_HEADER_OPS


@dataclass(frozen=True, slots=True)
class BackendMirrorDoc:
    backend: BackendDoc
    pct: float = 100.0


@dataclass(frozen=True, slots=True)
class GatewayMatchDoc:
    """`rank`: how specific it is, by its kind's own order; the least comes first."""

    request: RequestMatch
    rank: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GatewayRuleDoc:
    """Invariants: at least one match; `backends` may be empty, which answers 500 unless `redirect` is given.

    Args:
        affinity: `sessionPersistence`, for the clusters of this rule alone.
    """

    place: Place
    name: str
    matches: tuple[GatewayMatchDoc, ...]
    backends: tuple[BackendDoc, ...] = ()
    redirect: Redirect | None = None
    rewrite: Rewrite | None = None
    mirrors: tuple[BackendMirrorDoc, ...] = ()
    cors: Cors | None = None
    request_headers: HeaderOps = NO_HEADER_OPS
    response_headers: HeaderOps = NO_HEADER_OPS
    timeout_s: float | None = None
    retry: RetryPolicy | None = None
    affinity: ConsistentHash | None = None


@dataclass(frozen=True, slots=True)
class GatewayRouteDoc:
    """HTTPRoute and GRPCRoute.

    Args:
        hostnames: for which it is at Gateways; empty is every one.
    """

    meta: Meta
    parents: tuple[ParentDoc, ...]
    rules: tuple[GatewayRuleDoc, ...]
    gateways: tuple[GatewayRef, ...] = ()
    hostnames: tuple[HostRef, ...] = ()

    @property
    def is_grpc(self) -> bool:
        return self.meta.kind == "GRPCRoute"

    @property
    def hosts_written(self) -> tuple[str, ...]:
        """`hostnames`, or what it means that there are none."""
        return tuple(each.host for each in self.hostnames) or ("*",)


@dataclass(frozen=True, slots=True)
class ReferenceGrantDoc:
    """Which routes of other namespaces may name Services of this one.

    Args:
        sources: (kind, namespace) of routes.
        names: of Services; None is every one.
    """

    meta: Meta
    sources: frozenset[tuple[str, str]]
    names: frozenset[str] | None = None
