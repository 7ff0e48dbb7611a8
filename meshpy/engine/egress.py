"""Egress of one workload: Calico's egress tiers, judged by the caller's own sidecar before it sends."""

from __future__ import annotations

from collections.abc import Sequence

from meshpy.engine.request import Peer, Request
from meshpy.engine.tiers import NetworkStage, Walk
from meshpy.engine.verdict import Connection, Step, Verdict
from meshpy.model.authz import Authorization
from meshpy.model.names import ServiceName

__all__ = ["EgressAuthorizer"]

_MEMO_ENTRIES = 4096
_OPEN = Verdict(True, "egress", reason="no egress policy decides for this workload")
_Key = tuple[tuple[ServiceName, ...], str, int, bool]


class EgressAuthorizer:
    """Where this workload may call; without a tier that decides, everywhere it has a route to.

    Args:
        depends_on_request: True when a rule looks at method or path; headers are never looked at.

    Raises:
        MatchError: a CIDR or path that cannot be judged.
    """

    __slots__ = ("_memo", "_network", "depends_on_request")

    def __init__(self, auth: Authorization) -> None:
        self._network = NetworkStage(auth.egress, "egress")
        self.depends_on_request = self._network.depends_on_request
        self._memo: dict[_Key, tuple[Walk, ...]] = {}

    def judge(
        self, destination_services: Sequence[ServiceName], address: str, port: int, request: Request | None
    ) -> Verdict:
        """Judge a call: every service behind the destination must be allowed; the first refusal is told.

        Args:
            destination_services: what stands behind the chosen cluster; empty for a host outside the mesh.
            address: of the endpoint or external host; empty when it is not yet known.
        """
        if self._network.empty:
            return _OPEN
        key = (tuple(destination_services), address, port, request is None)
        walks = self._memo.get(key)
        if walks is None:
            if len(self._memo) >= _MEMO_ENTRIES:
                self._memo.clear()
            walks = self._memo[key] = tuple(self._network.walk(item) for item in _ends(*key))
        verdict = _OPEN
        logged: tuple[str, ...] = ()
        for walk in walks:
            outcome = walk.decide(request)
            verdict = outcome.verdict or _OPEN
            logged += outcome.logged
            if not verdict.allowed:
                break
        if not logged:
            return verdict
        unique = tuple(dict.fromkeys(logged))
        return Verdict(verdict.allowed, verdict.stage, verdict.policy, verdict.rule, verdict.reason, unique)

    def evaluate_all(
        self, destination_services: Sequence[ServiceName], address: str, port: int, request: Request | None
    ) -> list[Step]:
        """Every rule in order for each service behind the destination."""
        steps: list[Step] = []
        for end in _ends(tuple(destination_services), address, port, request is None):
            steps += self._network.steps(end, request)
        return steps


def _ends(services: tuple[ServiceName, ...], address: str, port: int, opaque: bool) -> list[Connection]:
    """The other ends of the call, one for each service; `service` is the callee here."""
    peers = [Peer(service, "", address) for service in services] or [Peer(None, "", address)]
    return [Connection.of_peer(peer, port, opaque=opaque) for peer in peers]
