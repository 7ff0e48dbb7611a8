"""Where one caller's calls arrive: a listener per (bind, port), and what cannot share one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from meshpy.compile.hosts import Directory, LogicalHost
from meshpy.compile.routes import RouteTable
from meshpy.errors import Place, Problem
from meshpy.model.endpoint import Protocol
from meshpy.model.inventory import Service
from meshpy.model.route import TcpRoute, VirtualHost
from meshpy.model.snapshot import OutboundListener
from meshpy.policy.kinds import DestinationDoc, VirtualServiceDoc

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
    """Hosts that exist only as a VirtualService's `hosts`: on the ports of its destinations."""
    taken = {name for host in known for name in host.domains}
    found: list[LogicalHost] = []
    for label, documents in sorted(routes.documents.by_label.items()):
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
    """`http` routes lead to HTTP ports, `tls` routes to TLS ports, `tcp` routes to other opaque ones."""
    found: dict[int, Protocol] = {}
    for sort, target, namespace in _targets(document):
        host = directory.resolve(target.host.host, namespace)
        for port, protocol in host.ports.items() if host is not None else ():
            if target.port in (None, port) and _sort_of(protocol) == sort:
                found.setdefault(port, protocol)
    return found


def _targets(document: VirtualServiceDoc) -> Iterator[tuple[str, DestinationDoc, str]]:
    own = document.meta
    for route in document.http:
        yield from (("http", target, (route.origin or own).namespace) for target in route.destinations)
    for sort, routes in (("tls", document.tls), ("tcp", document.tcp)):
        for each in routes:
            yield from ((sort, target, own.namespace) for target in each.destinations)


def _sort_of(protocol: Protocol) -> str:
    return "http" if protocol.is_http else "tls" if protocol is Protocol.TLS else "tcp"


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
        sniffed = [host for host in http if host.ports[port] is Protocol.AUTO]
        if sniffed and len(members) > 1:
            clashes.append(_clash(caller, port, sniffed + [each for each in members if each not in sniffed]))
        opaque = [host for host in members if not host.ports[port].is_http]
        are_told_apart = not http and all(host.ports[port] is Protocol.TLS for host in opaque)
        if opaque and (len(opaque) > 1 or http) and not are_told_apart and not sniffed:
            clashes.append(_clash(caller, port, opaque + http))
        if http:
            outbound.append(_http(routes, bind, port, http))
        elif len(opaque) == 1:
            found = routes.opaque_routes(opaque[0], port)
            protocol = opaque[0].ports[port]
            outbound.append(
                OutboundListener(bind, port, protocol, tcp=found.default, opaque=found.conditional)
            )
        elif are_told_apart:
            outbound.append(_by_server_name(routes, bind, port, opaque))
    return Listeners(tuple(outbound), tuple(clashes))


def _by_server_name(routes: RouteTable, bind: str, port: int, hosts: list[LogicalHost]) -> OutboundListener:
    """Several TLS destinations on one address: the ClientHello's server name tells which is meant."""
    taken: set[str] = set()
    rules: list[TcpRoute] = []
    for host in hosts:
        found = routes.opaque_routes(host, port)
        names = tuple(name for name in host.domains if name not in taken)
        taken.update(names)
        rules += [
            route if route.sni_hosts else replace(route, sni_hosts=names) for route in found.conditional
        ]
        rules.append(replace(found.default, sni_hosts=names))
    return OutboundListener(bind, port, Protocol.TLS, opaque=tuple(rules))


def _http(routes: RouteTable, bind: str, port: int, hosts: list[LogicalHost]) -> OutboundListener:
    taken: set[str] = set()
    virtual_hosts: list[VirtualHost] = []
    for host in hosts:
        domains = tuple(name for name in host.domains if name not in taken)
        taken.update(domains)
        virtual_hosts.append(VirtualHost(host.label, domains, routes.http_rules(host, port)))
    protocols = {host.ports[port] for host in hosts}
    if len(hosts) == 1 and protocols == {Protocol.AUTO}:
        found = routes.opaque_routes(hosts[0], port)
        only = virtual_hosts[0]
        return OutboundListener(
            bind, port, Protocol.AUTO, (only,), only.host, tcp=found.default, opaque=found.conditional
        )
    protocols.discard(Protocol.AUTO)  # of several hosts only a request's authority tells which is meant
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
        f"(meshpy.binds: {hosts[0].name}=NETWORK), or declare http or tls in meshpy.ports"
    )
    return Problem(Place(key=str(caller.name)), what, instead)
