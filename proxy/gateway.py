"""The egress gateway's side: connections of other sidecars to hosts outside, named by their server name.

The caller is who its certificate says, as at any port of the mesh: its own sidecar dialled, nobody stands
between. What it may reach is in the snapshot; policies on the gateway judge it by its identity, by port, and
by the host as `connection.sni`. Bytes pass as they are: requests were judged where they began.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable

from meshpy.engine.verdict import Verdict
from meshpy.live import Live
from meshpy.model.endpoint import Cluster, Endpoint, Protocol, Transport
from meshpy.model.gateway import grant_for
from proxy.caller import Caller
from proxy.config import Compiled
from proxy.net.ending import allow_half_close
from proxy.net.outside import is_outside, local_networks, reachable
from proxy.net.pool import Surroundings, Upstream
from proxy.opaque import OpaqueSide
from proxy.opaque_roles import Tunnel, Way
from proxy.report import Reporter
from proxy.sides import Shared
from proxy.telemetry import EdgeKey
from proxy.waiting import Waiting

__all__ = ["GatewayDoor", "GatewayTcp"]

_log = logging.getLogger("meshpy.proxy")

_LOOK_UP_S = 5.0
_EARLY_BYTES = 64 * 1024


class GatewayTcp:
    """One caller's connection to one host outside.

    Args:
        outside: host and port, as the caller asks for them.
        found: where the host is; empty when that is not known.
    """

    needs_server_name = False

    def __init__(
        self, caller: Caller, live: Live[Compiled], outside: tuple[str, int], found: Upstream | None
    ) -> None:
        caller.is_opaque = True
        self._caller, self._live, self._found = caller, live, found
        self._host, self.port = outside

    @property
    def address(self) -> str:
        """The caller's."""
        return self._caller.peer.address

    def way(self, side: Tunnel) -> Way:
        """Judge the caller; the host is the only destination."""
        peer = self._caller.peer
        return Way(self.still(side), self._found, self._host, peer.principal, self._host)

    def still(self, side: Tunnel) -> Verdict:
        """The verdict on the connection by the configuration of now."""
        compiled, caller = self._live.value, self._caller
        if caller.is_cut(compiled):
            return Verdict(False, "identity", reason="the caller's identity was revoked")
        if grant_for(compiled.snapshot.gateway, caller.peer.service, self._host, self.port) is None:
            reason = f"{caller.peer.service} names no host {self._host}:{self.port} that this gateway is for"
            return Verdict(False, "egress", reason=reason)
        local = side.local_address.rpartition(":")[0]
        judge = compiled.authorizer.for_connection(caller.peer, self.port, Protocol.TCP, local, self._host)
        verdict = judge.judge(None)
        own = compiled.callers.get(str(caller.peer.service))
        if not verdict.allowed or own is None or own.depends_on_request or self._found is None:
            return verdict
        addresses = [host.endpoint.address for host in self._found.hosts]
        found = own.judge((), addresses, self.port, None, self._host)
        return verdict if found.allowed else found

    def edge_key(self, _side: Tunnel) -> EdgeKey:
        compiled, peer = self._live.value, self._caller.peer
        source = str(peer.service) if peer.service is not None else ""
        return EdgeKey("inbound", source, compiled.workload, self._host, "tcp", True)


class GatewayDoor(Waiting):
    """Looks the host up, keeps what comes meanwhile, then is a tunnel."""

    def __init__(
        self,
        caller: Caller,
        outside: tuple[str, int],
        live: Live[Compiled],
        own: tuple[Shared, Surroundings, Reporter],
        on_side: Callable[[OpaqueSide], None],
    ) -> None:
        super().__init__()
        self._caller, self._outside, self._live = caller, outside, live
        self._shared, self._own, self._reporter = own
        self._on_side = on_side
        self._early = b""
        self._is_at_eof = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        allow_half_close(transport)
        self.wait(transport, self._shared.wheel, _LOOK_UP_S, lambda: self._go_on(()))
        self._own.own(self._own.loop.create_task(self._look_up()))

    def data_received(self, data: bytes) -> None:
        self._early += data
        if len(self._early) > _EARLY_BYTES:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        self._is_at_eof = True
        return self._transport.can_write_eof()

    async def _look_up(self) -> None:
        host, port = self._outside
        grant = grant_for(self._live.value.snapshot.gateway, self._caller.peer.service, host, port)
        found: list[Endpoint] = []
        if grant is not None:  # who may not go there is told nothing by our look-ups
            try:
                for name, number in grant.dial or ((host, port),):
                    found += await _endpoints(self._own, name, number)
            except OSError as error:
                _log.info("%s cannot be looked up: %s", host, error)
        self._go_on(tuple(found))

    def _go_on(self, found: tuple[Endpoint, ...]) -> None:
        if self._transport.get_protocol() is not self or self._transport.is_closing():
            return
        self.settle()
        host, port = self._outside
        cluster = Cluster(f"outbound|{port}||{host}", Protocol.TCP, Transport.PLAIN, found)
        role = GatewayTcp(self._caller, self._live, self._outside, Upstream(cluster, self._own))
        self._transport.resume_reading()
        side = OpaqueSide(role, self._shared, self._own, self._reporter)
        self._on_side(side)
        self.hand_over(self._transport, side, self._early)
        if self._is_at_eof:
            side.eof_received()


async def _endpoints(own: Surroundings, name: str, port: int) -> list[Endpoint]:
    """Where a name leads, without anything that is on a network of ours."""
    local = local_networks()
    try:
        address = str(ipaddress.IPv4Address(name))
    except ValueError:
        return [Endpoint(each, port) for each in await reachable(own.loop, name, port, local)]
    return [Endpoint(address, port)] if is_outside(address, local) else []
