"""The inventory: what runs, or would run; from Docker, from a stack file, or from the local demo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from meshpy.model.endpoint import Endpoint, Protocol
from meshpy.model.ingress import IngressServer
from meshpy.model.names import ServiceName

__all__ = ["AppAddress", "EgressHost", "GatewayPort", "Inventory", "Port", "Service"]


@dataclass(frozen=True, slots=True, order=True)
class Port:
    """A port of the app.

    Args:
        number: where the app listens.
        published: True when the stack publishes it: callers from outside reach it through the sidecar.
        proxy_protocol: True when those callers begin with a PROXY header.
        secured: True when it is published through `Service.servers` alone, never in plaintext.
    """

    number: int
    protocol: Protocol
    published: bool = False
    proxy_protocol: bool = False
    secured: bool = False


@dataclass(frozen=True, slots=True, order=True)
class GatewayPort:
    """A published port that Gateways open; without one nothing listens there.

    Args:
        published: what callers outside use.
        port: where the sidecar listens for it.
        target: the app's port that it leads to.
    """

    published: int
    port: int
    target: int


@dataclass(frozen=True, slots=True)
class EgressHost:
    """An external host that the service may call through its sidecar (`meshpy.egress`)."""

    host: str
    port: int
    protocol: Protocol


@dataclass(frozen=True, slots=True)
class AppAddress:
    """Where a sidecar finds its app: addresses, or a DNS name that it resolves every second."""

    addresses: tuple[str, ...] = ()
    dns: str = ""


@dataclass(frozen=True, slots=True)
class Service:
    """One service of a stack.

    Args:
        labels: for selectors; `app`, `service`, `stack`, `version` are given where not set.
        hosts: further names callers use: `meshpy.host`, network aliases, `hostname`. The four names that
            Swarm gives everyone (`standard_hosts`) are not listed.
        networks: full names of the networks it sat on before injection; who shares one may call.
        bind: where its sidecar listens for the app: host → address or network; "" is the default.
        endpoints: its sidecars' addresses on the mesh, with the mesh port.
        exempt: why it is not meshed; empty when it is.
        outside: addresses of hosts of `egress`, where the control plane looked them up.
        gateway: the egress gateway through which it reaches hosts outside; None reaches them itself.
        is_gateway: whether it is one.
        outbound: of a service with a gateway: `ALLOW_ANY` lets any host through; `patterns`: `*.suffix:port`.
        servers: its published ports that end TLS or redirect.
        gateway_ports: its published ports that are left to Gateway documents.
        credentials: keys of the secrets that its sidecar has for them.
    """

    name: ServiceName
    labels: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[Port, ...] = ()
    hosts: tuple[str, ...] = ()
    networks: frozenset[str] = frozenset()
    bind: Mapping[str, str] = field(default_factory=dict)
    app: AppAddress = field(default_factory=AppAddress)
    endpoints: tuple[Endpoint, ...] = ()
    egress: tuple[EgressHost, ...] = ()
    exempt: str = ""
    servers: tuple[IngressServer, ...] = ()
    outside: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    gateway: ServiceName | None = None
    is_gateway: bool = False
    outbound: str = ""
    patterns: tuple[str, ...] = ()
    gateway_ports: tuple[GatewayPort, ...] = ()
    credentials: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Inventory:
    """All services by name.

    Args:
        localities: host name of a node → its `region/zone/subzone`.
    """

    services: Mapping[ServiceName, Service] = field(default_factory=dict)
    localities: Mapping[str, str] = field(default_factory=dict)
