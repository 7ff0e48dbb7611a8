"""HTTPLocalRateLimitPolicies -> the limits of one workload, and what of them cannot be meant."""

from __future__ import annotations

from collections import defaultdict

from meshpy.compile.findings import Notes, listed
from meshpy.compile.hosts import Directory
from meshpy.model.inventory import Service
from meshpy.model.names import ServiceName
from meshpy.model.rate_limit import RateLimit
from meshpy.policy import PolicySet
from meshpy.policy.kinds import RateLimitDoc

__all__ = ["check_rate_limits", "rate_limits_of"]


def _services_of(document: RateLimitDoc, directory: Directory) -> tuple[ServiceName, ...]:
    host = directory.resolve(document.target.name, document.target.namespace)
    return host.services if host is not None and host.namespace == document.target.namespace else ()


def rate_limits_of(service: Service, policies: PolicySet, directory: Directory) -> tuple[RateLimit, ...]:
    """The limits at the sidecar of a service, in the order of their names."""
    meant = [doc for doc in policies.rate_limits if service.name in _services_of(doc, directory)]
    return tuple(doc.limit for doc in sorted(meant, key=lambda doc: (doc.meta.namespace, doc.meta.name)))


def check_rate_limits(policies: PolicySet, directory: Directory, notes: Notes) -> None:
    """Targets and clients that are not there, ports without HTTP, two policies for all of one service."""
    known = {str(name) for name in directory.inventory.services}
    whole: dict[ServiceName, list[RateLimitDoc]] = defaultdict(list)
    for document in policies.rate_limits:
        title, namespace = document.meta.title, document.meta.namespace
        services = _services_of(document, directory)
        if not services:
            what = f"{title}: {namespace} has no service {document.target.name}"
            instead = f"write the name of one; {listed(known)}"
            notes.missing(document.target.place, what, instead, expected=namespace in directory.namespaces)
        for name in services:
            service = directory.inventory.services[name]
            if service.ports and not any(port.protocol.is_http for port in service.ports):
                what = f"{title}: {name} has opaque ports only, there is no request to count"
                notes.error(document.target.place, what, "declare http in meshpy.ports, or remove the policy")
            if not document.limit.matches:
                whole[name].append(document)
        for place, override in zip(document.override_places, document.limit.overrides, strict=True):
            for client in override.clients:
                if client.namespace in directory.namespaces and str(client) not in known:
                    notes.warning(place, f"no service {client} is known", listed(known))
    for name, documents in whole.items():
        for document in documents[1:]:
            what = f"{document.meta.title} and {documents[0].meta.title} both limit all of {name}"
            notes.error(document.target.place, what, "keep one of them, or write `matches` in one")
