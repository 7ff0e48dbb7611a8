"""Where one caller's calls arrive: a listener per (bind, port), and what cannot share one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from meshpy.compile.hosts import Directory, LogicalHost
from meshpy.compile.routes import RouteTable
from meshpy.errors import Place, Problem
from meshpy.model.endpoint import Protocol
from meshpy.model.inventory import Service
from meshpy.model.route import VirtualHost
from meshpy.model.snapshot import OutboundListener
from meshpy.policy.kinds import VirtualServiceDoc

__all__ = ["Listeners", "default_bind", "listeners_of", "routed_hosts"]


@dataclass(frozen=True, slots=True)
class Listeners:
    """`clashes` name what has no listener because the local address cannot tell destinations apart."""

    outbound: tuple[OutboundListener, ...]
    clashes: tuple[Problem, ...]


def default_bind(caller: Service) -> str:
    """The address or network for hosts that have none of their own: the pod network."""
    return caller.bind.get("", f"{caller.name.swarm_name}-pod")


def _binds(caller: Service, host: LogicalHost) -> tuple[str, ...]:
    """Every bind that some name of the host has (the demo gives each dependency its address)."""
    bind = {name.lower(): where for name, where in caller.bind.items() if name}
    found = dict.fromkeys(bind[name] for name in host.domains if name in bind)
    return tuple(found) or (default_bind(caller),)


def routed_hosts(routes: RouteTable, known: Iterable[LogicalHost]) -> tuple[LogicalHost, ...]:
    """Hosts that exist only as a VirtualService's `hosts`: on the HTTP ports of its destinations."""
    taken = {name for host in known for name in host.domains}
    found: list[LogicalHost] = []
    for label, documents in sorted(routes.documents.items()):
        if label in taken or label in routes.directory.labels:
            continue
        ports: dict[int, Protocol] = {}
        for document in documents:
            if document.meta.namespace == routes.caller.name.namespace:
                ports |= _destination_ports(document, routes.directory)
        if ports:
            found.append(LogicalHost(label, "", (label,), (), ports))
    return tuple(found)


def _destination_ports(document: VirtualServiceDoc, directory: Directory) -> dict[int, Protocol]:
    targets = [target for route in document.http for target in route.destinations]
    hosts = [
        (target.port, directory.resolve(target.host.host, document.meta.namespace)) for target in targets
    ]
    return {
        port: protocol
        for wanted, host in hosts
        if host is not None
        for port, protocol in host.ports.items()
        if protocol.is_http and wanted in (None, port)
    }


def listeners_of(routes: RouteTable, hosts: Iterable[LogicalHost]) -> Listeners:
    """Lay hosts onto listeners; `hosts` in the order in which they may claim a name."""
    caller = routes.caller
    table: dict[tuple[str, int], list[LogicalHost]] = defaultdict(list)
    for host in hosts:
        for port in host.ports:
            for bind in _binds(caller, host):
                table[bind, port].append(host)
    outbound: list[OutboundListener] = []
    clashes: list[Problem] = []
    for (bind, port), members in sorted(table.items()):
        http = [host for host in members if host.ports[port].is_http]
        opaque = [host for host in members if not host.ports[port].is_http]
        if opaque and (len(opaque) > 1 or http):
            clashes.append(_clash(caller, port, opaque + http))
        if http:
            outbound.append(_http(routes, bind, port, http))
        elif len(opaque) == 1:
            route = routes.tcp_route(opaque[0], port)
            outbound.append(OutboundListener(bind, port, opaque[0].ports[port], tcp=route))
    return Listeners(tuple(outbound), tuple(clashes))


def _http(routes: RouteTable, bind: str, port: int, hosts: list[LogicalHost]) -> OutboundListener:
    taken: set[str] = set()
    virtual_hosts: list[VirtualHost] = []
    for host in hosts:
        domains = tuple(name for name in host.domains if name not in taken)
        taken.update(domains)
        virtual_hosts.append(VirtualHost(host.label, domains, routes.http_rules(host, port)))
    protocols = {host.ports[port] for host in hosts}
    return OutboundListener(
        bind,
        port,
        protocols.pop() if len(protocols) == 1 else Protocol.HTTP,
        tuple(virtual_hosts),
        virtual_hosts[0].host if len(virtual_hosts) == 1 else "",
    )


def _clash(caller: Service, port: int, hosts: list[LogicalHost]) -> Problem:
    first, second = (f"{host.label} ({host.ports[port].value})" for host in hosts[:2])
    what = f"{caller.name} reaches {first} and {second} on port {port} of one address"
    instead = (
        "opaque bytes do not tell which is meant: give one a network of its own "
        f"(meshpy.binds: {hosts[0].name}=NETWORK), or declare http in meshpy.ports"
    )
    return Problem(Place(key=str(caller.name)), what, instead)
