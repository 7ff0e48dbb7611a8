"""Authorization as compiled for one workload: network stage, L7 stages, baseline.

Order at the destination (DESIGN §5): mTLS mode → network stage (tiers) → JWT → CUSTOM → DENY → ALLOW. The
caller's own sidecar judges the egress tiers before it sends. Everything here is resolved against the
inventory: selectors have become sets of services, CIDRs stay CIDRs, source and destination labels are gone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from meshpy.model.match import HeaderMatch, StringMatch
from meshpy.model.names import ServiceName

__all__ = [
    "Action",
    "Authorization",
    "AuthorizationPolicy",
    "AuthorizationRule",
    "Condition",
    "HttpMatch",
    "NetworkAction",
    "NetworkPolicy",
    "NetworkRule",
    "Operation",
    "PeerMatch",
    "Pending",
    "PortRange",
    "Source",
    "StrictPort",
    "Tier",
]


class Action(StrEnum):
    """Istio `AuthorizationPolicy.spec.action`."""

    ALLOW = "ALLOW"
    DENY = "DENY"
    AUDIT = "AUDIT"
    CUSTOM = "CUSTOM"


class NetworkAction(StrEnum):
    """Calico's rule actions. LOG goes on to the next rule, PASS to the next tier."""

    ALLOW = "Allow"
    DENY = "Deny"
    LOG = "Log"
    PASS = "Pass"  # noqa: S105 - a verdict, not a password


@dataclass(frozen=True, slots=True)
class Source:
    """One `from[].source`: every non-empty field must hold (AND); inside a field any value (OR).

    Principals are written without `spiffe://`. The `not_` twin of a field must match none.

    Args:
        request_principals: `issuer/subject` of the request's JWT.
        remote_ip_blocks: of the address that trusted proxies tell (`Authorization.trusted_proxies`).
    """

    principals: tuple[StringMatch, ...] = ()
    not_principals: tuple[StringMatch, ...] = ()
    namespaces: tuple[StringMatch, ...] = ()
    not_namespaces: tuple[StringMatch, ...] = ()
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
class Operation:
    """One `to[].operation`; hosts compare case-insensitively, and without the port when none is written."""

    hosts: tuple[StringMatch, ...] = ()
    not_hosts: tuple[StringMatch, ...] = ()
    ports: tuple[int, ...] = ()
    not_ports: tuple[int, ...] = ()
    methods: tuple[StringMatch, ...] = ()
    not_methods: tuple[StringMatch, ...] = ()
    paths: tuple[StringMatch, ...] = ()
    not_paths: tuple[StringMatch, ...] = ()

    @property
    def is_l7(self) -> bool:
        """True when it can be judged on a request only."""
        return bool(
            self.hosts or self.not_hosts or self.methods or self.not_methods or self.paths or self.not_paths
        )


@dataclass(frozen=True, slots=True)
class Condition:
    """One `when[]`: any of `values` (when given) and none of `not_values`.

    `key` is one of Istio's: `request.headers[name]`, `source.ip`, `remote.ip`, `source.namespace`,
    `source.principal`, `request.auth.principal`, `request.auth.audiences`, `request.auth.presenter`,
    `request.auth.claims[a][b]`, `destination.ip`, `destination.port`, `connection.sni`.
    """

    key: str
    values: tuple[StringMatch, ...] = ()
    not_values: tuple[StringMatch, ...] = ()

    @property
    def is_l7(self) -> bool:
        """True when it can be judged on a request only."""
        return self.key.startswith("request.")


@dataclass(frozen=True, slots=True)
class AuthorizationRule:
    """`sources` OR, `operations` OR, `conditions` AND; all three AND. All empty matches everything."""

    name: str
    sources: tuple[Source, ...] = ()
    operations: tuple[Operation, ...] = ()
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True, slots=True)
class AuthorizationPolicy:
    """Istio's policy. ALLOW without rules allows nothing; a rule without parts matches everything.

    Args:
        name: `AuthorizationPolicy shop/only-web`, as every refusal names it.
        dry_run: judged and counted, decides nothing (`istio.io/dry-run`).
        provider: of CUSTOM: who is asked about requests that a rule matches.
    """

    name: str
    action: Action
    rules: tuple[AuthorizationRule, ...] = ()
    dry_run: bool = False
    provider: str = ""


