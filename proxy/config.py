"""A snapshot made ready to decide by.

Routers, authorizers and live clusters. Replaced whole, held in Live.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from meshpy.engine.authenticate import Authenticator
from meshpy.engine.authorize import InboundAuthorizer
from meshpy.engine.egress import EgressAuthorizer
from meshpy.engine.opaque import OpaqueRouter
from meshpy.engine.rate_limits import rate_rules
from meshpy.engine.request import Request
from meshpy.engine.route import Routed, Router
from meshpy.engine.verdict import Verdict
from meshpy.errors import MeshpyError
from meshpy.model.endpoint import Protocol, Transport, inbound_name, port_of_cluster
from meshpy.model.resilience import RetryOn, RetryPolicy
from meshpy.model.route import Destination, Forward, HeaderOps
from meshpy.model.snapshot import InboundPort, OutboundListener, Snapshot
from proxy.answers import grant_fields, granted
from proxy.decide.headers import fold
from proxy.decide.limit import Limiter
from proxy.edge_servers import EdgeServer, edge_servers
from proxy.ext_authz import Provider
from proxy.http.head import RequestHead
from proxy.net.pool import Upstream
from proxy.plan import NO_OPS, Plan

__all__ = ["Compiled", "ConfigError", "InboundTarget", "OutboundTarget", "compile_snapshot"]

_INBOUND_RETRY = RetryPolicy(
    attempts=2, on=frozenset({RetryOn.CONNECT_FAILURE, RetryOn.RESET_BEFORE_REQUEST}), backoff_s=0.025
)
"""Towards the app only what was never sent is tried again.

A replica that is gone costs no request (SWARM C 21).
"""


_SETTLED_ENTRIES = 1024


class ConfigError(MeshpyError):
    """A snapshot that this sidecar cannot apply; the text is the NACK's reason."""


@dataclass(frozen=True, slots=True)
class InboundTarget:
    """One port of the app and the plan that leads to it.

    Args:
        is_strict: callers without identity are refused before a byte of theirs is read.
    """

    port: InboundPort
    plan: Plan
    is_strict: bool = False


@dataclass(slots=True)
class OutboundTarget:
    """One outbound listener: the router of an HTTP port, or that of an opaque one; both where bytes tell."""

    listener: OutboundListener
    router: Router | None
    opaque: OpaqueRouter | None
    clusters: Mapping[str, Upstream]
    _plans: dict[int, tuple[Routed, Plan]] = field(default_factory=dict)
    settled: dict[tuple[str, str, str], Plan] = field(default_factory=dict)
    """Method, path and authority → the plan that every such request gets; see `settle`."""

    def settle(self, head: RequestHead, routed: Routed, plan: Plan, egress: EgressAuthorizer) -> None:
        """Keep a plan for all requests with its method, path and authority, where nothing else decides."""
        router, action = self.router, routed.rule.action
        if router is None or router.depends_on_headers or router.depends_on_query or not egress.is_open:
            return
        if routed.target is not None or routed.grant is not None or routed.rule.mirrors:
            return
        if not isinstance(action, Forward) or sum(each.weight > 0 for each in action.destinations) != 1:
            return
        if len(self.settled) >= _SETTLED_ENTRIES:
            self.settled.clear()
        self.settled[head.method, head.path, head.authority.text] = plan

    def plan_of(self, routed: Routed) -> Plan:
        """The plan for a routing; routes without a rewritten path share theirs."""
        known = self._plans.get(id(routed))
        if known is not None:
            return known[1]
        if routed.target is None and routed.grant is None:
            plan = self._make(routed)
            self._plans[id(routed)] = (routed, plan)
            return plan
        return self._of_request(routed)

    def judge(self, egress: EgressAuthorizer, destination: Destination, request: Request | None) -> Verdict:
        """Ask the egress rules: about services by identity, about hosts outside by name and addresses."""
        port = port_of_cluster(destination.cluster)
        if destination.cluster == inbound_name(port):  # to the own app, which is nobody's egress
            return Verdict(True, "egress")
        if egress.is_open or destination.services:
            return egress.judge(destination.services, (), port, request)
        upstream = self.clusters[destination.cluster]
        addresses: Sequence[str] = upstream.cluster.stands_for
        if upstream.cluster.transport is not Transport.GATEWAY:
            addresses = [host.endpoint.address for host in upstream.hosts]
        return egress.judge((), addresses, port, request, destination.host)

    def _of_request(self, routed: Routed) -> Plan:
        """The plan of a routing that its request has changed: another path, a CORS grant, or both."""
        key = -id(routed.rule) ^ id(routed.destination)
        known = self._plans.get(key)
        if known is None:
            known = self._plans[key] = (routed, self._make(routed))
        plan, grant = known[1], routed.grant
        target = routed.target.forward if routed.target is not None else None
        if grant is None:
            return replace(plan, target=target)
        ops, fields = granted(plan.response_ops, grant), grant_fields(grant)
        return replace(plan, target=target, response_ops=ops, reply_headers=fields)

    def _make(self, routed: Routed) -> Plan:
        rule, destination = routed.rule, routed.destination
        upstream = self.clusters[destination.cluster]
        # Envoy: the more specific destination's operations first, then the route's.
        request_rules = (destination.request_headers, rule.request_headers)
        response_rules = (destination.response_headers, rule.response_headers)
        empty = HeaderOps()
        return Plan(
            upstream,
            routed.virtual_host,
            rule.name or rule.policy,
            rule.retry,
            rule.timeout_s,
            None,
            routed.authority.encode("latin-1") if routed.authority is not None else None,
            fold(request_rules) if any(each != empty for each in request_rules) else NO_OPS,
            fold(response_rules) if any(each != empty for each in response_rules) else NO_OPS,
            rule.fault,
            upstream.cluster.transport is Transport.MTLS,
        )


