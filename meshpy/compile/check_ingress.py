"""Findings on Gateways: ports, secrets, hosts, servers that exclude each other."""

from __future__ import annotations

from collections.abc import Sequence

from meshpy.compile.check_bindings import check_bindings
from meshpy.compile.findings import Notes, listed
from meshpy.compile.ingress import gateway_servers
from meshpy.compile.offers import Offer, are_joined, offers_of, picks, server_misfit
from meshpy.compile.snapshot import Mesh
from meshpy.model.inventory import GatewayPort, Service
from meshpy.policy.gateway_kinds import GatewayDoc, ServerDoc

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
    check_bindings(mesh, notes)


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
        if server.sort != first.server.sort:
            what = f"{title}: port {port.published} has another kind of server at {first.server.place}"
            notes.error(
                server.place, what, "a port ends TLS, redirects, is HTTP or is TCP: write one of these"
            )
            continue
        found = server_misfit(server, spoken) if spoken is not None else None
        if found is not None:
            notes.error(server.place, f"{title}: {found[0]}", found[1])
        _check_secrets(service, server, title, notes)
        if server.redirects and not any(each.published == port.published for each in opened):
            what = f"{title}: there is no port with HTTPS to redirect to"
            instead = "add a server of protocol: HTTPS with tls: {mode: SIMPLE, credentialName: NAME}"
            notes.error(server.place, what, instead)
        for earlier in offers[:number]:
            for host in _claimed_twice(earlier, offer):
                where = f"port {port.published} has a server for {host} at {earlier.server.place}"
                notes.error(server.place, f"{title}: {where}", "remove one of them")


def _claimed_twice(one: Offer, other: Offer) -> list[str]:
    if are_joined(one, other):
        return []
    return sorted({host.host for host in one.server.hosts} & {host.host for host in other.server.hosts})


def _check_secrets(service: Service, server: ServerDoc, title: str, notes: Notes) -> None:
    for key, what in server.tls.secrets(service.credentials) if server.tls is not None else ():
        if key not in service.credentials:
            names = f"{title}: the sidecar of {service.name} has no secret {key} ({what})"
            instead = (
                f"write meshpy.credentials below deploy.labels of the service; {listed(service.credentials)}"
            )
            notes.error(server.place, names, instead)
