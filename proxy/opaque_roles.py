"""Where opaque connections go, and who may: the app's own, and those of known callers to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol as Shape

from meshpy.engine.verdict import Verdict
from meshpy.live import Live
from meshpy.model.endpoint import Protocol, Transport
from proxy.caller import Caller, edge_key
from proxy.config import Compiled
from proxy.http.sniff import Spoken
from proxy.net.host import Host
from proxy.net.pool import Upstream
from proxy.sides import Shared
from proxy.telemetry import EdgeKey

__all__ = ["InboundTcp", "OpaqueRole", "OutboundTcp", "Tunnel", "Way"]


class Tunnel(Shape):
    """What a role asks of its connection."""

    local_address: str
    server_name: str
    host: Host | None
    upstream: Upstream | None
    service: str


@dataclass(slots=True)
class Way:
    """Where one opaque connection goes, or who refuses it."""

    verdict: Verdict
    upstream: Upstream | None
    service: str
    principal: str = ""
    server_name: str = ""


class OpaqueRole(Shape):
    """One sort of opaque connection.

    Args:
        address: of the caller, where that is known better than the connection tells; else empty.
        port: of the app, or outside; 0 where connections are the app's own.
    """

    @property
    def address(self) -> str: ...

    @property
    def port(self) -> int: ...

    @property
    def needs_server_name(self) -> bool:
        """Whether the ClientHello has to be read before there is a way."""
        ...

    def way(self, side: Tunnel) -> Way:
        """Where the connection goes, or who refuses it."""
        ...

    def still(self, side: Tunnel) -> Verdict | None:
        """The verdict on a live one by the configuration of now; None when its listener is gone."""
        ...

    def edge_key(self, side: Tunnel) -> EdgeKey:
        """Under which numbers it is counted."""
        ...


class OutboundTcp:
    """The app's connections to one opaque listener.

    Args:
        found: what the first bytes are, where they were looked at.
    """

    address = ""
    port = 0

    def __init__(
        self,
        key: tuple[str, int],
        live: Live[Compiled],
        shared: Shared,
        found: Spoken | None = None,
    ) -> None:
        self._may_name = found in (None, Spoken.TLS)
        self._key = key
        self._live = live
        self._shared = shared

    def way(self, side: Tunnel) -> Way:
        """Route by server name and address, choose by weight, ask the egress rules."""
        compiled = self._live.value
        target = compiled.outbound.get(self._key)
        if target is not None and target.opaque is None and target.listener.protocol is Protocol.AUTO:
            reason = "several hosts share this address: bytes that are no HTTP do not tell which is meant"
            return Way(Verdict(False, "route", reason=reason), None, "", compiled.workload)
        if target is None or target.opaque is None:
            return Way(Verdict(False, "egress", reason="this listener is being closed"), None, "")
        name = side.server_name
        found = target.opaque.route(name, side.local_address.rpartition(":")[0].strip("[]"))
        if found is None:
            reason = f"no route here is for the server name {name!r}"
            return Way(Verdict(False, "route", reason=reason), None, "", compiled.workload, name)
        destination = found.choice.pick(self._shared.draw())
        verdict = target.judge(compiled.egress, destination, None)
        upstream = target.clusters[destination.cluster]
        return Way(verdict, upstream, found.route.host, compiled.workload, name)

    @property
    def needs_server_name(self) -> bool:
        """Whether the ClientHello has to be read before there is a way."""
        target = self._live.value.outbound.get(self._key)
        if target is None or target.opaque is None or not self._may_name:
            return False
        return target.opaque.needs_server_name

    def still(self, side: Tunnel) -> Verdict | None:
        """The verdict on a live tunnel; None when its listener is gone."""
        compiled = self._live.value
        target = compiled.outbound.get(self._key)
        upstream = side.upstream
        if target is None or target.opaque is None or upstream is None:
            return None
        for destination in target.listener.destinations():
            if target.clusters[destination.cluster] is upstream:
                return target.judge(compiled.egress, destination, None)
        return Verdict(True, "egress", reason="its route was replaced; a live connection stays where it is")

    def edge_key(self, side: Tunnel) -> EdgeKey:
        host = side.host
        workload = host.endpoint.workload if host is not None else None
        is_mtls = host is not None and host.upstream.cluster.transport is Transport.MTLS
        destination = str(workload) if workload is not None else ""
        return EdgeKey("outbound", self._live.value.workload, destination, side.service, "tcp", is_mtls)


class InboundTcp:
    """Connections to one opaque port of the app, from a known caller."""

    needs_server_name = False

    @property
    def address(self) -> str:
        """The caller's."""
        return self._caller.peer.address

    def __init__(self, caller: Caller, live: Live[Compiled]) -> None:
        caller.is_opaque = True
        self._caller = caller
        self._live = live

    def way(self, side: Tunnel) -> Way:
        """Judge the caller; the app is the only destination."""
        verdict = self.still(side)
        caller = self._caller
        if verdict is None or caller.target is None:
            verdict = verdict or Verdict(False, "baseline", reason="the port is not served any more")
            return Way(verdict, None, self._live.value.service, caller.peer.principal, caller.sni)
        upstream = caller.target.plan.upstream
        return Way(verdict, upstream, self._live.value.service, caller.peer.principal, caller.sni)

    def still(self, side: Tunnel) -> Verdict | None:
        """The verdict on the connection by the configuration of now."""
        compiled, caller = self._live.value, self._caller
        if caller.compiled is not compiled:
            caller.renew(compiled, side.local_address.rpartition(":")[0])
        if caller.is_cut(compiled):
            return Verdict(False, "identity", reason="the caller's identity was revoked")
        if caller.judge is None:
            return None
        return caller.judge.judge(None)

    @property
    def port(self) -> int:
        return self._caller.port

    def edge_key(self, _side: Tunnel) -> EdgeKey:
        return edge_key(self._caller, self._live.value, "tcp")
