"""Why one request would be allowed or denied: the caller's route and egress, the callee's verdict.

The same objects decide here as in the sidecars (`Router`, `EgressAuthorizer`, `InboundAuthorizer`), over the
same snapshots, so an explanation is what would happen and not an opinion about it.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from meshpy.engine.egress import EgressAuthorizer
from meshpy.engine.explanation import Explanation, Leg, Source
from meshpy.engine.forwarded import as_forwarded
from meshpy.engine.opaque import OpaqueRouter
from meshpy.engine.places import Place, place_of, ports_of, served, server_of
from meshpy.engine.prepared import Prepared
from meshpy.engine.request import Peer, Request, host_of
from meshpy.engine.route import Direct, NoRoute, Redirected, Routed, Router, Routing, WeightedChoice
from meshpy.engine.shown import shown_destination, shown_rule, shown_tcp
from meshpy.engine.verdict import Step, Verdict
from meshpy.errors import MeshpyError
from meshpy.model.endpoint import Cluster, inbound_name, port_of_cluster
from meshpy.model.names import ServiceName
from meshpy.model.route import Destination, Forward, RouteRule
from meshpy.model.snapshot import OutboundListener, Snapshot

__all__ = [
    "ExplainError",
    "Explanation",
    "Leg",
    "Source",
    "at_listener",
    "at_server",
    "at_sidecar",
    "explain",
    "from_outside",
]


Snapshots = Prepared


class ExplainError(MeshpyError):
    """The question names something that is not there."""


def explain(
    snapshots: Mapping[ServiceName, Snapshot],
    source: Source,
    destination: str,
    port: int | None,
    request: Request,
) -> Explanation:
    """Answer for one request.

    Args:
        destination: a host as the caller writes it, or `namespace/service`.
        port: None when the destination has only one.
        request: its authority is what chooses the virtual host.

    Raises:
        ExplainError: source or destination is unknown, or the port must be told.
    """
    ready = snapshots if isinstance(snapshots, Prepared) else Prepared(snapshots)
    caller = _caller(ready, source)
    place = place_of(ready, destination, caller) or (
        served(ready, destination, port) if caller is None else None
    )
    if place is None:
        raise ExplainError(_unknown("destination", destination, _host_names(ready)))
    number = port if port is not None else _only_port(ready, place, caller)
    if caller is None:
        server = next((name for name in place.services if server_of(ready, name, number) is not None), None)
        if server is not None:
            return at_server(ready, source, server, number, request)
        return from_outside(ready, source, place.services, number, request)
    listener = place.listener(caller, number)
    if listener is None:
        return _without_route(ready, source, place, number, request)
    name = host_of(request.authority) or place.text
    return at_listener(ready, source, listener, request, name)


def at_listener(
    snapshots: Prepared, source: Source, listener: OutboundListener, request: Request, server_name: str = ""
) -> Explanation:
    """What becomes of a request that reached this listener of the caller's sidecar.

    Args:
        server_name: that a TLS client would send to an opaque listener.
    """
    if listener.tcp_routes():
        return _over_tcp(snapshots, source, listener, server_name)
    return _over_http(snapshots, source, listener, request)


def at_server(
    snapshots: Prepared, source: Source, service: ServiceName, published: int, request: Request
) -> Explanation:
    """What a caller without identity gets at a published port where TLS ends, or a Gateway stands."""
    server = server_of(snapshots, service, published)
    if server is None:
        reason = f"{service} has no server at port {published}: nothing listens there"
        return Explanation(Verdict(False, "route", reason=reason), None)
    host = host_of(request.authority)
    if (server.tls_for(host) is None) if server.tls else not server.is_for(host):
        reason = f"no server of port {published} is for {host!r}"
        return Explanation(Verdict(False, "route", reason=reason), {"host": None, "port": published})
    if server.redirect_to:
        reason = f"port {published} answers 301, to port {server.redirect_to} by HTTPS"
        return Explanation(Verdict(True, "route", reason=reason), {"port": published, "status": 301})
    listener = next((each for each in snapshots[service].edge if each.port == published), None)
    arrived = from_outside(snapshots, source, (service,), server.target, request)
    if listener is None or not arrived.verdict.allowed:
        return arrived
    led = at_listener(snapshots, replace(source, service=service), listener, request)
    return replace(led, steps=(*arrived.steps, *led.steps))


def at_sidecar(
    snapshots: Prepared, service: ServiceName, port: int, peer: Peer, request: Request | None
) -> Explanation:
    """The callee's own verdict, whatever way the request came."""
    leg = _arrived(snapshots, service, port, peer, request)
    return Explanation(leg.verdict, None, (), leg.steps)


def _caller(snapshots: Snapshots, source: Source) -> Snapshot | None:
    if source.service is None:
        return None
    if source.service not in snapshots:
        raise ExplainError(_unknown("source", str(source.service), map(str, snapshots)))
    return snapshots[source.service]


def _unknown(what: str, name: str, known: Any) -> str:
    names = sorted(set(known))
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(names) or 'none'}"
    return f"the {what} {name!r} is no service of the mesh; {hint}"


