"""VirtualServices -> the rules of one caller's hosts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from meshpy.compile.clusters import ClusterTable
from meshpy.compile.hosts import Directory, LogicalHost
from meshpy.model.inventory import Service
from meshpy.model.names import ROOT_NAMESPACE
from meshpy.model.resilience import DEFAULT_RETRY
from meshpy.model.route import Destination, Forward, RouteRule, TcpRoute
from meshpy.policy.kinds import DestinationDoc, HttpRouteDoc, TcpMatchDoc, VirtualServiceDoc

__all__ = ["DocumentIndex", "RouteTable", "destination_port", "document_index", "governing", "is_visible"]


def is_visible(document: VirtualServiceDoc, host: LogicalHost, caller_namespace: str) -> bool:
    """Who sees a VirtualService: its own namespace, and everybody when it is the host's or the root's.

    A stack cannot route another stack's callers to itself (ISTIO-SECURITY-2026-002).
    """
    namespace = document.meta.namespace
    if namespace == caller_namespace:
        return True
    return not document.is_private and namespace in (host.namespace, ROOT_NAMESPACE)


DocumentIndex: TypeAlias = Mapping[str, tuple[VirtualServiceDoc, ...]]
"""VirtualServices by the label of each host that they name."""


def document_index(documents: Iterable[VirtualServiceDoc], directory: Directory) -> DocumentIndex:
    """Resolve each document's hosts once."""
    found: dict[str, dict[int, VirtualServiceDoc]] = defaultdict(dict)
    for number, document in enumerate(documents):
        for ref in document.hosts:
            found[directory.label_of(ref.host, document.meta.namespace)][number] = document
    return {label: tuple(members.values()) for label, members in found.items()}


def governing(
    documents: DocumentIndex, host: LogicalHost, caller_namespace: str
) -> tuple[VirtualServiceDoc, ...]:
    """The VirtualServices for a host that a caller sees, the one that counts first.

    The caller's own namespace precedes the host's, which precedes the root's. A second one of the same
    namespace is an error of `check` and has no effect.
    """
    rank = {ROOT_NAMESPACE: 2, host.namespace: 1, caller_namespace: 0}
    found = [doc for doc in documents.get(host.label, ()) if is_visible(doc, host, caller_namespace)]
    return tuple(sorted(found, key=lambda doc: (rank.get(doc.meta.namespace, 3), doc.meta.name)))


def destination_port(target: LogicalHost, wanted: int | None, listener_port: int) -> int:
    """The given port, else the only one, else the one that was called (Istio)."""
    if wanted is not None:
        return wanted
    return next(iter(target.ports)) if len(target.ports) == 1 else listener_port


@dataclass(frozen=True, slots=True)
class RouteTable:
    """Makes routes for one caller and puts the clusters they need into `clusters`."""

    directory: Directory
    documents: DocumentIndex
    caller: Service
    clusters: ClusterTable
    external: Mapping[str, LogicalHost]

    def document_for(self, host: LogicalHost) -> VirtualServiceDoc | None:
        found = governing(self.documents, host, self.caller.name.namespace)
        return found[0] if found else None

    def http_rules(self, host: LogicalHost, port: int) -> tuple[RouteRule, ...]:
        """What becomes of a request to `host`; a VirtualService with HTTP routes replaces the default."""
        document = self.document_for(host)
        if document is None or not document.http:
            return (RouteRule(Forward((self._default(host, port),))),)
        rules = (self._rule(route, document, port) for route in document.http)
        return tuple(rule for rule in rules if rule is not None)

    def tcp_route(self, host: LogicalHost, port: int) -> TcpRoute:
        """The first route whose conditions hold; all of them are settled here."""
        document = self.document_for(host)
        for route in document.tcp if document is not None else ():
            holds = not route.matches or any(self._tcp_holds(match, port) for match in route.matches)
            if document is not None and holds:
                namespace = document.meta.namespace
                targets = tuple(self._destination(t, namespace, port) for t in route.destinations)
                return TcpRoute(host.label, targets, document.meta.title)
        return TcpRoute(host.label, (self._default(host, port),))

    def _default(self, host: LogicalHost, port: int) -> Destination:
        name, services = self.clusters.add(host, port)
        return Destination(name, host=host.label, services=services)

    def _rule(self, route: HttpRouteDoc, document: VirtualServiceDoc, port: int) -> RouteRule | None:
        matches = tuple(
            match.request
            for match in route.matches
            if self._is_source(match.source_labels, match.source_namespace)
            and match.request.port in (None, port)
        )
        if route.matches and not matches:
            return None
        namespace = document.meta.namespace
        targets = tuple(self._destination(target, namespace, port) for target in route.destinations)
        return RouteRule(
            action=route.answer if route.answer is not None else Forward(targets),
            name=route.name,
            policy=document.meta.title,
            matches=matches,
            rewrite=route.rewrite,
            timeout_s=route.timeout_s,
            retry=route.retry if route.retry is not None else DEFAULT_RETRY,
            fault=route.fault,
            request_headers=route.request_headers,
            response_headers=route.response_headers,
        )

    def _destination(self, target: DestinationDoc, namespace: str, port: int) -> Destination:
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
