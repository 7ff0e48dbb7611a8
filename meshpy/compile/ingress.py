"""Gateways -> the servers of one workload's published ports, and the routes of requests that enter there.

The service that publishes a port is its gateway: callers outside reach its sidecar, which ends TLS, judges
them by the service's own policies, and hands requests to the app or, where a route bound to the Gateway says
so, on to another service, as this service.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from meshpy.compile.bindings import is_in_scope, narrower, sections_of, takes
from meshpy.compile.delegates import expanded
from meshpy.compile.documents import seen_at
from meshpy.compile.routes import RouteTable
from meshpy.model.endpoint import Protocol, inbound_name, port_of_cluster
from meshpy.model.ingress import IngressServer, ServerTls, TlsMode, specificity
from meshpy.model.inventory import GatewayPort, Service
from meshpy.model.names import ROOT_NAMESPACE
from meshpy.model.resilience import RetryOn, RetryPolicy
from meshpy.model.route import Destination, Forward, RouteRule, VirtualHost
from meshpy.model.snapshot import EDGE, OutboundListener
from meshpy.policy import PolicySet
from meshpy.policy.gateway_kinds import GatewayDoc, ScopedHost, ServerDoc
from meshpy.policy.route_docs import GatewayRef, GatewayRouteDoc

__all__ = ["Offer", "gateway_routes", "gateway_servers", "misfit", "offers_of", "picks", "routes_at"]


_TO_APP = RetryPolicy(attempts=2, on=frozenset({RetryOn.CONNECT_FAILURE, RetryOn.RESET_BEFORE_REQUEST}))
"""Towards the own app only what was never sent is tried again, as on every other way to it."""


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


def gateway_servers(service: Service, gateways: Iterable[GatewayDoc]) -> tuple[IngressServer, ...]:
    """The servers that can be opened; what cannot stays closed, and is an error of `check`."""
    offers = offers_of(service, gateways)
    https = [
        port.published
        for port, each in offers.items()
        if any(offer.server.tls and offer.server.is_http for offer in each)
    ]
    https += [each.published for each in service.servers if each.tls]
    redirect = 443 if 443 in https else min(https, default=0)
    found = (_server(service, port, each, redirect) for port, each in sorted(offers.items()))
    return tuple(each for each in found if each is not None)


def _server(
    service: Service, port: GatewayPort, offers: Sequence[Offer], redirect: int
) -> IngressServer | None:
    spoken = {each.number: each for each in service.ports}.get(port.target)
    first = offers[0].server
    if spoken is None or (first.redirects and not redirect):
        return None
    same = [
        each.server
        for each in offers
        if (each.server.tls is None, each.server.redirects) == (first.tls is None, first.redirects)
        and (first.redirects or not _is_misfit(each.server, spoken.protocol))
    ]
    proxied = spoken.proxy_protocol
    if not same:
        return None
    if first.tls is None:
        hosts = tuple(dict.fromkeys(host.host for server in same for host in server.hosts))
        to = redirect if first.redirects else 0
        hosts = () if "*" in hosts else hosts
        return IngressServer(port.port, port.target, port.published, (), to, proxied, hosts)
    tls = tuple(_terminated(service, same))
    return IngressServer(port.port, port.target, port.published, tls, 0, proxied) if tls else None


def _is_misfit(server: ServerDoc, spoken: Protocol) -> bool:
    return misfit(server.tls.mode if server.tls is not None else None, server.protocol, spoken) is not None


def _terminated(service: Service, servers: Iterable[ServerDoc]) -> Iterator[ServerTls]:
    """Each host belongs to the first server that names it; one without its secrets is left out."""
    taken: set[str] = set()
    for server in servers:
        hosts = tuple(host.host for host in server.hosts if host.host not in taken)
        tls = server.tls
        known = service.credentials
        if tls is None or not hosts or any(key not in known for key, _ in tls.secrets(known)):
            continue
        taken.update(hosts)
        yield tls.settled(hosts, known)


def gateway_routes(
    routes: RouteTable, policies: PolicySet, servers: Sequence[IngressServer]
) -> tuple[OutboundListener, ...]:
    """Where requests at these servers are led, but for servers whose requests are all the app's."""
    service = routes.caller
    offers = {port.published: each for port, each in offers_of(service, policies.gateways).items()}
    found = []
    for server in servers:
        if server.redirect_to:
            continue
        hosts = _virtual_hosts(routes, policies, server, offers.get(server.published, ()))
        if hosts:
            found.append(OutboundListener(EDGE, server.published, Protocol.HTTP, hosts))
    return tuple(found)


