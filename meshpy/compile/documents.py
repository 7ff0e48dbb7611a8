"""Which VirtualService governs a host for a caller."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from meshpy.compile.bindings import gateways_of
from meshpy.compile.delegates import expanded
from meshpy.compile.hosts import Directory, LogicalHost
from meshpy.model.names import ROOT_NAMESPACE
from meshpy.model.route import DirectResponse
from meshpy.policy.route_docs import OF_MESH, GatewayRef, HttpRouteDoc, VirtualServiceDoc

__all__ = ["DocumentIndex", "document_index", "governing", "is_visible", "seen_at"]


def is_visible(document: VirtualServiceDoc, host: LogicalHost, caller_namespace: str) -> bool:
    """Who sees a VirtualService: its own namespace, and everybody when it is the host's or the root's.

    A stack cannot route another stack's callers to itself (ISTIO-SECURITY-2026-002).
    """
    namespace = document.meta.namespace
    if not document.is_exported_to(caller_namespace):
        return False
    return namespace in (caller_namespace, host.namespace, ROOT_NAMESPACE)


def seen_at(gateway: GatewayRef, documents: Iterable[VirtualServiceDoc]) -> Iterator[VirtualServiceDoc]:
    """What applies at a Gateway, or at `mesh`: a match that names gateways is for these alone (Istio)."""
    for document in documents:
        named = gateways_of(document)
        if all(ref == gateway for ref in named):
            yield document
        elif any(ref == gateway for ref in named):
            http = tuple(_routes_at(gateway, document))
            lost = (HttpRouteDoc(document.meta.place, answer=DirectResponse(404)),) if document.http else ()
            yield replace(document, http=http or lost)


def _routes_at(gateway: GatewayRef, document: VirtualServiceDoc) -> Iterator[HttpRouteDoc]:
    is_for_all = gateway in document.gateways
    for route in document.http:
        matches = tuple(m for m in route.matches if (gateway in m.gateways if m.gateways else is_for_all))
        if matches or (not route.matches and is_for_all):
            yield replace(route, matches=matches)


@dataclass(frozen=True, slots=True)
class DocumentIndex:
    """VirtualServices by the label of each host that they name, and by wildcard, the most specific first."""

    by_label: Mapping[str, tuple[VirtualServiceDoc, ...]]
    wildcards: tuple[tuple[str, tuple[VirtualServiceDoc, ...]], ...] = ()

    def candidates(self, host: LogicalHost) -> Iterator[tuple[VirtualServiceDoc, ...]]:
        """Those that mean the host, the most specific name first."""
        if (exact := self.by_label.get(host.label)) is not None:
            yield exact
        names = (host.label, *host.domains) if host.namespace else host.domains
        for suffix, documents in self.wildcards:
            if any(name.endswith(suffix) for name in names if "." in name or not suffix):
                yield documents


def document_index(documents: Iterable[VirtualServiceDoc], directory: Directory) -> DocumentIndex:
    """Resolve each document's hosts once; delegations are carried out."""
    found: dict[str, dict[int, VirtualServiceDoc]] = defaultdict(dict)
    wild: dict[str, dict[int, VirtualServiceDoc]] = defaultdict(dict)
    for number, document in enumerate(seen_at(OF_MESH, expanded(documents))):
        for ref in document.hosts:
            if ref.host.startswith("*"):
                wild[ref.host[1:]][number] = document
            else:
                found[directory.label_of(ref.host, document.meta.namespace)][number] = document
    ordered = sorted(wild.items(), key=lambda item: (-len(item[0]), item[0]))
    return DocumentIndex(
        {label: tuple(members.values()) for label, members in found.items()},
        tuple((suffix, tuple(members.values())) for suffix, members in ordered),
    )


def governing(
    documents: DocumentIndex, host: LogicalHost, caller_namespace: str
) -> tuple[VirtualServiceDoc, ...]:
    """The VirtualServices for a host that a caller sees, the one that counts first.

    The most specific name wins. Among equals the caller's own namespace precedes the host's, which precedes
    the root's. A second one of the same namespace is an error of `check` and has no effect.
    """
    rank = {ROOT_NAMESPACE: 2, host.namespace: 1, caller_namespace: 0}
    for candidates in documents.candidates(host):
        found = [doc for doc in candidates if is_visible(doc, host, caller_namespace)]
        if found:
            return tuple(sorted(found, key=lambda doc: (rank.get(doc.meta.namespace, 3), doc.meta.name)))
    return ()
