"""Gateways -> the servers of one workload's published ports, and the routes of requests that enter there.

The service that publishes a port is its gateway: callers outside reach its sidecar, which ends TLS, judges
them by the service's own policies, and hands requests to the app or, where a route bound to the Gateway says
so, on to another service, as this service.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from meshpy.compile.bindings import admitted, is_in_scope, most_specific, narrower
from meshpy.compile.delegates import expanded
from meshpy.compile.documents import seen_at
from meshpy.compile.offers import Offer, Opened, offers_of, opened
from meshpy.compile.routes import RouteTable
from meshpy.model.endpoint import Protocol, inbound_name, port_of_cluster
from meshpy.model.ingress import IngressServer, specificity
from meshpy.model.inventory import GatewayPort, Service
from meshpy.model.resilience import RetryOn, RetryPolicy
from meshpy.model.route import Destination, Forward, RouteRule, VirtualHost
from meshpy.model.snapshot import EDGE, OutboundListener
from meshpy.policy import PolicySet
from meshpy.policy.gateway_kinds import GatewayDoc, ScopedHost
from meshpy.policy.route_docs import GatewayRef

__all__ = ["gateway_routes", "gateway_servers", "routes_at"]


_TO_APP = RetryPolicy(attempts=2, on=frozenset({RetryOn.CONNECT_FAILURE, RetryOn.RESET_BEFORE_REQUEST}))
"""Towards the own app only what was never sent is tried again, as on every other way to it."""


def gateway_servers(service: Service, gateways: Iterable[GatewayDoc]) -> tuple[IngressServer, ...]:
    """The servers that can be opened; what cannot stays closed, and is an error of `check`."""
    offers = offers_of(service, gateways)
    https = [port.published for port, each in offers.items() if any(offer.server.is_https for offer in each)]
    https += [each.published for each in service.servers if each.tls]
    redirect = 443 if 443 in https else min(https, default=0)
    found = (_server(service, port, each, redirect) for port, each in sorted(offers.items()))
    return tuple(each for each in found if each is not None)


def _server(
    service: Service, port: GatewayPort, offers: Sequence[Offer], redirect: int
) -> IngressServer | None:
    found = opened(service, port, offers)
    if not found or (found[0].server.redirects and not redirect):
        return None
    hosts = tuple(dict.fromkeys(host.host for each in found for host in each.hosts))
    closed = {host.host for offer in offers for host in offer.server.hosts} - {*hosts}
    tls = [
        each.server.tls.settled(tuple(dict.fromkeys(host.host for host in each.hosts)), service.credentials)
        for each in found
        if each.server.tls is not None
    ]
    return IngressServer(
        port.port,
        port.target,
        port.published,
        tuple(tls),
        redirect if found[0].server.redirects else 0,
        next(each.proxy_protocol for each in service.ports if each.number == port.target),
        () if tls or "*" in hosts else hosts,
        tuple(sorted(closed)),
    )


def gateway_routes(
    routes: RouteTable, policies: PolicySet, servers: Sequence[IngressServer]
) -> tuple[OutboundListener, ...]:
    """Where requests at these servers are led, but for servers whose requests are all the app's."""
    service = routes.caller
    offers = {
        port.published: opened(service, port, each)
        for port, each in offers_of(service, policies.gateways).items()
    }
    found = []
    for server in servers:
        if server.redirect_to:
            continue
        hosts = _virtual_hosts(routes, policies, server, offers.get(server.published, ()))
        if hosts:
            found.append(OutboundListener(EDGE, server.published, Protocol.HTTP, hosts))
    return tuple(found)


def _virtual_hosts(
    routes: RouteTable, policies: PolicySet, server: IngressServer, offers: Sequence[Opened]
) -> tuple[VirtualHost, ...]:
    """One for each host; none where no route is bound, and no Gateway wants 404 then."""
    patterns = [(host, each.offer) for each in offers for host in each.hosts]
    named = [*(host.host for host, _ in patterns), *server.closed]
    found: dict[str, list[RouteRule]] = {}
    for host, offer in patterns:
        if not offer.server.is_http:
            continue
        if not offer.gateway.leads_to_app:
            found.setdefault(host.host, [])  # nothing for it is 404
        for domain, rules in routes_at(routes, policies, server.published, host, offer):
            if most_specific(domain, named) == host.host:
                found.setdefault(domain, []).extend(_led(routes.caller, rules))
    for host, offer in patterns if found else ():
        is_for_app = offer.gateway.leads_to_app or not offer.server.is_http
        if is_for_app and host.host not in found:
            found[host.host] = [RouteRule(Forward((_app(routes.caller, server.target),)), retry=_TO_APP)]
    return tuple(VirtualHost(domain, (domain,), tuple(rules)) for domain, rules in found.items())


def routes_at(
    routes: RouteTable, policies: PolicySet, port: int, host: ScopedHost, offer: Offer
) -> Iterator[tuple[str, list[RouteRule]]]:
    """The rules bound to one host of one server: Gateway API's by rank, then Istio's in order of name.

    Those of the Gateway's own stack precede others', which cannot take its requests away.

    Of Gateway API's routes those with the most specific hostname come first, whatever their matches.
    """
    attached = [
        (name, written, route)
        for route in admitted(offer.gateway, offer.server, policies.gateway_routes)[0]
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
    bound = sorted(
        expanded(policies.virtual_services),
        key=lambda doc: (doc.meta.namespace != ref.namespace, doc.meta.namespace, doc.meta.name),
    )
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
