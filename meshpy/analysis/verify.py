"""Invariants proved over all classes of requests, or refuted by one request."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from meshpy.analysis.asked import Tests
from meshpy.analysis.deciding import deciding
from meshpy.analysis.diff import Witness, allowed_share, witness_of
from meshpy.analysis.flow import Caller, Flow
from meshpy.analysis.flows import flows
from meshpy.analysis.invariants import Invariant, Party, Word
from meshpy.analysis.probe import Probe, TooManyClasses, explore
from meshpy.analysis.space import Space
from meshpy.engine.explain import Explanation, Leg
from meshpy.engine.match import compile_path
from meshpy.engine.prepared import Prepared
from meshpy.model.endpoint import Transport
from meshpy.model.inventory import Inventory
from meshpy.model.match import Exact
from meshpy.model.names import OUTSIDE_WORDS, ServiceName
from meshpy.model.snapshot import Snapshot

__all__ = ["Proof", "unknown_parties", "verify"]


@dataclass(frozen=True, slots=True)
class Proof:
    """What became of an invariant.

    Args:
        holds: True: proved for every request; False: refuted; None: neither, `why` says what is in the way.
        classes: how many were judged.
    """

    invariant: Invariant
    holds: bool | None
    why: str = ""
    witness: Witness | None = None
    classes: int = 0


def verify(
    snapshots: Mapping[ServiceName, Snapshot], inventory: Inventory, invariants: Sequence[Invariant]
) -> list[Proof]:
    """Prove each invariant, in order."""
    side = Prepared(deciding(snapshots), with_steps=False)
    every = list(flows(side, side))
    return [
        _mtls(invariant, side, inventory, every) if invariant.is_mtls else _prove(invariant, every)
        for invariant in invariants
    ]


def unknown_parties(invariant: Invariant, inventory: Inventory) -> list[str]:
    """Names that are no service: an invariant about nobody would hold for the wrong reason."""
    parties = (*invariant.sources, invariant.destination)
    return [
        f"{party.namespace}/{party.name}"
        for party in parties
        if not party.is_anybody
        and not _is_outside(party)
        and not any(party.is_service(name.namespace, name.name) for name in inventory.services)
    ]


def _is_outside(party: Party) -> bool:
    return party.name in OUTSIDE_WORDS


def _is_caller(party: Party, caller: Caller) -> bool:
    if party.is_anybody:
        return True
    if caller.service is None:
        return _is_outside(party)
    is_known = not caller.is_stranger and party.is_service(caller.service.namespace, caller.service.name)
    return is_known and not _is_outside(party)


def _reaches(invariant: Invariant, leg: Leg) -> bool:
    party = invariant.destination
    if leg.service is None:
        named = leg.destination.host if leg.destination is not None else ""
        is_meant = party.is_anybody or named == party.name
    else:
        is_meant = party.is_service(leg.service.namespace, leg.service.name)
    return is_meant and party.port in (None, leg.port)


def _prove(invariant: Invariant, every: Iterable[Flow]) -> Proof:
    """`never` and `only` look for an allowed request, `always` for a refused one."""
    classes, doubt = 0, ""
    more = Tests()
    if invariant.path is not None:
        more.text("path", (invariant.path,))
    if invariant.method:
        more.text("method", (Exact(invariant.method),))
    for flow in every:
        is_source = any(_is_caller(party, flow.caller) for party in invariant.sources)
        if is_source is (invariant.word is Word.ONLY) or not _may_reach(invariant, flow):
            continue
        space = flow.space(more)
        found = _search(invariant, flow, space)
        if isinstance(found, str):
            doubt = doubt or found
            continue
        count, witness = found
        classes += count
        if witness is not None:
            explanation = flow.new(Probe(space, witness))
            return Proof(invariant, False, _reason(explanation), witness_of(flow, space, witness), classes)
        if space.unproved:
            doubt = doubt or f"{flow.caller.label} → {flow.host}:{flow.port}: {next(iter(space.unproved))}"
    return Proof(invariant, None if doubt else True, doubt, None, classes)


def _may_reach(invariant: Invariant, flow: Flow) -> bool:
    party = invariant.destination
    if any(party.is_service(name.namespace, name.name) for name in flow.services):
        return True
    return not flow.services and (party.is_anybody or flow.host == party.name)


def _search(invariant: Invariant, flow: Flow, space: Space) -> tuple[int, Mapping[str, int] | None] | str:
    on_path = compile_path(invariant.path) if invariant.path is not None else None

    def ask(probe: Probe) -> bool:
        """True when this request refutes the invariant."""
        explanation = flow.new(probe)
        if not flow.is_opaque:
            if invariant.method and probe.method != invariant.method:
                return False
            received = (explanation.route or {}).get("rewritten_path")
            if on_path is not None and not on_path(received or probe.path):
                return False
        legs = [leg for leg in explanation.legs or _direct(flow, explanation) if _reaches(invariant, leg)]
        if invariant.word is Word.ALWAYS:
            return not explanation.verdict.allowed if not legs else any(not x.verdict.allowed for x in legs)
        return any(leg.verdict.allowed for leg in legs)

    try:
        cells = explore(space, ask)
    except TooManyClasses as error:
        refuting = next((cell.fixed for cell in error.cells if cell.answer), None)
        return str(error) if refuting is None else (len(error.cells), refuting)
    return len(cells), next((cell.fixed for cell in cells if cell.answer), None)


def _direct(flow: Flow, explanation: Explanation) -> Iterator[Leg]:
    """Where a sidecar is addressed itself, its own verdict is the leg; an answer of the caller's is none."""
    if explanation.rule is None and len(flow.services) == 1 and explanation.route is None:
        yield Leg(next(iter(flow.services)), None, flow.port, 1.0, None, explanation.verdict)


def _reason(explanation: Explanation) -> str:
    words = "allowed" if allowed_share(explanation) else "denied"
    return f"{words}: {explanation.verdict.reason}"


def _mtls(invariant: Invariant, side: Prepared, inventory: Inventory, every: Iterable[Flow]) -> Proof:
    """Calls between services only: what a stack publishes is open to the world by its own word."""
    party = invariant.destination
    for name, snapshot in sorted(side.items()):
        for listener in snapshot.outbound:
            for destination in listener.destinations():
                cluster = snapshot.clusters.get(destination.cluster)
                meant = [s for s in destination.services if party.is_service(s.namespace, s.name)]
                if cluster is not None and meant and cluster.transport is Transport.PLAIN:
                    why = f"{meant[0]} has no sidecar, {name} calls it in plaintext"
                    return Proof(invariant, False, why, Witness(str(name), str(meant[0]), listener.port))
    for flow in every:
        caller = flow.caller
        if caller.service is not None or _is_published(inventory, flow) or not _may_reach(invariant, flow):
            continue
        space = flow.space()
        for cell in explore(space, flow.new):
            if cell.answer.verdict.allowed:
                why = f"a caller without identity is {_reason(cell.answer)}"
                return Proof(invariant, False, why, witness_of(flow, space, cell.fixed))
    return Proof(invariant, True)


def _is_published(inventory: Inventory, flow: Flow) -> bool:
    services = (inventory.services[name] for name in flow.services if name in inventory.services)
    return any(port.published and port.number == flow.port for service in services for port in service.ports)