@dataclass(frozen=True, slots=True)
class Compiled:
    """Everything a request is decided by."""

    snapshot: Snapshot
    authorizer: InboundAuthorizer
    egress: EgressAuthorizer
    inbound: Mapping[int, InboundTarget]
    outbound: Mapping[tuple[str, int], OutboundTarget]
    clusters: Mapping[str, Upstream]
    workload: str
    service: str
    authenticator: Authenticator | None = None
    providers: Mapping[str, Provider] = field(default_factory=dict)
    limits: tuple[Limiter, ...] = ()
    servers: Mapping[int, EdgeServer] = field(default_factory=dict)
    edge: Mapping[int, OutboundTarget] = field(default_factory=dict)
    """Published port → where requests that enter there are led; without an entry to the app."""
    callers: Mapping[str, EgressAuthorizer] = field(default_factory=dict)


def compile_snapshot(
    snapshot: Snapshot, clusters: Mapping[str, Upstream], before: Compiled | None = None
) -> Compiled:
    """Make a snapshot ready.

    Args:
        before: what was in force; rate limits that stay the same go on counting, tokens stay verified.

    Raises:
        ConfigError: something in it cannot be judged or served by this version.
    """
    name = snapshot.workload.name
    service = f"{name.name}.{name.namespace}"
    strict = {each.port for each in snapshot.authorization.strict}
    try:
        return Compiled(
            snapshot,
            InboundAuthorizer(snapshot.authorization, snapshot.workload.trust_domain),
            EgressAuthorizer(snapshot.authorization),
            {
                port.port: InboundTarget(port, _inbound_plan(port, clusters, service), port.port in strict)
                for port in snapshot.inbound
            },
            {(each.bind, each.port): _outbound(each, clusters) for each in snapshot.outbound},
            clusters,
            str(name),
            service,
            _authenticator(snapshot, before),
            {each.name: Provider(each, clusters[each.cluster]) for each in snapshot.providers},
            _limiters(snapshot, before),
            edge_servers(snapshot, before.servers if before is not None else {}),
            {each.port: _outbound(each, clusters) for each in snapshot.edge},
            {name: EgressAuthorizer(rules) for name, rules in snapshot.callers.items()},
        )
    except KeyError as error:
        raise ConfigError(f"the cluster {error} is named and not defined") from error
    except (MeshpyError, ValueError) as error:
        raise ConfigError(str(error)) from error


def _authenticator(snapshot: Snapshot, before: Compiled | None) -> Authenticator | None:
    """The one before when its rules and keys are the same: it knows the tokens of now."""
    if before is not None and before.snapshot.jwt == snapshot.jwt:
        return before.authenticator
    return Authenticator(snapshot.jwt) if snapshot.jwt else None


def _limiters(snapshot: Snapshot, before: Compiled | None) -> tuple[Limiter, ...]:
    kept = {limiter.rule.limit.policy: limiter for limiter in before.limits} if before is not None else {}
    found = []
    for rule in rate_rules(snapshot.rate_limits):
        known = kept.get(rule.limit.policy)
        found.append(known if known is not None and known.rule.limit == rule.limit else Limiter(rule))
    return tuple(found)


def _inbound_plan(port: InboundPort, clusters: Mapping[str, Upstream], service: str) -> Plan:
    return Plan(clusters[port.cluster], service, "default", _INBOUND_RETRY)


def _outbound(listener: OutboundListener, clusters: Mapping[str, Upstream]) -> OutboundTarget:
    if listener.protocol is Protocol.AUTO:
        opaque = OpaqueRouter(listener) if listener.tcp_routes() else None
        return OutboundTarget(listener, Router.of_listener(listener), opaque, clusters)
    if listener.protocol.is_http:
        return OutboundTarget(listener, Router.of_listener(listener), None, clusters)
    if not listener.tcp_routes():
        raise ConfigError(f"outbound {listener.bind}:{listener.port}: an opaque listener without a tcp route")
    return OutboundTarget(listener, None, OpaqueRouter(listener), clusters)
