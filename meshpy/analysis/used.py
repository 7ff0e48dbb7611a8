"""Which rules took part in what was seen: who decided, and who let it go on to where it was decided.

A network rule that lets a request pass on to an ALLOW rule is needed as much as that rule, and so are a Pass
and the caller's own egress rules: all of them are used, though a log names the decider alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from meshpy.analysis.recording import Recorded, Recording
from meshpy.analysis.suggest import Sighting
from meshpy.engine.explain import at_sidecar
from meshpy.engine.prepared import Prepared
from meshpy.engine.request import Peer, Request
from meshpy.model.names import ServiceName
from meshpy.model.snapshot import Snapshot
from meshpy.policy import PolicySet

__all__ = ["Call", "calls_of", "calls_seen", "last_used", "outside_rules"]


@dataclass(frozen=True, slots=True)
class Call:
    """A request (None: an opaque connection) that a callee judged, for the last time at `time_s`."""

    peer: Peer
    destination: ServiceName
    port: int
    request: Request | None
    time_s: float


def calls_of(recording: Recording) -> Iterable[Call]:
    """The calls of a recording."""
    for entry in recording.entries:
        request = Recorded(entry) if entry.method else None
        yield Call(entry.peer, entry.destination, entry.port, request, entry.time_s)


def calls_seen(sightings: Iterable[tuple[Sighting, float]], trust_domain: str) -> Iterable[Call]:
    """Calls of sightings, each with when it was seen last."""
    for seen, last_s in sightings:
        source = seen.source
        peer = Peer(source, f"{trust_domain}{source.spiffe_path}") if source is not None else Peer()
        path = seen.path.replace("{*}", "x")
        request = Request(seen.method, path, "", seen.destination.name, "http", {}) if seen.method else None
        yield Call(peer, seen.destination, seen.port, request, last_s)


def last_used(
    calls: Iterable[Call], snapshots: Mapping[ServiceName, Snapshot]
) -> dict[tuple[str, str], float]:
    """(policy, rule) → when it last took part in judging a call, in seconds since the epoch."""
    side = Prepared(snapshots)
    found: dict[tuple[str, str], float] = {}
    for call in calls:
        if call.destination not in side:
            continue
        answer = at_sidecar(side, call.destination, call.port, call.peer, call.request)
        steps = [step for step in answer.steps if step.stage == "network"]
        if call.peer.service is not None and call.peer.service in side:
            egress = side.egress(call.peer.service)
            steps += egress.evaluate_all((call.destination,), (), call.port, call.request)
        names = {(step.policy, step.rule) for step in steps if step.matched and step.stage != "pending"}
        for name in (*names, (answer.verdict.policy, answer.verdict.rule)):
            found[name] = max(call.time_s, found.get(name, 0.0))
    return found


def outside_rules(policies: PolicySet) -> set[tuple[str, str]]:
    """Egress rules for hosts outside the mesh, of which no callee here can tell."""
    found = set()
    for policy in policies.network_policies:
        for index, rule in enumerate(policy.egress or ()):
            peer = rule.destination
            if peer.nets is not None or peer.domains is not None or peer.is_outside:
                found.add((policy.meta.title, rule.name or f"egress[{index}]"))
    return found
