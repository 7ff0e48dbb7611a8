"""Egress of one workload: Calico's egress tiers, judged by the caller's own sidecar before it sends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from meshpy.engine.request import Peer, Request
from meshpy.engine.tiers import NetworkStage, Walk
from meshpy.engine.verdict import Connection, Step, Verdict
from meshpy.model.authz import Authorization
from meshpy.model.names import ServiceName

__all__ = ["EgressAuthorizer"]

_MEMO_ENTRIES = 4096
_OPEN = Verdict(True, "egress", reason="no egress policy decides for this workload")
_Key = tuple[tuple[ServiceName, ...], tuple[str, ...], int, bool, str]


class EgressAuthorizer:
    """Where this workload may call; without a tier that decides, everywhere it has a route to.

    Args:
        is_open: True when no tier decides anything, so that nothing needs to be asked.
        depends_on_request: True when a rule looks at the request.

    Raises:
        MatchError: a CIDR or path that cannot be judged.
    """

    __slots__ = ("_memo", "_pending", "_stage", "depends_on_request", "is_open")

    def __init__(self, auth: Authorization) -> None:
        self._stage = NetworkStage(auth.egress, "egress")
        self._pending = NetworkStage(auth.pending.egress, "pending") if auth.pending is not None else None
        self.is_open = self._stage.empty and self._pending is None
        self.depends_on_request = self._stage.depends_on_request
        self._memo: dict[_Key, tuple[tuple[Walk, ...], tuple[Walk, ...] | None]] = {}

    def judge(
        self,
        services: Sequence[ServiceName],
        addresses: Sequence[str],
        port: int,
        request: Request | None,
        host: str = "",
    ) -> Verdict:
        """Judge a call: everything behind the destination must be allowed; the first refusal is told.

        Args:
            services: what stands behind the chosen cluster; empty for a host outside the mesh.
            addresses: of that host; empty when they are not yet known.
            host: its name.
        """
        if self.is_open:
            return _OPEN
        key = (tuple(services), tuple(addresses), port, request is None, host)
        known = self._memo.get(key)
        if known is None:
            if len(self._memo) >= _MEMO_ENTRIES:
                self._memo.clear()
            known = self._memo[key] = self._walks(key)
        walks, pending = known
        verdict = _first_refusal(walks, request)
        return verdict if pending is None else replace(verdict, pending=_first_refusal(pending, request))

    def _walks(self, key: _Key) -> tuple[tuple[Walk, ...], tuple[Walk, ...] | None]:
        ends, pending = _ends(*key), self._pending
        walks = tuple(self._stage.walk(end) for end in ends)
        return walks, None if pending is None else tuple(pending.walk(end) for end in ends)

    def evaluate_all(
        self,
        services: Sequence[ServiceName],
        addresses: Sequence[str],
        port: int,
        request: Request | None,
        host: str = "",
    ) -> list[Step]:
        """Every rule in order for everything behind the destination, then the same of staged policies."""
        ends = _ends(tuple(services), tuple(addresses), port, request is None, host)
        stages = (self._stage,) if self._pending is None else (self._stage, self._pending)
        return [step for stage in stages for end in ends for step in stage.steps(end, request)]


def _first_refusal(walks: Sequence[Walk], request: Request | None) -> Verdict:
    """What the walks come to together, with the Log rules on the way."""
    verdict = _OPEN
    logged: tuple[str, ...] = ()
    for walk in walks:
        outcome = walk.decide(request)
        verdict = outcome.verdict or _OPEN
        logged += outcome.logged
        if not verdict.allowed:
            break
    return replace(verdict, audited=tuple(dict.fromkeys(logged))) if logged else verdict


def _ends(
    services: tuple[ServiceName, ...], addresses: tuple[str, ...], port: int, opaque: bool, host: str
) -> list[Connection]:
    """The other ends of the call; `service` is the callee here."""
    peers = [Peer(service) for service in services]
    if not services:
        peers = [Peer(None, "", address) for address in addresses] or [Peer()]
        return [replace(Connection.of_peer(peer, port, opaque=opaque), host=host) for peer in peers]
    return [Connection.of_peer(peer, port, opaque=opaque) for peer in peers]