def _host_names(snapshots: Snapshots) -> list[str]:
    return [text for name in snapshots for text in (name.name, str(name))]


def _only_port(snapshots: Snapshots, place: Place, caller: Snapshot | None) -> int:
    ports = ports_of(snapshots, place, caller)
    if len(ports) == 1:
        return ports[0]
    if not ports:
        raise ExplainError(f"{place.text} has no port that the mesh knows; declare it in meshpy.ports")
    listed = ", ".join(map(str, ports))
    raise ExplainError(f"{place.text} has the ports {listed}; write {place.text}:{ports[0]}")


def from_outside(
    snapshots: Snapshots, source: Source, services: Sequence[ServiceName], port: int, request: Request
) -> Explanation:
    """What a caller without identity gets at the published ports of these services."""
    peer = Peer(None, "", source.address)
    legs = [
        replace(_arrived(snapshots, service, port, peer, request), share=1 / len(services))
        for service in services
    ]
    legs = [_closed_to_outside(snapshots, leg) for leg in legs]
    return _summed(legs, None)


def _closed_to_outside(snapshots: Snapshots, leg: Leg) -> Leg:
    """Without an edge listener a caller from outside reaches nothing, whatever policies allow."""
    if leg.service is None or not leg.verdict.allowed or leg.service not in snapshots:
        return leg
    if leg.port in snapshots[leg.service].open_ports:
        return leg
    reason = f"policies allow it, but {leg.service} does not publish port {leg.port}: nothing listens for it"
    return replace(leg, inbound=Verdict(False, "route", reason=reason))


def _without_route(
    snapshots: Snapshots, source: Source, place: Place, port: int, request: Request
) -> Explanation:
    """No name leads the caller there. The callee's verdict is told when it refuses too: it is the cause."""
    peer = snapshots.peer_of(source)
    legs = [_arrived(snapshots, service, port, peer, request) for service in place.services]
    refused = [leg for leg in legs if not leg.verdict.allowed]
    if refused:
        return _summed(refused, None)
    reason = (
        f"{source.service} has no way to {place.text}:{port}: no network of the stack joins them there,"
        " or the port's address is taken by another service"
    )
    return Explanation(Verdict(False, "route", reason=reason), None)


def _over_tcp(snapshots: Snapshots, source: Source, listener: OutboundListener, name: str) -> Explanation:
    """The name that was asked for stands for the server name that a TLS client would send."""
    router = OpaqueRouter(listener)
    ready = router.route(name, listener.bind)
    if ready is None:
        reason = f"no route of port {listener.port} is for the server name {name!r}: the connection is closed"
        return Explanation(Verdict(False, "route", reason=reason), {"host": None, "port": listener.port})
    shown = shown_tcp(ready.route, listener.port)
    return _judged(snapshots, source, ready.choice, shown, lambda _destination: None)


def _over_http(
    snapshots: Snapshots, source: Source, listener: OutboundListener, request: Request
) -> Explanation:
    routing = _first_good(snapshots.router(listener), request)
    match routing:
        case NoRoute(reason=reason, status=status, virtual_host=host):
            shown = {"host": host or None, "port": listener.port, "status": status}
            return Explanation(Verdict(False, "route", reason=reason), shown)
        case Redirected(rule=rule, virtual_host=host, status=status, location=location):
            shown = {**shown_rule(rule, host, listener.port), "status": status, "redirect": location}
            reason = f"the caller's sidecar answers {status} with Location {location}"
            return Explanation(Verdict(True, "route", rule.policy, rule.name, reason), shown, rule=rule)
        case Direct(rule=rule, virtual_host=host, status=status, is_preflight=is_preflight):
            shown = {**shown_rule(rule, host, listener.port), "status": status}
            what = f"answers the preflight with {status}" if is_preflight else f"answers {status} itself"
            reason = f"the caller's sidecar {what}"
            return Explanation(Verdict(True, "route", rule.policy, rule.name, reason), shown, rule=rule)
        case Routed() as routed:
            return _forwarded(snapshots, source, listener, routed, request)


def _first_good(router: Router, request: Request) -> Routing:
    """The answer to a request; where a share of them has no valid backend, that of the others."""
    first = router.route(request, 0.0)
    if not isinstance(first, NoRoute):
        return first
    found = router.rule_for(request)
    if isinstance(found, NoRoute):
        return first
    action = found[0].action
    draws = [0.0]
    for _, share in WeightedChoice(action.destinations).shares() if isinstance(action, Forward) else ():
        draws.append(draws[-1] + share)
    return next((r for d in draws[1:-1] if isinstance(r := router.route(request, d), Routed)), first)


def _forwarded(
    snapshots: Snapshots, source: Source, listener: OutboundListener, routed: Routed, request: Request
) -> Explanation:
    rule = routed.rule
    assert isinstance(rule.action, Forward)  # noqa: S101 - Routed has no other
    shown = shown_rule(rule, routed.virtual_host, listener.port) if snapshots.with_steps else {}
    if routed.target is not None:
        shown["rewritten_path"] = routed.target.path
    if routed.authority is not None:
        shown["rewritten_authority"] = routed.authority

    def at_callee(destination: Destination) -> Request:
        same = destination is routed.destination
        return as_forwarded(routed if same else replace(routed, destination=destination), request)

    choice = WeightedChoice(rule.action.destinations)
    return _judged(snapshots, source, choice, shown, at_callee, rule)


