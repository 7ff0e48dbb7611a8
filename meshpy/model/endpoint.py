"""Endpoints and clusters: where a destination can be reached and how it is spoken to."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from enum import StrEnum

from meshpy.model.names import ServiceName
from meshpy.model.resilience import (
    ConnectionPool,
    ConsistentHash,
    HealthCheck,
    LoadBalancing,
    Locality,
    OutlierDetection,
    Warmup,
)

__all__ = ["Cluster", "Endpoint", "Protocol", "Transport", "inbound_name", "port_of_cluster"]


class Protocol(StrEnum):
    """What is spoken on a port: declared. `auto` declares that the first bytes of each connection tell."""

    HTTP = "http"
    HTTP2 = "http2"
    GRPC = "grpc"
    TLS = "tls"
    TCP = "tcp"
    AUTO = "auto"

    @property
    def is_http(self) -> bool:
        """True where L7 rules can be judged; of `auto`, the connections that turn out to speak HTTP."""
        return self in (Protocol.HTTP, Protocol.HTTP2, Protocol.GRPC, Protocol.AUTO)

    @property
    def is_opaque(self) -> bool:
        """True where connections may carry bytes that nobody reads."""
        return self in (Protocol.TLS, Protocol.TCP, Protocol.AUTO)


class Transport(StrEnum):
    """How bytes travel to a cluster: mesh mTLS, as they are, or by mTLS as far as an egress gateway."""

    MTLS = "mtls"
    PLAIN = "plain"
    GATEWAY = "gateway"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address of one task.

    Args:
        address: an IP address; `port` is the port to dial (the mesh port for mTLS).
        workload: the service whose identity must answer; its SPIFFE id is checked after the handshake.
        node: the host name of the Swarm node it runs on; its locality is in the snapshot's `localities`.
    """

    address: str
    port: int
    workload: ServiceName | None = None
    node: str = ""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A set of endpoints that are interchangeable for a route.

    Args:
        name: Istio's form `outbound|8080|v1|catalog.shop` or `inbound|8080||`.
        dns: where endpoints come from when they are not listed: a name whose A records are resolved
            every second (the app behind a sidecar, an external host); empty otherwise.
            A sidecar that finds itself under the name takes `endpoints`, which the control plane found.
        dns_port: the port that goes with `dns`.
        sni: the TLS server name sent with MTLS, `p8080.catalog.shop.mesh` (see `mesh_sni`).
        stands_for: addresses of the host outside to which a gateway, the endpoints, leads; for egress rules.
        proxy_protocol: 1 or 2: every connection begins with a PROXY header of that version; plaintext and
            opaque bytes only.
        affinity: takes the place of `load_balancing` for requests that have the key it asks for.
    """

    name: str
    protocol: Protocol
    transport: Transport
    endpoints: tuple[Endpoint, ...] = ()
    dns: str = ""
    dns_port: int = 0
    sni: str = ""
    load_balancing: LoadBalancing = LoadBalancing.LEAST_REQUEST
    pool: ConnectionPool = field(default_factory=ConnectionPool)
    outlier: OutlierDetection | None = None
    affinity: ConsistentHash | None = None
    locality: Locality | None = None
    warmup: Warmup | None = None
    health_check: HealthCheck | None = None
    proxy_protocol: int = 0
    stands_for: tuple[str, ...] = ()


@functools.lru_cache(maxsize=4096)
@functools.lru_cache(maxsize=4096)
def inbound_name(port: int) -> str:
    """The cluster that leads to a port of the own app."""
    return f"inbound|{port}||"


def port_of_cluster(name: str) -> int:
    """The port of `outbound|8080|v1|catalog.shop`; 0 for a name of another form."""
    number = name.split("|")[1] if name.count("|") == 3 else ""
    return int(number) if number.isdecimal() else 0
