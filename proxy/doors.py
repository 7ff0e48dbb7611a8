"""Doors: what a listener's accepted connection becomes, by the configuration of that moment."""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from collections.abc import Callable

from certs.errors import PeerRefused
from meshpy.engine.request import Peer
from meshpy.live import Live
from proxy.config import Compiled
from proxy.downstream import Downstream, H2Downstream
from proxy.inbound import Caller, Inbound, identify
from proxy.net.listener import Accepted
from proxy.net.pool import Surroundings
from proxy.net.tls import ALPN_H2
from proxy.opaque import InboundTcp, OpaqueSide, OutboundTcp
from proxy.outbound import Outbound
from proxy.proxied_edge import ProxiedEdge
from proxy.report import Reporter
from proxy.sides import ClientConnection, Shared

__all__ = ["Doors"]

_log = logging.getLogger("meshpy.proxy")


class Doors:
    """Factories of protocols for the three kinds of listeners."""

    def __init__(
        self,
        live: Live[Compiled],
        shared: Shared,
        own: Surroundings,
        inbound: Reporter,
        outbound: Reporter,
    ) -> None:
        self.live = live
        self.shared = shared
        self.own = own
        self.inbound = inbound
        self.outbound = outbound

    def on_refused(self, peer: str, reason: str) -> None:
        """A handshake on the mesh port failed."""
        _log.warning("refused %s on the mesh port: %s", peer, reason)

    def for_app(self, key: tuple[str, int]) -> Callable[[], Accepted]:
        """The app's calls to one address and port."""
        role = Outbound(key, self.live, self.outbound)

        def accept() -> Accepted:
            target = self.live.value.outbound.get(key)
            if target is not None and target.router is None:
                tcp = OutboundTcp(key, self.live, self.shared)
                return OpaqueSide(tcp, self.shared, self.own, self.outbound)
            return Downstream(role, self.shared)

        return accept

    def for_edge(self, port: int) -> Callable[[], Accepted]:
        """Callers without identity at one port: published, or reached by services outside the mesh."""

        def accept() -> Accepted:
            target = self.live.value.inbound.get(port)
            if target is not None and target.port.proxy_protocol:
                return ProxiedEdge(self.shared, self.inbound.telemetry, begin)
            return begin()

        def begin() -> Accepted:
            target = self.live.value.inbound.get(port)
            if target is not None and (target.is_strict or not target.port.protocol.is_http):
                # Under STRICT a connection is judged like an opaque one: refused before it says anything.
                return _EdgeTcp(port, self)
            return Downstream(Inbound(self.live, self.inbound, _stranger(port), port), self.shared)

        return accept

    def for_mesh(self) -> Callable[[], Accepted]:
        """Other sidecars: known once the handshake is over."""
        return lambda: _MeshDoor(self)


def _stranger(port: int) -> Callable[[ClientConnection], Caller]:
    return lambda down: Caller(Peer(None, "", down.peer_address), port, "", None, ())


class _EdgeTcp(Accepted):
    """An opaque connection from outside: its address is known only once it is made."""

    def __init__(self, port: int, doors: Doors) -> None:
        self._port = port
        self._doors = doors

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        address = self._doors.shared.peer_of(transport)
        caller = Caller(Peer(None, "", address), self._port, "", None, ())
        _become_opaque(self, transport, caller, self._doors)


class _MeshDoor(Accepted):
    """A finished handshake: the peer is judged before any byte of it is read, then handed on."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        doors = self._doors
        compiled = doors.live.value
        peer = transport.get_extra_info("peername")
        address = str(peer[0]) if peer else ""
        try:
            caller = identify(transport.get_extra_info("ssl_object"), compiled, address)
        except PeerRefused as refusal:
            doors.inbound.telemetry.refused(refusal.reason)
            _log.warning("refused %s on the mesh port: %s", address, refusal)
            if isinstance(transport, asyncio.Transport) or hasattr(transport, "abort"):
                transport.abort()
            return
        if compiled.inbound[caller.port].port.protocol.is_http:
            role = Inbound(doors.live, doors.inbound, lambda _down: caller, caller.port)
            is_h2 = transport.get_extra_info("ssl_object").selected_alpn_protocol() == ALPN_H2
            down = H2Downstream(role, doors.shared) if is_h2 else Downstream(role, doors.shared)
            self.hand_over(transport, down)
            _expire_with(caller, doors, down.expire)
        else:
            side = _become_opaque(self, transport, caller, doors)
            _expire_with(caller, doors, side.expire)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the loop's signature
        if self.ticket is not None:
            self.ticket.release()


def _become_opaque(
    door: Accepted, transport: asyncio.BaseTransport, caller: Caller, doors: Doors
) -> OpaqueSide:
    side = OpaqueSide(InboundTcp(caller, doors.live), doors.shared, doors.own, doors.inbound)
    door.hand_over(transport, side)
    return side


def _expire_with(caller: Caller, doors: Doors, end: Callable[[], None]) -> None:
    """Nobody speaks longer than its certificate lives (THREATS P4)."""
    if caller.certificate is not None:
        # Weakly: a connection that has ended must not wait for its certificate to be forgotten.
        method = weakref.WeakMethod(end)
        delay_s = max(0.0, caller.certificate.not_after - time.time())
        doors.shared.wheel.after(delay_s, lambda: _call(method))


def _call(method: weakref.WeakMethod[Callable[[], None]]) -> None:
    end = method()
    if end is not None:
        end()
