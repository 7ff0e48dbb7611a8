"""Snapshots with their engines at hand: built once, asked many times."""

from __future__ import annotations

from collections.abc import Mapping

from meshpy.engine.egress import EgressAuthorizer
from meshpy.engine.inbound import InboundJudge
from meshpy.engine.rate_limits import steps_of
from meshpy.engine.request import Peer, Request
from meshpy.engine.route import Router
from meshpy.engine.verdict import Step, Verdict
from meshpy.model.endpoint import Protocol
from meshpy.model.names import ServiceName
from meshpy.model.snapshot import OutboundListener, Snapshot, mesh_sni

__all__ = ["Prepared"]


class Prepared(dict[ServiceName, Snapshot]):
    """Snapshots whose engines are built once, for many questions.

    Args:
        with_steps: False leaves out every rule that was considered and the list of destinations; verdicts and
            legs are the same.
    """

    def __init__(self, snapshots: Mapping[ServiceName, Snapshot], *, with_steps: bool = True) -> None:
        super().__init__(snapshots)
        self.with_steps = with_steps
        self._inbound: dict[ServiceName, InboundJudge] = {}
        self._egress: dict[ServiceName, EgressAuthorizer] = {}
        self._routers: dict[int, tuple[OutboundListener, Router]] = {}

    def judge_inbound(
        self, service: ServiceName, peer: Peer, port: int, protocol: Protocol, request: Request | None
    ) -> tuple[Verdict, tuple[Step, ...]]:
        """The callee's verdict, with its steps when they are wanted."""
        judge = self._inbound.get(service)
        if judge is None:
            judge = self._inbound[service] = InboundJudge(self[service])
        # a peer with an identity came over the mesh, where its sidecar names the port and service it wants
        sni = mesh_sni(service, port) if peer.principal else ""
        verdict, steps = judge.judge(peer, port, protocol, request, sni=sni, with_steps=self.with_steps)
        if self.with_steps and verdict.allowed and request is not None and protocol.is_http:
            steps += tuple(steps_of(self[service].rate_limits, peer, request))
        return verdict, steps

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
