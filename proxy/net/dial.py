"""Dialling an endpoint: TCP, TLS with its server name, the peer's identity; within the connect timeout."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, cast

from certs.errors import PeerRefused
from certs.spiffe import SpiffeId
from meshpy.errors import MeshpyError
from meshpy.live import Live
from meshpy.model.endpoint import Cluster, Endpoint, Transport
from meshpy.model.names import ServiceName
from meshpy.model.resilience import ConnectionPool
from meshpy.model.snapshot import Snapshot, mesh_sni
from proxy.net.recording import Recording
from proxy.net.secured import Secured
from proxy.net.tls import Credentials, PeerCertificate, dialled_peer

__all__ = ["LOST_AFTER_S", "DialError", "Dialed", "Dialer", "Judging", "is_admitted", "keep_alive"]


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
        return is_admitted(self, transport)


class Judging(Protocol):
    """A `Dialed`, or what is one in all but its class."""

    admit: Callable[[ssl.SSLObject], PeerCertificate] | None
    certificate: PeerCertificate | None
    refusal: PeerRefused | None


def is_admitted(dialed: Judging, transport: asyncio.BaseTransport) -> bool:
    """Judge the peer; a refused one is cut off."""
    if dialed.admit is None:
        return True
    try:
        dialed.certificate = dialed.admit(transport.get_extra_info("ssl_object"))
    except PeerRefused as refusal:
        dialed.refusal = refusal
        cast("asyncio.Transport", transport).abort()
        return False
    return True


P = TypeVar("P", bound=Judging)

_DEFAULTS = ConnectionPool()

_SLICES = 8
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
    recording: Recording = field(default_factory=Recording)

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
            await self._connect(cluster, endpoint, build, alpn=alpn)
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
            recording = self.recording
            made = cast("Callable[[], asyncio.Protocol]", build)
            recorded = (lambda: recording.wrapped(made())) if recording.is_on else made
            await loop.create_connection(recorded, sock=await _connected(cluster, endpoint))
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

        sock = await _connected(cluster, endpoint)
        opened = loop.create_future()
        secured = Secured(
            loop,
            credentials.clients[alpn],
            cast("Callable[[], asyncio.Protocol]", judged),
            on_open=lambda: _settle(opened, None),
            on_failed=lambda error: _settle(opened, error),
            server_name=_server_name(cluster, workload),
        )
        try:
            await loop.create_connection(secured.as_protocol, sock=sock)
            what = f"TLS handshake timeout: {endpoint.address}:{endpoint.port}"
            async with _within(cluster.pool.handshake_timeout_s, what):
                await opened
        except BaseException:
            secured.abort()
            raise


def _settle(opened: asyncio.Future[None], error: Exception | None) -> None:
    """Tell who waits for a handshake what became of it, if it still waits."""
    if opened.done():
        return
    if error is None:
        opened.set_result(None)
    else:
        opened.set_exception(error)


def _server_name(cluster: Cluster, workload: ServiceName) -> str:
    """What is asked for there: a port of the workload, or a host outside to which it is the gateway."""
    port = cluster_port(cluster)
    return mesh_sni(workload, port) if port and cluster.transport is not Transport.GATEWAY else cluster.sni


async def _connected(cluster: Cluster, endpoint: Endpoint) -> socket.socket:
    """A socket with a TCP connection.

    Raises:
        DialError: no answer in time.
        OSError: refused, unreachable.
    """
    sock = socket.socket(socket.AF_INET6 if ":" in endpoint.address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        what = f"connection timeout: {endpoint.address}:{endpoint.port}"
        async with _within(cluster.pool.connect_timeout_s, what):
            await asyncio.get_running_loop().sock_connect(sock, (endpoint.address, endpoint.port))
    except BaseException:
        sock.close()
        raise
    return sock


@contextlib.asynccontextmanager
async def _within(limit_s: float, what: str) -> AsyncIterator[None]:
    """Bound by the time in which this process could have seen the answer.

    A loop that got no CPU for seconds finds its timers due before it has looked at its sockets: an
    `asyncio.timeout` would blame the peer for that. Here a pause, however long, uses up one slice.

    Raises:
        DialError: too slow.
    """
    try:
        async with asyncio.timeout(None) as scope:
            slices = _Slices(asyncio.get_running_loop(), scope, limit_s)
            slices.begin()
            try:
                yield
            finally:
                slices.end()
    except TimeoutError:
        raise DialError(f"{what} did not answer within {limit_s:g} s") from None


class _Slices:
    """The parts of a time limit, one timer after the other; at the last one's end the time is over."""

    __slots__ = ("_left", "_loop", "_scope", "_slice_s", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, scope: asyncio.Timeout, limit_s: float) -> None:
        self._loop, self._scope, self._slice_s, self._left = loop, scope, limit_s / _SLICES, _SLICES
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        if not self._left:
            self._scope.reschedule(self._loop.time())
            return
        self._left -= 1
        self._timer = self._loop.call_later(self._slice_s, self.begin)

    def end(self) -> None:
        """Stop, and leave no reference to itself that the collector would have to find."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def cluster_port(cluster: Cluster) -> int:
    """The service's port that a cluster's name carries (`outbound|8080|v1|catalog.shop`); 0 if none."""
    parts = cluster.name.split("|")
    return int(parts[1]) if len(parts) > 1 and parts[1].isdecimal() else 0
