"""What `explain` answers with: who asks, what each destination says, and the whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from meshpy.engine.verdict import Step, Verdict
from meshpy.model.names import ServiceName
from meshpy.model.route import Destination, RouteRule

__all__ = ["Explanation", "Leg", "Source"]


@dataclass(frozen=True, slots=True)
class Source:
    """Who calls; `service` None is a caller outside the mesh. The address is for rules on `nets`."""

    service: ServiceName | None = None
    address: str = ""


@dataclass(frozen=True, slots=True)
class Leg:
    """One service that the request may reach, with its share of requests and the verdict there.

    Args:
        egress: the caller's own sidecar; None for callers outside the mesh.
        inbound: the callee's sidecar; None when the egress verdict is a refusal, or it has no sidecar.
    """

    service: ServiceName | None
    destination: Destination | None
    port: int
    share: float
    egress: Verdict | None
    inbound: Verdict | None
    steps: tuple[Step, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """What decides: a refusal of either side, else the callee's word."""
        if self.egress is not None and (not self.egress.allowed or self.inbound is None):
            return self.egress
        return self.inbound or Verdict(True, "egress", reason="the destination has no sidecar that judges")

    def to_json(self) -> dict[str, Any]:
        verdict = self.verdict
        return {
            "service": str(self.service) if self.service else None,
            "host": self.destination.host if self.destination else None,
            "subset": (self.destination.subset or None) if self.destination else None,
            "cluster": self.destination.cluster if self.destination else None,
            "port": self.port,
            "share": round(self.share, 6),
            "allowed": verdict.allowed,
            "stage": verdict.stage,
            "policy": verdict.policy or None,
            "rule": verdict.rule or None,
            "reason": verdict.reason,
            "pending": pending_json(verdict),
        }


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer. `verdict` is the first refusal of any leg, else that of the first leg.

    Args:
        rule: the route that was taken; None where nothing routes.
    """

    verdict: Verdict
    route: Mapping[str, Any] | None
    legs: tuple[Leg, ...] = ()
    steps: tuple[Step, ...] = ()
    rule: RouteRule | None = None

    def to_json(self) -> dict[str, Any]:
        """The object of `meshpy policy explain -o json`; absent parts are null."""
        return {
            "allowed": self.verdict.allowed,
            "stage": self.verdict.stage,
            "policy": self.verdict.policy or None,
            "rule": self.verdict.rule or None,
            "reason": self.verdict.reason,
            "pending": pending_json(self.verdict),
            "route": self.route,
            "destinations": [leg.to_json() for leg in self.legs],
            "audited": list(dict.fromkeys(name for leg in self.legs for name in leg.verdict.audited)),
            "steps": [
                {
                    "stage": step.stage,
                    "policy": step.policy or None,
                    "rule": step.rule or None,
                    "action": step.action,
                    "matched": step.matched,
                    "why": step.why,
                }
                for step in self.steps
            ],
        }


def pending_json(verdict: Verdict) -> dict[str, Any] | None:
    """What staged policies would make of it; null where none takes part."""
    pending = verdict.pending
    if pending is None:
        return None
    return {
        "allowed": pending.allowed,
        "stage": pending.stage,
        "policy": pending.policy or None,
        "rule": pending.rule or None,
        "reason": pending.reason,
    }
