"""Who calls: what a connection's other end proved, and what the configuration says of it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from certs.errors import PeerRefused
from meshpy.engine.authorize import ConnectionJudge
from meshpy.engine.request import Peer
from meshpy.model.endpoint import Protocol
from meshpy.model.gateway import outside_of_sni
from meshpy.model.ingress import IngressServer, ServerTls
from meshpy.model.names import ServiceName
from meshpy.model.snapshot import port_of_sni
from proxy.admitted import Kinds
from proxy.config import Compiled, InboundTarget
from proxy.decide.headers import client_certificate
from proxy.decide.limit import Limiter
from proxy.http.events import Header
from proxy.net.tls import PeerCertificate, accepted_peer, server_name
from proxy.telemetry import Edge, EdgeKey

__all__ = ["Caller", "edge_key", "identify"]


@dataclass(slots=True)
class Caller:
    """Who is at the other end, and what the configuration says of it; renewed with the configuration.

    Args:
        certificate: None for a caller without identity.
        fields: what the app is told of the certificate.
        is_opaque: it speaks nothing that is read, whatever the port may speak.
        is_known: what is judged now was let in before.
        is_secured: from outside, with TLS that ended here.
        server: the published port's, where there is one; `tls` is what its server name chose there.
        outside: the host to which it wants through this gateway, and its port.
    """

    peer: Peer
    port: int
    sni: str
    certificate: PeerCertificate | None
    fields: tuple[Header, ...]
    compiled: Compiled | None = None
    is_opaque: bool = False
    is_known: bool = False
    judge: ConnectionJudge | None = None
    target: InboundTarget | None = None
    edge: Edge | None = None
    grpc_edge: Edge | None = None
    limits: tuple[Limiter, ...] = ()
    kinds: Kinds | None = None
    is_secured: bool = False
    server: IngressServer | None = None
    tls: ServerTls | None = None
    outside: tuple[str, int] | None = None

    def renew(self, compiled: Compiled, local_address: str) -> None:
        """Judge the connection by a new configuration."""
        self.compiled = compiled
        self.target = compiled.inbound.get(self.port)
        self.limits = compiled.limits
        self.judge = None
        if self.target is not None:
            self.judge = compiled.authorizer.for_connection(
                self.peer,
                self.port,
                Protocol.TCP if self.is_opaque else self.target.port.protocol,
                local_address,
                self.sni,
            )

    def is_cut(self, compiled: Compiled) -> bool:
        """Whether its identity was revoked, or its server is another one now."""
        if self.server is not None:
            now = compiled.servers.get(self.server.port)
            return now is None or now.server != self.server
        return self.certificate is not None and str(self.certificate.spiffe_id) in compiled.snapshot.denied


def identify(tls: ssl.SSLObject, compiled: Compiled, address: str) -> Caller:
    """The caller of a connection to the mesh port.

    Raises:
        PeerRefused: no SVID that may speak here, or no port that the server name means.
    """
    snapshot = compiled.snapshot
    certificate = accepted_peer(tls, snapshot.workload.trust_domain, snapshot.denied)
    sni = server_name(tls)
    outside = outside_of_sni(sni)
    port = port_of_sni(sni) if outside is None else outside[1]
    is_served = port in compiled.inbound if outside is None else bool(snapshot.gateway)
    if port is None or not is_served:
        raise PeerRefused(
            "unknown-port", f"the server name {sni[:100]!r} means no port of {compiled.service}"
        )
    spiffe_id = certificate.spiffe_id
    namespace, service = spiffe_id.namespace, spiffe_id.service
    name = ServiceName(namespace, service) if namespace and service else None
    own = f"spiffe://{snapshot.workload.trust_domain}{snapshot.workload.name.spiffe_path}"
    field = client_certificate(own, str(spiffe_id), certificate.digest)
    peer = Peer(name, spiffe_id.principal, address)
    return Caller(peer, port, sni, certificate, (field,), outside=outside)


def edge_key(caller: Caller, compiled: Compiled, protocol: str) -> EdgeKey:
    """Under which numbers a caller is counted."""
    source = str(caller.peer.service) if caller.peer.service is not None else ""
    is_mtls = caller.certificate is not None
    return EdgeKey("inbound", source, compiled.workload, compiled.service, protocol, is_mtls)
