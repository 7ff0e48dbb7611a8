"""Doors: what a listener's accepted connection becomes, by the configuration of that moment."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
import weakref
from collections.abc import Awaitable, Callable

from certs.errors import PeerRefused
from meshpy.engine.request import Peer
from meshpy.live import Live
from meshpy.model.endpoint import Protocol
from meshpy.model.ingress import IngressServer
from proxy.caller import Caller, identify
from proxy.config import Compiled
from proxy.downstream import Downstream, H2Downstream
from proxy.downstream.life import HttpConnection
from proxy.gateway import GatewayDoor
from proxy.http.sniff import Spoken
from proxy.inbound import Inbound
from proxy.net.listener import Accepted, Opening
from proxy.net.peek import OpeningRefusedError, peek_hello, take_proxy_header
from proxy.net.pool import Surroundings
from proxy.net.timers import Timer
from proxy.net.tls import ALPN_H2, ALPN_HTTP, ALPN_TCP, ALPN_TUNNEL
from proxy.opaque import OpaqueSide
from proxy.opaque_roles import InboundTcp, OutboundTcp
from proxy.outbound import Outbound
from proxy.proxied_edge import ProxiedEdge
from proxy.report import Reporter
from proxy.sides import Role, Shared
from proxy.sniffed import Sniffed

__all__ = ["Doors"]

_TOLD = {
    ALPN_HTTP: Spoken.HTTP1,
    ALPN_H2: Spoken.HTTP2,
    ALPN_TCP: Spoken.OPAQUE,
    ALPN_TUNNEL: Spoken.OPAQUE,
}
"""On a port declared `auto` the caller's sidecar has looked already, and says so in its handshake."""

_UNRECOGNIZED_NAME = bytes((21, 3, 1, 0, 2, 2, 112))
"""The alert that says so (RFC 6066 §3), before any handshake."""

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
                return opaque(None)
            if target is not None and target.listener.protocol is Protocol.AUTO:
                return Sniffed(self.shared, become)
            return Downstream(role, self.shared).as_protocol()

        def become(found: Spoken, _transport: asyncio.BaseTransport) -> Accepted:
            return http_side(found, role, self.shared) or opaque(found)

        def opaque(found: Spoken | None) -> Accepted:
            tcp = OutboundTcp(key, self.live, self.shared, found)
            return OpaqueSide(tcp, self.shared, self.own, self.outbound)

        return accept

    def for_edge(self, port: int) -> Callable[[], Accepted]:
        """Callers without identity at one port: published, or reached by services outside the mesh."""

        def accept() -> Accepted:
            target = self.live.value.inbound.get(port)
            known = self.live.value.servers.get(port)
            if known.server.proxy_protocol if known else target is not None and target.port.proxy_protocol:
                return ProxiedEdge(self.shared, self.inbound.telemetry, begin)
            return begin()

        def begin() -> Accepted:
            known = self.live.value.servers.get(port)
            if known is not None:  # the others with TLS never get here: see `opening_at`
                return self._in_plaintext(known.server)
            target = self.live.value.inbound.get(port)
            if target is not None and (target.is_strict or not target.port.protocol.is_http):
                # Under STRICT a connection is judged like an opaque one: refused before it says anything.
                return _EdgeTcp(port, self)
            if target is not None and target.port.protocol is Protocol.AUTO:
                return Sniffed(self.shared, become)
            return Downstream(role(), self.shared).as_protocol()

        def become(found: Spoken, _transport: asyncio.BaseTransport) -> Accepted:
            return http_side(found, role(), self.shared) or _EdgeTcp(port, self)

        def role() -> Inbound:
            return Inbound(self.live, self.inbound, _stranger(port), port)

        return accept

    def _in_plaintext(self, server: IngressServer) -> Accepted:
        """A server that redirects, or one of a Gateway without TLS."""
        target = self.live.value.inbound.get(server.target)
        is_opaque = target is not None and (target.is_strict or not target.port.protocol.is_http)
        if is_opaque and not server.redirect_to:
            return _EdgeTcp(server.target, self, server=server)
        inbound = Inbound(self.live, self.inbound, _stranger(server.target, server), server.target)
        return Downstream(inbound, self.shared).as_protocol()

    def opening_at(self, port: int) -> Callable[[socket.socket], Awaitable[Opening | None]]:
        """What callers at one port find there: TLS by the name that they ask for, or None for plaintext."""

        async def opening(connection: socket.socket) -> Opening | None:
            known = self.live.value.servers.get(port)
            if known is None or not known.server.tls:
                return None
            from proxy.edge_door import EdgeDoor  # noqa: PLC0415 - brings the X.509 library along

            server = known.server
            claimed = (await take_proxy_header(connection)).source if server.proxy_protocol else ""
            name = (await peek_hello(connection)).server_name
            chosen = known.choose(name)
            if chosen is None:
                connection.send(_UNRECOGNIZED_NAME)
                raise OpeningRefusedError("server-name")
            tls, context = chosen
            if context is None:
                return Opening(None, lambda: _EdgeTcp(server.target, self, (name, claimed), server))
            return Opening(context, lambda: EdgeDoor(self, server, tls, (name, claimed), self._secured))

        return opening

    def refused_at(self, port: int) -> Callable[[str, str], None]:
        """Told of callers that did not come as far as a handshake, or not through it."""

        def refused(peer: str, reason: str) -> None:
            self.inbound.telemetry.refused("edge-tls")
            _log.info("refused %s at port %d: %s", peer, port, reason)

        return refused

    def _secured(self, caller: Caller, tls: ssl.SSLObject) -> Accepted:
        """What a caller with TLS becomes, by the protocol of the app's port and what was agreed on."""
        target = self.live.value.inbound.get(caller.port)
        if (
            target is None
            or not target.port.protocol.is_http
            or (target.is_strict and not caller.peer.principal)
        ):
            return _opaque_side(caller, self)
        role = Inbound(self.live, self.inbound, lambda down: _met(caller, down), caller.port)

        def become(found: Spoken, _transport: asyncio.BaseTransport) -> Accepted:
            return http_side(found, role, self.shared) or _opaque_side(caller, self)

        found = _TOLD.get(tls.selected_alpn_protocol() or "")
        if found is None and target.port.protocol is Protocol.AUTO:
            return Sniffed(self.shared, become)
        side = http_side(found or Spoken.HTTP1, role, self.shared)
        return side or _opaque_side(caller, self)

    def for_mesh(self) -> Callable[[], Accepted]:
        """Other sidecars: known once the handshake is over."""
        return lambda: _MeshDoor(self)


