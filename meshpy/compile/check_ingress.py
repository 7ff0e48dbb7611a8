"""Findings on Gateways and what is bound to them: ports, secrets, hosts, servers that exclude each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from meshpy.compile.findings import Notes, listed
from meshpy.compile.ingress import Offer, gateway_servers, misfit, narrower, offers_of, picks
from meshpy.compile.snapshot import Mesh
from meshpy.errors import Place
from meshpy.model.inventory import GatewayPort, Service
from meshpy.policy.gateway_kinds import GatewayDoc, ServerDoc
from meshpy.policy.route_docs import OF_MESH, GatewayRef

__all__ = ["check_gateways"]


def check_gateways(mesh: Mesh, notes: Notes) -> None:
    """Check every Gateway against the services that it picks, and every route against its Gateway."""
    services = [each for each in mesh.directory.inventory.services.values() if not each.exempt]
    for gateway in mesh.policies.gateways:
        for server in gateway.servers:
            _check_server(gateway, server, [each for each in services if picks(gateway, each)], mesh, notes)
    for service in services:
        for port, offers in offers_of(service, mesh.policies.gateways).items():
            _check_port(service, port, offers, notes)
    _check_bindings(mesh, notes)


def _check_server(
    gateway: GatewayDoc, server: ServerDoc, picked: Sequence[Service], mesh: Mesh, notes: Notes
) -> None:
    title, expected = gateway.meta.title, gateway.meta.namespace in mesh.directory.namespaces
    if not picked:
        what = f"{title}: its selector picks no service of {gateway.meta.namespace}"
        notes.missing(
            gateway.meta.place, what, "write labels of the service that publishes", expected=expected
        )
        return
    if any(server.port == port.published for each in picked for port in each.gateway_ports):
        return
    names = ", ".join(str(each.name) for each in picked)
    what = f"{title}: none of {names} leaves a published port {server.port} to Gateways"
    instead = f'write meshpy.gateway: "{server.port}" below deploy.labels of the service, and deploy it'
    notes.missing(server.place, what, instead, expected=True)


def _check_port(service: Service, port: GatewayPort, offers: Sequence[Offer], notes: Notes) -> None:
    first, opened = offers[0], gateway_servers(service, [offer.gateway for offer in offers])
    spoken = next((each.protocol for each in service.ports if each.number == port.target), None)
    for number, offer in enumerate(offers):
        server, title = offer.server, offer.gateway.meta.title
        if (server.tls is None, server.redirects) != (first.server.tls is None, first.server.redirects):
            what = f"{title}: port {port.published} has another kind of server at {first.server.place}"
            notes.error(
                server.place, what, "a port ends TLS, redirects, or is in plaintext: write one of these"
            )
            continue
        found = (
            misfit(server.tls.mode if server.tls is not None else None, server.protocol, spoken)
            if spoken
            else None
        )
        if found is not None and not server.redirects:
            notes.error(server.place, f"{title}: {found[0]}", found[1])
        _check_secrets(service, server, title, notes)
        if server.redirects and not any(each.published == port.published for each in opened):
            what = f"{title}: there is no port with TLS to redirect to"
            notes.error(server.place, what, "add a server with tls: {mode: SIMPLE, credentialName: NAME}")
        for earlier in offers[:number]:
            for host in server.hosts:
                if any(host.host == other.host for other in earlier.server.hosts) and server.tls is not None:
                    where = f"port {port.published} has a server for {host.host} at {earlier.server.place}"
                    notes.error(server.place, f"{title}: {where}", "remove one of them")


def _check_secrets(service: Service, server: ServerDoc, title: str, notes: Notes) -> None:
    for key, what in server.tls.secrets(service.credentials) if server.tls is not None else ():
        if key not in service.credentials:
            names = f"{title}: the sidecar of {service.name} has no secret {key} ({what})"
            instead = (
                f"write meshpy.credentials below deploy.labels of the service; {listed(service.credentials)}"
            )
            notes.error(server.place, names, instead)


def _check_bindings(mesh: Mesh, notes: Notes) -> None:
    known = {(each.meta.namespace, each.meta.name): each for each in mesh.policies.gateways}
    for title, place, ref, hosts, is_istio in _bindings(mesh):
        gateway = known.get(ref.key)
        if gateway is None or (gateway.selector is not None) != is_istio:
            what = f"{title}: no Gateway is called {ref.namespace}/{ref.name}"
            names = [f"{space}/{name}" for space, name in known]
            notes.missing(ref.place, what, f"write NAMESPACE/NAME; {listed(names)}", expected=True)
            continue
        servers = [each for each in gateway.servers if ref.section in ("", each.name)]
        servers = [each for each in servers if ref.port in (None, each.port)]
        if not servers:
            names = [f"{each.name} ({each.port})" for each in gateway.servers]
            notes.error(ref.place, f"{title}: {gateway.meta.title} has no such listener", listed(names))
        open_to = [
            host.host for each in servers if each.is_http and not each.redirects for host in each.hosts
        ]
        for host in hosts:
            if servers and not any(narrower(each, host) for each in open_to):
                what = f"{title}: {gateway.meta.title} has no HTTP server for {host}"
                notes.error(place, what, f"write a host of its servers; {listed(open_to)}")


def _bindings(mesh: Mesh) -> Iterator[tuple[str, Place, GatewayRef, Sequence[str], bool]]:
    """Each route and each Gateway that it names: title, place, reference, hosts, whether it is Istio's."""
    for document in mesh.policies.virtual_services:
        named = (*document.gateways, *(r for each in document.http for m in each.matches for r in m.gateways))
        for ref in dict.fromkeys(named):
            if ref != OF_MESH:
                hosts = [each.host.lower() for each in document.hosts]
                yield document.meta.title, document.meta.place, ref, hosts, True
    for route in mesh.policies.gateway_routes:
        for ref in route.gateways:
            yield route.meta.title, route.meta.place, ref, route.hostnames, False
