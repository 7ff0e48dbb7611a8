"""VirtualServices -> the rules of one caller's hosts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from meshpy.compile.clusters import ClusterTable
from meshpy.compile.documents import DocumentIndex, governing
from meshpy.compile.gateway import GatewayIndex, RankedRule, refusal_of
from meshpy.compile.hosts import Directory, LogicalHost
from meshpy.model.endpoint import Protocol
from meshpy.model.inventory import Service
from meshpy.model.resilience import DEFAULT_RETRY
from meshpy.model.route import Destination, Forward, Mirror, RouteRule, TcpRoute
from meshpy.policy.kinds import Meta
from meshpy.policy.route_docs import BackendDoc, DestinationDoc, HttpRouteDoc, TcpMatchDoc, VirtualServiceDoc

__all__ = ["OpaqueRoutes", "RouteTable", "destination_port"]


def destination_port(target: LogicalHost, wanted: int | None, listener_port: int) -> int:
    """The given port, else the only one, else the one that was called (Istio)."""
    if wanted is not None:
        return wanted
    return next(iter(target.ports)) if len(target.ports) == 1 else listener_port


@dataclass(frozen=True, slots=True)
class OpaqueRoutes:
    """Of one host and port: those with conditions that only the connection settles, and the one without."""

    conditional: tuple[TcpRoute, ...]
    default: TcpRoute


@dataclass(frozen=True, slots=True)
class RouteTable:
    """Makes routes for one caller and puts the clusters they need into `clusters`."""

    directory: Directory
    documents: DocumentIndex
    caller: Service
    clusters: ClusterTable
    external: Mapping[str, LogicalHost]
    gateway: GatewayIndex = field(default_factory=GatewayIndex)

    def document_for(self, host: LogicalHost) -> VirtualServiceDoc | None:
        found = governing(self.documents, host, self.caller.name.namespace)
        return found[0] if found else None

    def http_rules(self, host: LogicalHost, port: int) -> tuple[RouteRule, ...]:
        """What becomes of a request to `host`: by attached routes, else by a VirtualService, else sent there.

        With either of the first two, what none of their rules matches is 404.
        """
        attached = self.gateway.attached(host, port, self.caller.name.namespace)
        if attached:
            return tuple(self.gateway_rule(entry) for entry in self.gateway.ranked(attached))
        document = self.document_for(host)
        if document is None or not document.http:
            return (RouteRule(Forward((self.default(host, port),))),)
        rules = (self.rule(route, document.meta, port) for route in document.http)
        return tuple(rule for rule in rules if rule is not None)

    def opaque_routes(self, host: LogicalHost, port: int) -> OpaqueRoutes:
        """`tls` routes (on ports declared tls) before `tcp` routes; source and port are settled here."""
        document = self.document_for(host)
        conditional: list[TcpRoute] = []
        if document is not None:
            if host.ports.get(port) in (Protocol.TLS, Protocol.AUTO):
                conditional += self._tls_routes(document, host, port)
            for route in self._tcp_routes(document, host, port):
                if not route.subnets:
                    return OpaqueRoutes(tuple(conditional), route)
                conditional.append(route)
        return OpaqueRoutes(tuple(conditional), TcpRoute(host.label, (self.default(host, port),)))

    def _tls_routes(self, document: VirtualServiceDoc, host: LogicalHost, port: int) -> Iterator[TcpRoute]:
        for route in document.tls:
            targets = tuple(self.destination(t, document.meta.namespace, port) for t in route.destinations)
            for match in route.matches:
                if self._tcp_holds(match.at, port):
                    title, subnets = document.meta.title, match.at.subnets
                    yield TcpRoute(host.label, targets, title, match.sni_hosts, subnets)

    def _tcp_routes(self, document: VirtualServiceDoc, host: LogicalHost, port: int) -> Iterator[TcpRoute]:
        for route in document.tcp:
            targets = tuple(self.destination(t, document.meta.namespace, port) for t in route.destinations)
            for match in route.matches or (TcpMatchDoc(),):
                if self._tcp_holds(match, port):
                    yield TcpRoute(host.label, targets, document.meta.title, (), match.subnets)

    def default(self, host: LogicalHost, port: int) -> Destination:
        """Where requests go without a policy: the host itself, as it was called."""
        name, services = self.clusters.add(host, port)
        return Destination(name, host=host.label, services=services)

    def rule(self, route: HttpRouteDoc, root: Meta, port: int) -> RouteRule | None:
        matches = tuple(
            match.request
            for match in route.matches
            if self._is_source(match.source_labels, match.source_namespace)
            and match.request.port in (None, port)
        )
        if route.matches and not matches:
            return None
        origin = route.origin or root
        targets = tuple(self.destination(target, origin.namespace, port) for target in route.destinations)
        mirrors = tuple(
            Mirror(self.destination(mirror.destination, origin.namespace, port), mirror.pct)
            for mirror in route.mirrors
        )
        return RouteRule(
            action=route.answer if route.answer is not None else Forward(targets),
            name=route.name,
            policy=origin.title,
            matches=matches,
            rewrite=route.rewrite,
            timeout_s=route.timeout_s or None,
            retry=route.retry if route.retry is not None else DEFAULT_RETRY,
            fault=route.fault,
            request_headers=route.request_headers,
            response_headers=route.response_headers,
            mirrors=mirrors,
            cors=route.cors,
            via=root.title if route.origin is not None else "",
        )

    def gateway_rule(self, entry: RankedRule) -> RouteRule:
        rule = entry.rule
        mirrors = tuple(Mirror(self._backend(entry, mirror.backend), mirror.pct) for mirror in rule.mirrors)
        targets = tuple(self._backend(entry, backend) for backend in rule.backends)
        if not any(target.weight for target in targets):
            targets = (_refused(entry, f"{entry.route.meta.title}: the rule has no backend"),)
        return RouteRule(
            action=rule.redirect if rule.redirect is not None else Forward(targets),
            name=rule.name,
            policy=entry.route.meta.title,
            matches=(entry.match.request,),
            rewrite=rule.rewrite,
            timeout_s=rule.timeout_s,
            retry=rule.retry if rule.retry is not None else DEFAULT_RETRY,
            request_headers=rule.request_headers,
            response_headers=rule.response_headers,
            mirrors=mirrors,
            cors=rule.cors,
        )

    def _backend(self, entry: RankedRule, backend: BackendDoc) -> Destination:
        name = backend.host.host
        refusal = refusal_of(self.gateway, entry.route, backend, self.directory)
        host = self.directory.resolve(name, backend.namespace)
        if refusal or host is None:
            return _refused(entry, refusal or f"no service is called {name}", name, backend.weight)
        cluster, services = self.clusters.add(host, backend.port, affinity=entry.rule.affinity)
        return Destination(
            cluster,
            backend.weight,
            host.label if backend.namespace != self.caller.name.namespace else name,
            services=services,
            request_headers=backend.request_headers,
            response_headers=backend.response_headers,
        )

    def destination(self, target: DestinationDoc, namespace: str, port: int) -> Destination:
        """A destination with its cluster."""
        host = self.directory.resolve(target.host.host, namespace) or self.external.get(target.host.host)
        if host is None:
            # an unknown host is an empty cluster, so that its requests fail loudly instead of matching on
            host = LogicalHost(target.host.host, namespace, (target.host.host,))
        number = destination_port(host, target.port, port)
        name, services = self.clusters.add(host, number, target.subset)
        return Destination(
            name,
            target.weight,
            target.host.host,
            target.subset,
            services,
            target.request_headers,
            target.response_headers,
        )

    def _is_source(self, labels: Mapping[str, str], namespace: str) -> bool:
        if namespace and namespace != self.caller.name.namespace:
            return False
        return labels.items() <= self.caller.labels.items()

    def _tcp_holds(self, match: TcpMatchDoc, port: int) -> bool:
        return match.port in (None, port) and self._is_source(match.source_labels, match.source_namespace)


def _refused(entry: RankedRule, why: str, host: str = "", weight: int = 1) -> Destination:
    """An invalid backend: 500, and for calls of gRPC what their clients read as UNAVAILABLE."""
    status = 503 if entry.route.is_grpc else 500
    return Destination("", weight, host, refusal=why, refusal_status=status)
