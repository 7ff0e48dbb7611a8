"""The inventory of a stack file: what discovery reads from Docker once the injected stack is deployed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from meshpy.inject.edge import secured_ports
from meshpy.inject.interpolation import substitute
from meshpy.inject.members import Member, Plan
from meshpy.inject.sidecar import is_proxy_label
from meshpy.inject.words import pairs, text_of
from meshpy.model.endpoint import Protocol
from meshpy.model.inventory import AppAddress, EgressHost, Inventory, Port, Service

__all__ = ["inventory_of_plan", "labels_of"]

FOREIGN = ("com.docker.", "traefik.", "meshpy.")


def inventory_of_plan(plan: Plan) -> Inventory:
    """All services of the plan; endpoints are known once tasks run, so there are none."""
    meshed = {network for member in plan.meshed for network in member.networks}
    return Inventory({m.name: _exempt(m, meshed) if m.exempt else _meshed(m) for m in plan.members})


def _meshed(member: Member) -> Service:
    secured = secured_ports((*member.servers, *member.gateway_ports), member.published)
    binds = {name: pod.full for pod in member.pods[1:] for name in pod.aliases}
    return Service(
        name=member.name,
        labels=labels_of(member),
        ports=tuple(
            sorted(
                Port(
                    p.number,
                    p.protocol,
                    p.published or bool(member.doors),
                    p.number in member.orders.proxy_protocol,
                    p.number in secured,
                )
                for p in member.ports
            )
        ),
        hosts=member.hosts,
        networks=member.networks,
        bind={"": member.pods[0].full, **binds},
        app=AppAddress(dns=f"tasks.{member.key}.{member.pods[0].full}"),
        egress=tuple(
            EgressHost(host, port, Protocol(protocol)) for host, port, protocol in member.orders.egress
        ),
        servers=member.servers,
        gateway_ports=member.gateway_ports,
        credentials=member.credentials,
        **_through_gateway(member),
    )


def _through_gateway(member: Member) -> dict[str, Any]:
    if member.gateway is None or not member.calls_outside:
        return {}
    return {"gateway": member.gateway, "outbound": member.outbound, "patterns": member.orders.patterns}


def _exempt(member: Member, meshed: set[str]) -> Service:
    shared = sorted(member.networks & meshed) or sorted(member.networks)
    return Service(
        name=member.name,
        labels=_labels(member, proxy_labels=True),
        ports=tuple(sorted(Port(p.number, p.protocol, p.published) for p in member.ports)),
        hosts=member.hosts,
        networks=member.networks,
        app=AppAddress(dns=f"tasks.{member.name.swarm_name}.{shared[0]}"),
        exempt=member.exempt,
    )


def labels_of(member: Member) -> Mapping[str, str]:
    """The labels by which policies select a meshed service."""
    return _labels(member, proxy_labels=False)


def _labels(member: Member, *, proxy_labels: bool) -> Mapping[str, str]:
    """The service's own labels, container labels below service labels, as discovery reads them."""
    deploy = member.service.get("deploy") or {}
    found = {"app": member.key, "service": member.key, "stack": member.name.namespace}
    for where, is_service in ((member.service.get("labels"), False), (deploy.get("labels"), True)):
        for name, text, _ in pairs(where):
            if name.startswith(FOREIGN) or (is_service and not proxy_labels and is_proxy_label(name)):
                continue
            found[name] = substitute(text) or text_of(text)
    return found
