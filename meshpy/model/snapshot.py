"""The snapshot: everything one workload's sidecar needs, and nothing else. Immutable, replaced whole."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from meshpy.model.authn import JwtRule
from meshpy.model.authz import Authorization
from meshpy.model.endpoint import Cluster, Protocol
from meshpy.model.ext_authz import ExtAuthz
from meshpy.model.gateway import GatewayGrant
from meshpy.model.ingress import IngressServer
from meshpy.model.names import ServiceName
from meshpy.model.rate_limit import RateLimit
from meshpy.model.route import Destination, Forward, TcpRoute, VirtualHost
from meshpy.model.telemetry import TelemetrySettings

__all__ = [
    "EDGE",
    "MESH_PORT",
    "InboundPort",
    "OutboundListener",
    "Snapshot",
    "Workload",
    "mesh_sni",
    "port_of_sni",
]

MESH_PORT = 15443
"""Where every sidecar accepts mTLS from other sidecars."""

EDGE = "edge"
"""Bind role: every address of the sidecar that is neither on a pod network nor on the mesh nor loopback."""


def mesh_sni(service: ServiceName, port: int) -> str:
    """The server name that a caller's sidecar sends: `p8080.api.shop.mesh`."""
    return f"p{port}.{service.name}.{service.namespace}.mesh".lower()


def port_of_sni(sni: str) -> int | None:
    """The target port that a server name carries, None when it is not of `mesh_sni`'s form."""
    head, _, rest = sni.partition(".")
    if head[:1] != "p" or not head[1:].isdecimal() or not rest.endswith(".mesh"):
        return None
    port = int(head[1:])
    return port if 0 < port < 65536 else None


@dataclass(frozen=True, slots=True)
class Workload:
    name: ServiceName
    trust_domain: str
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class InboundPort:
    """A port of the app: reached over the mesh (SNI names it), and from outside when `ingress` is set.

    Args:
        cluster: the cluster that leads to the app.
        ingress: True when the sidecar also listens in plaintext on `port` at its EDGE addresses.
        proxy_protocol: True when every connection there begins with a PROXY header.
        allows_connect: True when a route leads CONNECT here by name; else the method is refused.
    """

    port: int
    protocol: Protocol
    cluster: str
    ingress: bool = False
    proxy_protocol: bool = False
    allows_connect: bool = False


@dataclass(frozen=True, slots=True)
class OutboundListener:
    """Where the app's calls arrive.

    Args:
        bind: an IP address, or the full name of a pod network whose address of this task is meant.
        virtual_hosts: for HTTP protocols: chosen by authority.
        default_host: the `host` of the virtual host used when no domain matches; empty → 404, flag NR.
        tcp: for opaque protocols; None closes what no route of `opaque` takes.
        opaque: routes with conditions (server name, address), asked before `tcp`: the most specific server
            name first, among equals the first in order.
    """

    bind: str
    port: int
    protocol: Protocol
    virtual_hosts: tuple[VirtualHost, ...] = ()
    default_host: str = ""
    tcp: TcpRoute | None = None
    opaque: tuple[TcpRoute, ...] = ()

    def destinations(self) -> Iterator[Destination]:
        """Every destination that a route of it names, mirrors included."""
        for host in self.virtual_hosts:
            for rule in host.rules:
                if isinstance(rule.action, Forward):
                    yield from rule.action.destinations
                yield from (mirror.destination for mirror in rule.mirrors)
        for route in self.tcp_routes():
            yield from route.destinations

    def tcp_routes(self) -> tuple[TcpRoute, ...]:
        """The routes of an opaque listener; empty for an HTTP one."""
        return (*self.opaque, self.tcp) if self.tcp is not None else self.opaque


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Invariants: every cluster that a route or an inbound port names is in `clusters`; `outbound` is in the
    order of bind and port.

    Args:
        version: changes whenever anything here does (a content hash).
        revision: the policy revision that it was compiled from.
        denied: SPIFFE ids that are cut off whatever their certificates say.
        localities: node → `region/zone/subzone`, of the workload's own nodes and of those it calls, where
            a cluster asks for locality.
        jwt: which tokens requests to the workload may carry.
        providers: whom CUSTOM policies of the workload ask.
        gateway: of an egress gateway: what whom it lets reach.
        callers: of an egress gateway: the egress rules of those callers that have any.
        egress_gateway: the cluster of the gateway to which hosts belong that only a connection names.
        servers: published ports that end TLS, redirect or route, besides the plaintext ones of `inbound`.
        edge: where requests that enter at a server are led, by its published port; others go to the app.
    """

    version: str
    revision: int
    workload: Workload
    authorization: Authorization
    inbound: tuple[InboundPort, ...] = ()
    outbound: tuple[OutboundListener, ...] = ()
    clusters: Mapping[str, Cluster] = field(default_factory=dict)
    denied: frozenset[str] = frozenset()
    localities: Mapping[str, str] = field(default_factory=dict)
    jwt: tuple[JwtRule, ...] = ()
    providers: tuple[ExtAuthz, ...] = ()
    rate_limits: tuple[RateLimit, ...] = ()
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)
    servers: tuple[IngressServer, ...] = ()
    edge: tuple[OutboundListener, ...] = ()
    gateway: tuple[GatewayGrant, ...] = ()
    callers: Mapping[str, Authorization] = field(default_factory=dict)
    egress_gateway: str = ""

    @property
    def open_ports(self) -> frozenset[int]:
        """Ports of the app at which callers from outside arrive, in plaintext or through a server."""
        plain = {port.port for port in self.inbound if port.ingress}
        return frozenset(plain | {server.target for server in self.servers if not server.redirect_to})
