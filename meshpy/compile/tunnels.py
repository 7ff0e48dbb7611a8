"""Where CONNECT is let through: to the destinations of rules that match the method by name, no others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping

from meshpy.compile.delegates import expanded
from meshpy.compile.hosts import Directory, LogicalHost
from meshpy.engine.match import is_connect
from meshpy.errors import Place
from meshpy.model.endpoint import Protocol
from meshpy.model.names import ServiceName
from meshpy.policy import PolicySet

__all__ = ["connect_ports", "connect_targets"]


Target = tuple[str, Place, LogicalHost, int | None]
"""Who names it and where, the host, and the port if one is written."""


def connect_ports(policies: PolicySet, directory: Directory) -> Mapping[ServiceName, frozenset[int]]:
    """The ports of services at which a CONNECT may arrive."""
    found: dict[ServiceName, set[int]] = defaultdict(set)
    for _, _, host, port in connect_targets(policies, directory):
        for number, protocol in host.ports.items():
            if protocol is Protocol.HTTP and port in (None, number):
                for service in host.services:
                    found[service].add(number)
    return {service: frozenset(ports) for service, ports in found.items()}


def connect_targets(policies: PolicySet, directory: Directory) -> Iterator[Target]:
    """The destinations of rules that name CONNECT."""
    for document in expanded(policies.virtual_services):
        for route in document.http:
            if any(is_connect(match.request) for match in route.matches):
                origin = route.origin or document.meta
                for target in route.destinations:
                    if (host := directory.resolve(target.host.host, origin.namespace)) is not None:
                        yield origin.title, target.host.place, host, target.port
    for attached in policies.gateway_routes:
        for rule in attached.rules:
            if any(is_connect(match.request) for match in rule.matches):
                for backend in rule.backends:
                    if (host := directory.resolve(backend.host.host, backend.namespace)) is not None:
                        yield attached.meta.title, backend.host.place, host, backend.port