def _virtual_hosts(
    routes: RouteTable, policies: PolicySet, server: IngressServer, offers: Sequence[Offer]
) -> tuple[VirtualHost, ...]:
    """One for each host; none where no route is bound, and no Gateway wants 404 then."""
    patterns = [(host, offer) for offer in offers if offer.server.is_http for host in offer.server.hosts]
    found: dict[str, list[RouteRule]] = {}
    for host, offer in patterns:
        if not offer.gateway.leads_to_app:
            found.setdefault(host.host, [])  # nothing for it is 404
        for domain, rules in routes_at(routes, policies, server.published, host, offer):
            if _most_specific(domain, patterns) == host.host:
                found.setdefault(domain, []).extend(_led(routes.caller, rules))
    for host, offer in patterns if found else ():
        if offer.gateway.leads_to_app and host.host not in found:
            found[host.host] = [RouteRule(Forward((_app(routes.caller, server.target),)), retry=_TO_APP)]
    return tuple(VirtualHost(domain, (domain,), tuple(rules)) for domain, rules in found.items())


def _most_specific(domain: str, patterns: Iterable[tuple[ScopedHost, Offer]]) -> str:
    """Which server's host a handshake for that name would find."""
    covering = [host.host for host, _ in patterns if narrower(host.host, domain) == domain]
    return max(covering, key=specificity, default="")


def routes_at(
    routes: RouteTable, policies: PolicySet, port: int, host: ScopedHost, offer: Offer
) -> Iterator[tuple[str, list[RouteRule]]]:
    """The rules bound to one host of one server: Gateway API's by rank, then Istio's in order of name.

    Of Gateway API's routes those with the most specific hostname come first, whatever their matches.
    """
    attached = [
        (name, written, route)
        for route in policies.gateway_routes
        if _is_attached(route, offer)
        for written in route.hosts_written
        if (name := narrower(host.host, written))
    ]
    for name, written in sorted(
        {(name, written): None for name, written, _ in attached},
        key=lambda pair: specificity(pair[1]),
        reverse=True,
    ):
        ranked = routes.gateway.ranked(route for *pair, route in attached if pair == [name, written])
        yield name, [routes.gateway_rule(entry) for entry in ranked]
    ref = GatewayRef(offer.gateway.meta.namespace, offer.gateway.meta.name)
    bound = sorted(expanded(policies.virtual_services), key=lambda doc: (doc.meta.namespace, doc.meta.name))
    for document in seen_at(ref, bound) if offer.gateway.selector is not None else ():
        if not is_in_scope(host, document.meta.namespace, offer.gateway):
            continue
        if not document.is_exported_to(routes.caller.name.namespace):
            continue
        for meant in document.hosts:
            domain = narrower(host.host, meant.host)
            if domain:
                rules = (routes.rule(route, document.meta, port) for route in document.http)
                yield domain, [rule for rule in rules if rule is not None]


def _is_attached(route: GatewayRouteDoc, offer: Offer) -> bool:
    gateway, server = offer.gateway, offer.server
    if gateway.selector is not None:  # Istio's, which Gateway API's routes do not know
        return False
    return takes(server, route) and any(
        ref.key == (gateway.meta.namespace, gateway.meta.name) and server in sections_of(gateway, ref)
        for ref in route.gateways
    )


def _led(service: Service, rules: Iterable[RouteRule]) -> Iterator[RouteRule]:
    """The rules, those that lead to the service itself straight to its app."""
    for rule in rules:
        action = rule.action
        if isinstance(action, Forward):
            action = Forward(tuple(_straight(service, each) for each in action.destinations))
        yield replace(rule, action=action)


def _straight(service: Service, destination: Destination) -> Destination:
    port = port_of_cluster(destination.cluster)
    is_own = destination.services == (service.name,) and any(each.number == port for each in service.ports)
    return replace(destination, cluster=inbound_name(port)) if is_own else destination


def _app(service: Service, port: int) -> Destination:
    return Destination(inbound_name(port), host=str(service.name), services=(service.name,))
