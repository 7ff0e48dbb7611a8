"""Snapshots with their engines at hand: built once, asked many times."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

from meshpy.engine.egress import EgressAuthorizer
from meshpy.engine.explanation import Source
from meshpy.engine.inbound import InboundJudge
from meshpy.engine.judge import ConnectionJudge
from meshpy.engine.rate_limits import steps_of
from meshpy.engine.request import Peer, Request
from meshpy.engine.route import Router
from meshpy.engine.verdict import Step, Verdict
from meshpy.model.endpoint import Protocol
from meshpy.model.names import ServiceName
from meshpy.model.snapshot import OutboundListener, Snapshot, mesh_sni

__all__ = ["Prepared"]


class Prepared(Mapping[ServiceName, Snapshot]):
    """Snapshots whose engines are built once, for many questions.

    Args:
        snapshots: may be read as they are asked for; the same object each time.
        with_steps: False leaves out every rule that was considered and the list of destinations; verdicts and
            legs are the same.
        speaking_of: finds the services whose routes name one of some hosts, where that can be known without
            reading them all.
    """

    def __init__(
        self,
        snapshots: Mapping[ServiceName, Snapshot],
        *,
        with_steps: bool = True,
        speaking_of: Callable[[Collection[str]], Iterable[ServiceName]] | None = None,
    ) -> None:
        self._snapshots = snapshots
        self._speaking_of = speaking_of
        self.with_steps = with_steps
        self._inbound: dict[ServiceName, InboundJudge] = {}
        self._egress: dict[ServiceName, EgressAuthorizer] = {}
        self._connections: dict[
            tuple[int, int, int, bool], tuple[ServiceName, Peer, InboundJudge, ConnectionJudge]
        ] = {}
        self._peers: dict[int, tuple[Source, Peer]] = {}
        self._routers: dict[int, tuple[OutboundListener, Router]] = {}

    def __getitem__(self, service: ServiceName) -> Snapshot:
        return self._snapshots[service]

    def __contains__(self, service: object) -> bool:
        return service in self._snapshots

    def __iter__(self) -> Iterator[ServiceName]:
        return iter(self._snapshots)

    def __len__(self) -> int:
        return len(self._snapshots)

    def speaking_of(self, hosts: Collection[str]) -> Iterable[Snapshot]:
        """Snapshots whose routes may name one of these hosts, lower case; all that do are there."""
        if self._speaking_of is None:
            return self._snapshots.values()
        return (self._snapshots[name] for name in self._speaking_of(hosts))

    def judge_inbound(
        self,
        service: ServiceName,
        peer: Peer,
        port: int,
        protocol: Protocol,
        request: Request | None,
        local_address: str = "",
    ) -> tuple[Verdict, tuple[Step, ...]]:
        """The callee's verdict; with its steps, and by the address that is called, when they are wanted."""
        if not self.with_steps:
            judge, on = self._on(service, peer, port, protocol if request is not None else Protocol.TCP)
            return judge.verdict(on, request if protocol.is_http else None), ()
        judge = self._judge_of(service)
        sni = _sni(service, peer, port)
        verdict, steps = judge.judge(peer, port, protocol, request, sni=sni, local_address=local_address)
        if verdict.allowed and request is not None and protocol.is_http:
            steps += tuple(steps_of(self[service].rate_limits, peer, request))
        return verdict, steps

    def _judge_of(self, service: ServiceName) -> InboundJudge:
        judge = self._inbound.get(service)
        if judge is None:
            judge = self._inbound[service] = InboundJudge(self[service])
        return judge

    def _on(
        self, service: ServiceName, peer: Peer, port: int, protocol: Protocol
    ) -> tuple[InboundJudge, ConnectionJudge]:
        # by identity, as a comparison of names costs more than a verdict; what is held keeps its id
        key = (id(service), id(peer), port, protocol.is_http)
        held = self._connections.get(key)
        if held is None:
            judge = self._judge_of(service)
            on = judge.on(peer, port, protocol, _sni(service, peer, port))
            held = self._connections[key] = (service, peer, judge, on)
        return held[2:]

    def peer_of(self, source: Source) -> Peer:
        """The caller as a callee sees it."""
        held = self._peers.get(id(source))
        if held is None:
            service, principal = source.service, ""
            if service is not None:
                principal = f"{self[service].workload.trust_domain}{service.spiffe_path}"
            held = self._peers[id(source)] = (source, Peer(service, principal, source.address))
        return held[1]

    def egress(self, service: ServiceName) -> EgressAuthorizer:
        if service not in self._egress:
            self._egress[service] = EgressAuthorizer(self[service].authorization)
        return self._egress[service]

    def router(self, listener: OutboundListener) -> Router:
        # the listener is kept beside its router, so that its id stays its own
        held = self._routers.get(id(listener))
        if held is None:
            held = self._routers[id(listener)] = (listener, Router.of_listener(listener))
        return held[1]


def _sni(service: ServiceName, peer: Peer, port: int) -> str:
    """A peer with an identity came over the mesh, where its sidecar names the port and service it wants."""
    return mesh_sni(service, port) if peer.principal else ""