def http_side(found: Spoken, role: Role, shared: Shared) -> Accepted | None:
    """Who reads what was found to be HTTP; None for all else."""
    side = _http_side(found, role, shared)
    return None if side is None else side.as_protocol()


def _http_side(found: Spoken, role: Role, shared: Shared) -> HttpConnection | None:
    if found is Spoken.HTTP2:
        return H2Downstream(role, shared)
    return Downstream(role, shared) if found is Spoken.HTTP1 else None


def _stranger(port: int, server: IngressServer | None = None) -> Callable[[HttpConnection], Caller]:
    return lambda down: Caller(Peer(None, "", down.peer_address), port, "", None, (), server=server)


def _met(caller: Caller, down: HttpConnection) -> Caller:
    """A caller whose address was told before TLS began."""
    down.peer_address = caller.peer.address
    return caller


class _EdgeTcp(Accepted):
    """An opaque connection from outside: its address is known only once it is made."""

    def __init__(
        self,
        port: int,
        doors: Doors,
        names: tuple[str, str] = ("", ""),
        server: IngressServer | None = None,
    ) -> None:
        self._port = port
        self._doors = doors
        self._name, self._claimed = names
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        address = self._claimed or self._doors.shared.peer_of(transport)
        caller = Caller(Peer(None, "", address), self._port, self._name, None, (), server=self._server)
        self.hand_over(transport, _opaque_side(caller, self._doors))


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
        if caller.outside is not None:
            own = (doors.shared, doors.own, doors.inbound)
            ends = lambda side: _end_with(caller, side, doors)  # noqa: E731 - a door's own word
            self.hand_over(transport, GatewayDoor(caller, caller.outside, doors.live, own, ends))
            return
        protocol = compiled.inbound[caller.port].port.protocol
        alpn = transport.get_extra_info("ssl_object").selected_alpn_protocol()

        def become(found: Spoken, _transport: asyncio.BaseTransport) -> Accepted:
            role = Inbound(doors.live, doors.inbound, lambda _down: caller, caller.port)
            down = _http_side(found, role, doors.shared)
            if down is not None:
                down.expiry = _expire_with(caller, doors, down.expire)
                return down.as_protocol()
            side = _opaque_side(caller, doors)
            _end_with(caller, side, doors)
            return side

        if protocol is Protocol.AUTO and alpn not in _TOLD:
            self.hand_over(transport, Sniffed(doors.shared, become))
        elif protocol is Protocol.AUTO:
            self.hand_over(transport, become(_TOLD[alpn], transport))
        elif protocol.is_http:
            self.hand_over(transport, become(Spoken.HTTP2 if alpn == ALPN_H2 else Spoken.HTTP1, transport))
        else:
            self.hand_over(transport, become(Spoken.OPAQUE, transport))


def _opaque_side(caller: Caller, doors: Doors) -> OpaqueSide:
    return OpaqueSide(InboundTcp(caller, doors.live), doors.shared, doors.own, doors.inbound)


def _end_with(caller: Caller, side: OpaqueSide, doors: Doors) -> None:
    """Weakly: a connection that has ended must not wait for its certificate to be forgotten."""
    method = weakref.WeakMethod(side.expire)
    _expire_with(caller, doors, lambda: _call(method))


def _expire_with(caller: Caller, doors: Doors, end: Callable[[], None]) -> Timer | None:
    """Nobody speaks longer than its certificate lives (THREATS P4)."""
    if caller.certificate is None:
        return None
    return doors.shared.wheel.after(max(0.0, caller.certificate.not_after - time.time()), end)


def _call(method: weakref.WeakMethod[Callable[[], None]]) -> None:
    end = method()
    if end is not None:
        end()
