"""Policies tried on the shop: who may send what to whom, by the sidecars' own engine."""

from __future__ import annotations

from meshpy.compile import compile_mesh
from meshpy.engine.authorize import InboundAuthorizer
from meshpy.engine.egress import EgressAuthorizer
from meshpy.engine.request import Peer, Request
from meshpy.engine.verdict import Verdict
from meshpy.model.endpoint import Protocol
from meshpy.model.names import ServiceName
from tests.helpers.policies import loaded, shop
from tests.helpers.wire import mesh_as_received

__all__ = ["Tried"]


class Tried:
    """The shop under some policies.

    `stage` etc. are those of the callee; a refusal of the caller's egress comes first, as in the mesh.
    """

    def __init__(self, *texts: str, inventory=None) -> None:
        self.inventory = inventory or shop()
        mesh = compile_mesh(self.inventory, loaded(*texts), trust_domain="cluster.local", revision=1)
        self.mesh = mesh_as_received(mesh)

    def ask(
        self,
        source: str,
        target: str,
        port: int | None = None,
        method: str = "GET",
        path: str = "/",
        *,
        address: str = "10.9.9.9",
        headers: dict[str, list[str]] | None = None,
        host: str = "",
    ) -> Verdict:
        """`source` is a service, or `outside`."""
        callee = ServiceName.parse(target, "shop")
        service = self.inventory.services[callee]
        known = {item.number: item.protocol for item in service.ports}
        number = port or next(iter(known))
        protocol = known.get(number, Protocol.HTTP)
        request = None
        if protocol.is_http:
            request = Request(method, path, "", host or f"{callee.name}:{number}", "http", headers or {})
        peer = Peer(None, "", address)
        if source != "outside":
            caller = ServiceName.parse(source, "shop")
            peer = Peer(caller, f"cluster.local{caller.spiffe_path}", address)
            egress = EgressAuthorizer(self.mesh[caller].authorization).judge((callee,), (), number, request)
            if not egress.allowed:
                return egress
        return InboundAuthorizer(self.mesh[callee].authorization).judge(request, peer, number, protocol)

    def leave(self, source: str, host: str, port: int, *addresses: str) -> Verdict:
        """A call to a host outside the mesh."""
        authorization = self.mesh[ServiceName.parse(source, "shop")].authorization
        return EgressAuthorizer(authorization).judge((), addresses, port, None, host)

    def allowed(self, *question: object, **more: object) -> bool:
        return self.ask(*question, **more).allowed  # type: ignore[arg-type]
