"""Dialling an endpoint: TCP, TLS with its server name, the peer's identity; within the connect timeout."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar, cast

from certs.errors import PeerRefused
from certs.spiffe import SpiffeId
from meshpy.errors import MeshpyError
from meshpy.live import Live
from meshpy.model.endpoint import Cluster, Endpoint, Transport
from meshpy.model.resilience import ConnectionPool
from meshpy.model.snapshot import Snapshot, mesh_sni
from proxy.net.tls import Credentials, PeerCertificate, dialled_peer

__all__ = ["LOST_AFTER_S", "DialError", "Dialed", "Dialer", "keep_alive"]


class DialError(MeshpyError):
    """An endpoint could not be reached; nothing was sent to it."""


class Dialed(asyncio.Protocol):
    """A protocol whose peer is judged in `connection_made`, before any byte is exchanged.

    Args:
        admit: judges the TLS peer; None for plaintext.
    """

    admit: Callable[[ssl.SSLObject], PeerCertificate] | None = None
    certificate: PeerCertificate | None = None
    refusal: PeerRefused | None = None

    def is_admitted(self, transport: asyncio.BaseTransport) -> bool:
        """Judge the peer; a refused one is cut off. To be called first in `connection_made`."""
        if self.admit is None:
            return True
        try:
            self.certificate = self.admit(transport.get_extra_info("ssl_object"))
        except PeerRefused as refusal:
            self.refusal = refusal
            cast("asyncio.Transport", transport).abort()
            return False
        return True


P = TypeVar("P", bound=Dialed)

_DEFAULTS = ConnectionPool()

LOST_AFTER_S = 60.0
"""Of HTTP connections; as long as content that does not come is waited for."""


def keep_alive(
    transport: asyncio.BaseTransport, pool: ConnectionPool = _DEFAULTS, lost_after_s: float | None = None
) -> None:
    """Have the kernel probe an idle peer: a Swarm VIP forgets connections after 900 s (moby#31208).

    Args:
        lost_after_s: give a peer up that acknowledges nothing for so long (RFC 5482), as when its node is
            lost; else data is sent again for a quarter of an hour. Linux counts a closed window as well: not
            for tunnels, whose ends may rest.
    """
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, max(1, int(pool.keepalive_time_s)))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, int(pool.keepalive_interval_s)))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, pool.keepalive_probes)
    if lost_after_s is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(lost_after_s * 1000))


@dataclass(frozen=True, slots=True)
class Dialer:
    """Opens connections as this workload."""

    credentials: Live[Credentials | None]
    snapshot: Live[Snapshot | None]

    async def dial(self, cluster: Cluster, endpoint: Endpoint, factory: Callable[[], P], *, alpn: str) -> P:
        """Connect to one endpoint.

        Args:
            alpn: what is offered in a TLS handshake: `http/1.1`, `h2` or `tcp`.

        Raises:
            DialError: refused, unreachable, too slow, or the peer is not who was meant.
        """
        made: list[P] = []

        def build() -> P:
            made.append(factory())
            return made[0]

        try:
            async with asyncio.timeout(cluster.pool.connect_timeout_s):
                await self._connect(cluster, endpoint, build, alpn=alpn)
        except TimeoutError:
            raise DialError(
                f"connection timeout: {endpoint.address}:{endpoint.port} did not answer within "
                f"{cluster.pool.connect_timeout_s:g} s"
            ) from None
        except ssl.SSLError as error:
            raise DialError(f"TLS error: {error.reason or error}") from error
        except OSError as error:
            raise DialError(f"connection failure: {error.strerror or error}") from error
        protocol = made[0]
        if protocol.refusal is not None:
            raise DialError(f"TLS peer refused: {protocol.refusal}")
        return protocol

    async def _connect(
        self, cluster: Cluster, endpoint: Endpoint, build: Callable[[], P], *, alpn: str
    ) -> None:
        loop = asyncio.get_running_loop()
        if cluster.transport is Transport.PLAIN:
            await loop.create_connection(build, endpoint.address, endpoint.port)
            return
        credentials = self.credentials.value
        snapshot = self.snapshot.value
        if credentials is None or snapshot is None:
            raise DialError("this sidecar has no certificate")
        workload = endpoint.workload
        if workload is None:
            raise DialError(
                f"{cluster.name}: an mTLS endpoint without a workload: nobody could be expected there"
            )
        trust_domain, denied = snapshot.workload.trust_domain, snapshot.denied
        expected = frozenset((SpiffeId(trust_domain, workload.spiffe_path),))

        def judged() -> P:
            protocol = build()
            protocol.admit = lambda tls: dialled_peer(tls, trust_domain, denied, expected)
            return protocol

        port = cluster_port(cluster)
        await loop.create_connection(
            judged,
            endpoint.address,
            endpoint.port,
            ssl=credentials.clients[alpn],
            server_hostname=mesh_sni(workload, port) if port else cluster.sni,
            ssl_handshake_timeout=cluster.pool.connect_timeout_s,
        )


def cluster_port(cluster: Cluster) -> int:
    """The service's port that a cluster's name carries (`outbound|8080|v1|catalog.shop`); 0 if none."""
    parts = cluster.name.split("|")
    return int(parts[1]) if len(parts) > 1 and parts[1].isdecimal() else 0