def _judged(
    snapshots: Snapshots,
    source: Source,
    choice: WeightedChoice,
    route: Mapping[str, Any],
    at_callee: Any,
    rule: RouteRule | None = None,
) -> Explanation:
    """Judge every service behind every destination of a route."""
    shares = choice.shares()
    legs = [
        leg
        for destination, share in shares
        for leg in _legs(snapshots, source, destination, share, at_callee(destination))
    ]
    if snapshots.with_steps:
        shown = [shown_destination(destination, share) for destination, share in shares]
        route = {**route, "destinations": shown}
    return _summed(legs, route, rule)


def _legs(
    snapshots: Snapshots, source: Source, destination: Destination, share: float, request: Request | None
) -> list[Leg]:
    assert source.service is not None  # noqa: S101 - callers outside have no routes
    caller = snapshots[source.service]
    port = port_of_cluster(destination.cluster)
    egress = snapshots.egress(source.service)
    services: Sequence[ServiceName] = destination.services
    if destination.cluster == inbound_name(port):  # of a Gateway's route, to the app of its own service
        verdict = Verdict(True, "route", reason=f"the request goes to the app of {source.service}")
        return [Leg(source.service, destination, port, share, verdict, None)]
    if destination.refusal:
        reason = f"{destination.refusal}: requests get {destination.refusal_status}"
        return [Leg(None, destination, port, share, Verdict(False, "route", reason=reason), None)]
    if not services:
        leg = _empty_leg(caller, egress, destination, port, share, request)
        return [leg if snapshots.with_steps else replace(leg, steps=())]
    each = share / len(services)
    verdict = egress.judge(services, (), port, request)
    steps = tuple(egress.evaluate_all(services, (), port, request)) if snapshots.with_steps else ()
    if not verdict.allowed:
        return [Leg(service, destination, port, each, verdict, None, steps) for service in services]
    peer = snapshots.peer_of(source)
    legs = []
    for service in services:
        called = _address_of(service, caller.clusters.get(destination.cluster))
        inbound, more = _inbound(snapshots, service, port, peer, request, called)
        legs.append(Leg(service, destination, port, each, verdict, inbound, (*steps, *more)))
    return legs


def _empty_leg(
    caller: Snapshot,
    egress: EgressAuthorizer,
    destination: Destination,
    port: int,
    share: float,
    request: Request | None,
) -> Leg:
    """A host outside the mesh, or a cluster without any service: nobody answers there."""
    cluster = caller.clusters.get(destination.cluster)
    reachable = cluster is not None and (cluster.dns or cluster.endpoints)
    addresses = [item.address for item in cluster.endpoints] if cluster is not None else []
    verdict = egress.judge((), addresses, port, request, destination.host)
    steps = tuple(egress.evaluate_all((), addresses, port, request, destination.host))
    if verdict.allowed and not reachable:
        reason = f"no service stands behind {destination.cluster}: requests get 503 (UH)"
        verdict = Verdict(False, "route", reason=reason)
    return Leg(None, destination, port, share, verdict, None, steps)


def _arrived(
    snapshots: Snapshots, service: ServiceName, port: int, peer: Peer, request: Request | None
) -> Leg:
    """A request that stands before the callee's sidecar, whatever way it came."""
    verdict, steps = _inbound(snapshots, service, port, peer, request)
    return Leg(service, None, port, 1.0, None, verdict, steps)


def _address_of(service: ServiceName, cluster: Cluster | None) -> str:
    """Where the caller finds the service; empty is unknown, as it is with no more than a stack file."""
    known = (each.address for each in cluster.endpoints if each.workload == service) if cluster else ()
    return next(iter(known), "")


def _inbound(
    snapshots: Snapshots,
    service: ServiceName,
    port: int,
    peer: Peer,
    request: Request | None,
    called: str = "",
) -> tuple[Verdict | None, tuple[Step, ...]]:
    """The callee's word; None when it has no sidecar here."""
    snapshot = snapshots.get(service)
    if snapshot is None:
        return None, ()
    protocol = None
    for item in snapshot.inbound:
        if item.port == port:
            protocol = item.protocol
            break
    if protocol is None:
        listed = ", ".join(f"{item.port}/{item.protocol.value}" for item in snapshot.inbound) or "none"
        return Verdict(False, "route", reason=f"{service} has no port {port}; it has {listed}"), ()
    return snapshots.judge_inbound(service, peer, port, protocol, request, called)


def _summed(
    legs: Sequence[Leg], route: Mapping[str, Any] | None, rule: RouteRule | None = None
) -> Explanation:
    """The first refusal decides for all; its steps are the ones to read."""
    deciding = next((leg for leg in legs if not leg.verdict.allowed), legs[0])
    return Explanation(deciding.verdict, route, tuple(legs), deciding.steps, rule)
