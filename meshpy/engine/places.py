"""Where a destination that a person names is: host names, listeners and services of it in the snapshots."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from meshpy.engine.prepared import Prepared
from meshpy.model.ingress import IngressServer
from meshpy.model.names import ServiceName
from meshpy.model.route import Destination, Forward
from meshpy.model.snapshot import OutboundListener, Snapshot

__all__ = ["Place", "authority_of", "place_of", "ports_of", "served", "server_of"]

Snapshots = Mapping[ServiceName, Snapshot]

_SUFFIXES = (".svc.cluster.local", ".svc")


@dataclass(frozen=True, slots=True)
class Place:
    """A destination.

    Args:
        text: as it was asked for.
        hosts: every name that it may have in a listener, the likeliest first, lower case.
        services: who stands behind it, sorted.
        published: of a host of the world: the ports at which it is served.
    """

    text: str
    hosts: tuple[str, ...]
    services: tuple[ServiceName, ...] = ()
    published: tuple[int, ...] = ()

    def listener(self, caller: Snapshot, port: int) -> OutboundListener | None:
        """Where the caller's calls to it arrive; one whose default host takes them comes last."""
        there = [listener for listener in caller.outbound if listener.port == port]
        for host in self.hosts:
            for listener in there:
                if host in _domains(listener):
                    return listener
        return None


def authority_of(destination: str, port: int | None) -> str:
    """The Host that a caller of `api` or `shop/api` would send: `api:8080`, `api.shop:8080`."""
    namespace, _, name = destination.lower().rpartition("/")
    host = f"{name}.{namespace}" if namespace else name
    return f"{host}:{port}" if port is not None else host


def _domains(listener: OutboundListener) -> set[str]:
    if routes := listener.tcp_routes():
        hosts = {route.host.lower() for route in routes}
        return hosts | {name for route in routes for name in route.sni_hosts}
    names = {domain for item in listener.virtual_hosts for domain in item.domains}
    return names | {item.host.lower() for item in listener.virtual_hosts}


def _names(text: str, namespace: str) -> tuple[str, ...]:
    """`shop/api` and `api` as hosts: short name, `api.shop`, and the long forms cut back to it."""
    where, slash, name = text.lower().rpartition("/")
    if slash:
        return (f"{name}.{where}", *((name,) if where == namespace.lower() else ()))
    short = name
    for suffix in _SUFFIXES:
        short = short.removesuffix(suffix)
    bare = short.removeprefix("tasks.").removeprefix(f"{namespace.lower()}_")
    found = [name, short, bare, f"{bare}.{namespace.lower()}" if namespace else bare]
    return tuple(dict.fromkeys(found))


def place_of(snapshots: Prepared, text: str, caller: Snapshot | None) -> Place | None:
    """Find a destination by the name that `caller` uses, or by `namespace/service`; None when unknown."""
    namespace = caller.workload.name.namespace if caller is not None else _only_namespace(snapshots)
    hosts = _names(text, namespace)
    labels = set(hosts)
    if caller is not None and any(labels & _domains(listener) for listener in caller.outbound):
        return Place(text, hosts, _behind((caller,), labels))
    direct = tuple(name for name in snapshots if f"{name.name}.{name.namespace}".lower() in labels)
    services = direct or _behind(snapshots.speaking_of(labels), labels)
    return Place(text, hosts, services) if services else None


def _only_namespace(snapshots: Snapshots) -> str:
    namespaces = {name.namespace for name in snapshots}
    return namespaces.pop() if len(namespaces) == 1 else "default"


def _behind(snapshots: Iterable[Snapshot], labels: set[str]) -> tuple[ServiceName, ...]:
    """The services that routes to one of these hosts name."""
    found: set[ServiceName] = set()
    for snapshot in snapshots:
        for listener in snapshot.outbound:
            for host, destination in _destinations(listener):
                if host in labels:
                    found.update(destination.services)
    return tuple(sorted(found))


def _destinations(listener: OutboundListener) -> Iterator[tuple[str, Destination]]:
    for route in listener.tcp_routes():
        for destination in route.destinations:
            yield route.host.lower(), destination
    for host in listener.virtual_hosts:
        for rule in host.rules:
            if isinstance(rule.action, Forward):
                for destination in rule.action.destinations:
                    yield host.host.lower(), destination
                    for domain in host.domains:
                        yield domain, destination


def server_of(snapshots: Snapshots, service: ServiceName, published: int) -> IngressServer | None:
    """The server of a service at a published port."""
    servers = snapshots[service].servers if service in snapshots else ()
    return next((each for each in servers if each.published == published), None)


def served(snapshots: Snapshots, text: str, port: int | None) -> Place | None:
    """A host of the world, as servers of published ports name theirs; one for all hosts is known by its port.

    A name with a dot at a published port is a host of the world, whether a server is for it or not.
    """
    host = text.lower()
    there = [
        (name, server)
        for name, snapshot in snapshots.items()
        for server in snapshot.servers
        if port in (None, server.published)
    ]
    found = [each for each in there if _is_for(each[1], host, is_asked=port is not None)]
    if not found and port is not None and "." in host:
        found = there
    services, ports = {name for name, _ in found}, {server.published for _, server in found}
    return Place(text, (host,), tuple(sorted(services)), tuple(sorted(ports))) if found else None


def _is_for(server: IngressServer, host: str, *, is_asked: bool) -> bool:
    if server.tls:
        return server.tls_for(host) is not None
    return (bool(server.hosts) or is_asked) and server.is_for(host)


def ports_of(snapshots: Snapshots, place: Place, caller: Snapshot | None) -> list[int]:
    """The ports that the caller can use there; without any, those that its services have."""
    if caller is not None:
        names = set(place.hosts)
        ports = {listener.port for listener in caller.outbound if names & _domains(listener)}
        if ports:
            return sorted(ports)
    if place.published:
        return list(place.published)
    services = [snapshots[name] for name in place.services if name in snapshots]
    if caller is None and (open_ports := {port for each in services for port in each.open_ports}):
        return sorted(open_ports)
    return sorted({port.port for snapshot in services for port in snapshot.inbound})
