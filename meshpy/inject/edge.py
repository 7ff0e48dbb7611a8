"""Servers laid onto published ports: where the sidecar listens for each, and the `ports:` that lead there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from meshpy.compile.offers import misfit
from meshpy.errors import Problem
from meshpy.inject.evidence import PortFact
from meshpy.inject.interpolation import substitute
from meshpy.inject.published import Published, read_port
from meshpy.inject.servers import ServerOrder
from meshpy.model.endpoint import Protocol
from meshpy.model.ingress import IngressServer
from meshpy.model.inventory import GatewayPort

__all__ = ["lay_gateway_ports", "lay_servers", "ports_through", "secured_ports"]

FIRST_FREE = 16000
"""Listening ports of servers whose published number is a port of the app."""
RESERVED = frozenset((15000, 15001, 15020, 15443))


def lay_servers(
    orders: Sequence[ServerOrder],
    published: Sequence[Published],
    ports: Sequence[PortFact],
    proxied: Sequence[int],
    reserved: Sequence[int] = (),
) -> tuple[tuple[IngressServer, ...], list[Problem]]:
    """One server per published port that has orders, and what does not fit the service.

    Args:
        ports: of the app.
        proxied: ports of the app whose callers begin with a PROXY header.
        reserved: where the sidecar listens for others.
    """
    problems: list[Problem] = []
    taken = {fact.number for fact in ports} | RESERVED | set(reserved)
    by_port: dict[int, list[ServerOrder]] = {}
    for each in orders:
        by_port.setdefault(each.published, []).append(each)
    https = [number for number, items in by_port.items() if any(_ends_http(each) for each in items)]
    found = []
    for number, items in sorted(by_port.items()):
        target = next((p.target for p in published if _number_of(p) == number and p.protocol == "tcp"), 0)
        if not target:
            instead = f'add "{number}:PORT" to its `ports`, PORT being the app\'s'
            problems.append(Problem(items[0].place, f"the service publishes no port {number}", instead))
            continue
        problems += _misfits(items, next(f.protocol for f in ports if f.number == target))
        redirect = 0
        if items[0].tls is None:
            if not https:
                instead = "add a server with tls: {mode: SIMPLE, credentialName: NAME}"
                what = "there is no port with TLS to redirect to"
                problems.append(Problem(items[0].place, what, instead))
                continue
            redirect = 443 if 443 in https else min(https)
        port = number if number not in taken else _free(taken)
        taken.add(port)
        tls = tuple(each.tls for each in items if each.tls is not None)
        found.append(IngressServer(port, target, number, tls, redirect, target in proxied))
    return tuple(found), problems


def _ends_http(order: ServerOrder) -> bool:
    return order.tls is not None and order.protocol != "TLS"


def _free(taken: set[int]) -> int:
    return next(number for number in range(FIRST_FREE, 65536) if number not in taken)


def _number_of(port: Published) -> int:
    """The published number, variables at their defaults; 0 where there is none."""
    text = substitute(port.published) or port.published
    return int(text) if text.isdecimal() else 0


def lay_gateway_ports(
    wanted: Sequence[int], published: Sequence[Published], ports: Sequence[PortFact]
) -> tuple[tuple[GatewayPort, ...], list[int]]:
    """Where the sidecar listens for each port that Gateways open, and those that are not published."""
    taken = {fact.number for fact in ports} | RESERVED
    found, missing = [], []
    for number in sorted(set(wanted)):
        target = next((p.target for p in published if _number_of(p) == number and p.protocol == "tcp"), 0)
        if not target:
            missing.append(number)
            continue
        port = number if number not in taken else _free(taken)
        taken.add(port)
        found.append(GatewayPort(number, port, target))
    return tuple(found), missing


def _misfits(orders: Sequence[ServerOrder], protocol: Protocol) -> Iterator[Problem]:
    """A server whose mode does not go with what the app speaks."""
    for each in orders:
        if each.tls is not None and (found := misfit(each.tls.mode, each.protocol, protocol)) is not None:
            yield Problem(each.place, *found)


def secured_ports(
    servers: Sequence[IngressServer | GatewayPort], published: Sequence[Published]
) -> frozenset[int]:
    """Ports of the app that are published through servers alone."""
    numbers = {server.published for server in servers}
    plain = {port.target for port in published if _number_of(port) not in numbers}
    return frozenset({server.target for server in servers} - plain)


def ports_through(
    entries: Sequence[Any], servers: Sequence[IngressServer | GatewayPort], *, in_host_mode: bool
) -> list[Any]:
    """The sidecar's `ports`: entries as the file has them, save those that lead to a server."""
    listening = {server.published: server.port for server in servers}
    found: list[Any] = []
    for entry in entries:
        ports = read_port(entry)
        if not in_host_mode and not any(_number_of(port) in listening for port in ports):
            found.append(entry)
            continue
        for port in ports:
            at = listening.get(_number_of(port))
            led = port if at is None else replace(port, target=at, target_text=str(at))
            found.append(dict(led.in_host_mode() if in_host_mode else _in_long_form(led)))
    return found


def _in_long_form(port: Published) -> Mapping[str, Any]:
    return {**port.in_host_mode(), "mode": port.mode}
