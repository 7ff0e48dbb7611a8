"""What listeners offer: hosts by authority, the services behind them, server names of opaque ones."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence

from meshpy.analysis.partition import Matcher
from meshpy.engine.prepared import Prepared
from meshpy.model.match import Exact, StringMatch, Suffix
from meshpy.model.names import ServiceName
from meshpy.model.route import Forward, RouteRule, VirtualHost
from meshpy.model.snapshot import OutboundListener

__all__ = [
    "domains_matcher",
    "hosts_of",
    "listeners_of",
    "ports_of",
    "region_matchers",
    "rules_of",
    "server_names",
    "services_behind",
    "services_behind_opaque",
]


def listeners_of(side: Prepared, name: ServiceName) -> dict[tuple[str, int], OutboundListener]:
    if name not in side:
        return {}
    return {(listener.bind, listener.port): listener for listener in side[name].outbound}


def ports_of(side: Prepared, name: ServiceName, *, edge: bool = False) -> list[int]:
    if name not in side:
        return []
    return [item.port for item in side[name].inbound if not edge or item.port in side[name].open_ports]


def hosts_of(before: OutboundListener | None, after: OutboundListener | None) -> list[VirtualHost]:
    return [host for listener in (before, after) if listener for host in listener.virtual_hosts]


def region_matchers(
    hosts: Sequence[VirtualHost], old: str | None, new: str | None, *, overlap: bool
) -> list[Matcher]:
    """What cuts a region out of all authorities: its own domains, or all where a wildcard may overlap."""
    chosen = [host for host in hosts if overlap or None in (old, new) or host.host in (old, new)]
    return list(dict.fromkeys(domains_matcher(host) for host in chosen))


def domains_matcher(host: VirtualHost) -> Matcher:
    return _domain_matcher(host.host, host.domains)


@functools.lru_cache(maxsize=4096)
def _domain_matcher(host: str, domains: tuple[str, ...]) -> Matcher:
    matches: tuple[StringMatch, ...] = tuple(
        Suffix(domain[1:]) if domain.startswith("*.") else Exact(domain)
        for domain in domains
        if domain != "*"
    )
    return Matcher(host, matches, part=0, fold=True)


def rules_of(listener: OutboundListener | None, host: str | None) -> tuple[RouteRule, ...]:
    hosts = listener.virtual_hosts if listener is not None else ()
    return next((item.rules for item in hosts if item.host == host), ())


def services_behind(rules: Iterable[RouteRule]) -> set[ServiceName]:
    return {
        service
        for rule in rules
        if isinstance(rule.action, Forward)
        for destination in rule.action.destinations
        for service in destination.services
    }


def services_behind_opaque(listener: OutboundListener | None) -> set[ServiceName]:
    routes = listener.tcp_routes() if listener is not None else ()
    return {name for route in routes for target in route.destinations for name in target.services}


def server_names(before: OutboundListener | None, after: OutboundListener | None) -> list[str]:
    """One server name for each that an opaque route asks for, and none at all."""
    routes = [route for listener in (before, after) if listener for route in listener.tcp_routes()]
    asked = [name.replace("*", "x") for route in routes for name in route.sni_hosts]
    return list(dict.fromkeys(("", *asked)))
