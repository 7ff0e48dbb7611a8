"""What the injector decided: the members of a stack, their pods, the whole plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from meshpy.inject.evidence import PortFact
from meshpy.inject.options import Settings
from meshpy.inject.published import Published
from meshpy.inject.stackfile import StackFile
from meshpy.inject.topology import Attachment
from meshpy.inject.words import Orders
from meshpy.model.ingress import IngressServer
from meshpy.model.inventory import GatewayPort
from meshpy.model.names import ServiceName, standard_hosts

__all__ = ["PROXY_HOST", "Member", "Plan", "Pod"]

PROXY_HOST = "meshpy-egress"
"""The name by which an app finds its forward proxy."""


@dataclass(frozen=True, slots=True)
class Pod:
    """A network that an app shares with its sidecar only, and the names the sidecar answers to there."""

    key: str
    full: str
    aliases: tuple[str, ...]
    callees: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Member:
    """One service of the file and what becomes of it.

    Args:
        hosts: names besides Swarm's own four: aliases, hostname, `meshpy.host`.
        exempt: why it stays as it is; empty when it is meshed.
        pods: the main pod network first; empty when exempt.
        outbound: what its forward proxy lets through; "" means that it has none.
        gateway: through which it reaches hosts outside.
        servers: at its published ports, where TLS ends.
        gateway_ports: published ports that are left to Gateways.
        credentials: keys of the secrets that its sidecar has for them.
        doors: original networks on which its sidecar stands in for it: exempt or foreign callers live there.
    """

    name: ServiceName
    service: Mapping[str, Any]
    attachments: tuple[Attachment, ...]
    orders: Orders
    published: tuple[Published, ...] = ()
    hosts: tuple[str, ...] = ()
    exempt: str = ""
    ports: tuple[PortFact, ...] = ()
    no_ports: str = ""
    pods: tuple[Pod, ...] = ()
    doors: tuple[Attachment, ...] = ()
    outbound: str = ""
    servers: tuple[IngressServer, ...] = ()
    gateway_ports: tuple[GatewayPort, ...] = ()
    credentials: tuple[str, ...] = ()
    gateway: ServiceName | None = None

    @property
    def key(self) -> str:
        return self.name.name

    @property
    def group_network(self) -> str:
        """The key of the network on which it and its peers are; "" without a group."""
        return f"{self.orders.group}-group" if self.orders.group else ""

    @property
    def has_way_out(self) -> bool:
        """Whether its sidecar needs a network that leads outside."""
        return bool(self.published or (self.calls_outside and self.gateway is None))

    @property
    def calls_outside(self) -> bool:
        """Whether it may reach any host outside."""
        return bool(self.orders.egress or self.outbound)

    @property
    def networks(self) -> frozenset[str]:
        """Full names of its original networks."""
        return frozenset(attachment.network.full for attachment in self.attachments)

    @property
    def names(self) -> frozenset[str]:
        """Everything it is called by, in lower case."""
        return frozenset(name.lower() for name in (*standard_hosts(self.name), *self.hosts))


@dataclass(frozen=True, slots=True)
class Plan:
    stack: StackFile
    stack_name: str
    settings: Settings
    members: tuple[Member, ...]
    mesh_key: str
    egress_key: str
    notes: tuple[str, ...] = ()

    @property
    def meshed(self) -> tuple[Member, ...]:
        return tuple(member for member in self.members if not member.exempt)
