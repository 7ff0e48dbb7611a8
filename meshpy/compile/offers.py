"""What Gateways offer at one workload's published ports, and which of it can be opened."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from meshpy.model.endpoint import Protocol
from meshpy.model.ingress import TlsMode
from meshpy.model.inventory import GatewayPort, Service
from meshpy.model.names import ROOT_NAMESPACE
from meshpy.policy.gateway_kinds import GatewayDoc, ScopedHost, ServerDoc

__all__ = ["Offer", "Opened", "are_joined", "misfit", "offers_of", "opened", "picks", "server_misfit"]


@dataclass(frozen=True, slots=True)
class Offer:
    """A server of a Gateway that picks the service."""

    gateway: GatewayDoc
    server: ServerDoc


def picks(gateway: GatewayDoc, service: Service) -> bool:
    """Whether a Gateway is for a service: of its own stack, or of any where it is the root's."""
    if gateway.meta.namespace not in (service.name.namespace, ROOT_NAMESPACE):
        return False
    return gateway.selector is None or gateway.selector.items() <= service.labels.items()


def offers_of(service: Service, gateways: Iterable[GatewayDoc]) -> dict[GatewayPort, list[Offer]]:
    """By published port; the order is that of namespace and name."""
    ports = {port.published: port for port in service.gateway_ports}
    found: dict[GatewayPort, list[Offer]] = {}
    for gateway in sorted(gateways, key=lambda each: (each.meta.namespace, each.meta.name)):
        if ports and picks(gateway, service):
            for server in gateway.servers:
                if server.port in ports:
                    found.setdefault(ports[server.port], []).append(Offer(gateway, server))
    return found


def misfit(mode: TlsMode | None, protocol: str, spoken: Protocol) -> tuple[str, str] | None:
    """What is wrong with a server before an app that speaks this, and what to write instead.

    Args:
        mode: None for a server in plaintext.
        protocol: of the server as written, upper case; empty where it is not said.
    """
    if mode is TlsMode.PASSTHROUGH and spoken not in (Protocol.TLS, Protocol.TCP):
        what = f"PASSTHROUGH leads to an app that speaks TLS, and its port is declared {spoken}"
        return what, "declare /tls in meshpy.ports, or write mode: SIMPLE"
    if mode not in (None, TlsMode.PASSTHROUGH) and spoken is Protocol.TLS:
        what = f"{mode} hands on plain bytes, and the app's port is declared tls"
        return what, "write mode: PASSTHROUGH, or declare /http in meshpy.ports"
    reads = mode is not TlsMode.PASSTHROUGH and protocol in ("HTTP", "HTTPS", "HTTP2", "GRPC")
    if reads and not spoken.is_http:
        other = "TLS" if mode is not None else "TCP"
        what = f"{protocol} leads to HTTP, and the app's port is declared {spoken}"
        return what, f"write protocol: {other}, or declare /http in meshpy.ports"
    return None


def server_misfit(server: ServerDoc, spoken: Protocol) -> tuple[str, str] | None:
    """`misfit` of a document's server; a redirect leads to no app."""
    if server.redirects:
        return None
    return misfit(server.tls.mode if server.tls is not None else None, server.protocol, spoken)


@dataclass(frozen=True, slots=True)
class Opened:
    """An offer with those of its hosts that are its own."""

    offer: Offer
    hosts: tuple[ScopedHost, ...]

    @property
    def server(self) -> ServerDoc:
        return self.offer.server


def opened(service: Service, port: GatewayPort, offers: Sequence[Offer]) -> tuple[Opened, ...]:
    """Those of one kind that fit the app and have their secrets; a host is the first's that names it.

    What is left out is in error by `check`, and closed: neither its hosts nor its routes are anybody else's.
    """
    spoken = next((each.protocol for each in service.ports if each.number == port.target), None)
    if spoken is None:
        return ()
    found: list[Opened] = []
    taken: dict[str, Offer] = {}
    for offer in offers:
        server, known = offer.server, service.credentials
        lacks = server.tls is not None and any(key not in known for key, _ in server.tls.secrets(known))
        if server.sort != offers[0].server.sort or lacks or server_misfit(server, spoken) is not None:
            continue
        hosts = tuple(each for each in server.hosts if are_joined(taken.get(each.host, offer), offer))
        for each in hosts:
            taken.setdefault(each.host, offer)
        if hosts:
            found.append(Opened(offer, hosts))
    return tuple(found)


def are_joined(one: Offer, other: Offer) -> bool:
    """Whether two may be for one host: in plaintext Istio joins what several Gateways say of it."""
    if one is other:
        return True
    is_istio = one.gateway.leads_to_app and other.gateway.leads_to_app
    return one.server.tls is None and is_istio and one.gateway is not other.gateway