@dataclass(frozen=True, slots=True)
class StrictPort:
    """A port that callers without identity may not use, and the policy that says so."""

    port: int
    policy: str


@dataclass(frozen=True, slots=True)
class PortRange:
    """First and last port, both included."""

    first: int
    last: int


@dataclass(frozen=True, slots=True)
class PeerMatch:
    """The other end of a connection: every field that is not None must hold.

    Args:
        services: identities; None is any, also one without identity. An unknown peer is in no set.
        not_services: must not be one of these (an unknown peer is not).
        nets: CIDRs of which one must contain the peer's address.
        set_nets: addresses of NetworkSets that the selector of `services` picked too: in there is as good.
        not_set_nets: the same of `not_services`: must not be in there.
        domains: hosts outside the mesh, of egress rules; one must be the host that is called.
    """

    services: frozenset[ServiceName] | None = None
    not_services: frozenset[ServiceName] | None = None
    nets: tuple[str, ...] | None = None
    not_nets: tuple[str, ...] | None = None
    set_nets: tuple[str, ...] = ()
    not_set_nets: tuple[str, ...] = ()
    domains: tuple[StringMatch, ...] | None = None


@dataclass(frozen=True, slots=True)
class HttpMatch:
    """The request of a rule: every part must hold, of a part any value; empty is any.

    Calico's `http` has methods and paths, Cilium's hosts and headers besides.
    """

    methods: tuple[StringMatch, ...] = ()
    paths: tuple[StringMatch, ...] = ()
    hosts: tuple[StringMatch, ...] = ()
    headers: tuple[HeaderMatch, ...] = ()


@dataclass(frozen=True, slots=True)
class NetworkRule:
    """One Calico rule as its judge sees it: `peer` is the caller (ingress) or the callee (egress)."""

    name: str
    action: NetworkAction
    peer: PeerMatch = field(default_factory=PeerMatch)
    ports: tuple[PortRange, ...] = ()
    not_ports: tuple[PortRange, ...] = ()
    http: HttpMatch | None = None


@dataclass(frozen=True, slots=True)
class NetworkPolicy:
    """`name` is `NetworkPolicy default/deny-all` or `GlobalNetworkPolicy deny-all`; rules in order."""

    name: str
    rules: tuple[NetworkRule, ...] = ()


@dataclass(frozen=True, slots=True)
class Tier:
    """The policies of one tier that apply to the workload in this direction, in order; never empty."""

    name: str
    policies: tuple[NetworkPolicy, ...]
    default_action: NetworkAction = NetworkAction.DENY


@dataclass(frozen=True, slots=True)
class Pending:
    """The network stage as it would be with the staged policies in force: judged, counted, never decides."""

    ingress: tuple[Tier, ...] = ()
    egress: tuple[Tier, ...] = ()


@dataclass(frozen=True, slots=True)
class Authorization:
    """Everything the workload's sidecar decides by.

    Args:
        ingress: tiers for connections to the workload; none → the baseline decides.
        egress: tiers for connections from the workload; none → allowed.
        policies: Istio policies that select the workload, in name order.
        baseline: services that shared an original network with it (DESIGN §5).
        baseline_external: ports that callers without an identity may use: published ones, and those reached
            over a network shared with services outside the mesh.
        trusted_proxies: how many proxies in front append to `x-forwarded-for` and are believed; 0: nobody is,
            and `remote.ip` is the address of the connection.
        strict: ports whose mTLS mode is STRICT.
        pending: None when no staged policy would change the tiers.
    """

    ingress: tuple[Tier, ...] = ()
    egress: tuple[Tier, ...] = ()
    policies: tuple[AuthorizationPolicy, ...] = ()
    baseline: frozenset[ServiceName] = frozenset()
    baseline_external: frozenset[int] = frozenset()
    trusted_proxies: int = 0
    strict: tuple[StrictPort, ...] = ()
    pending: Pending | None = None
