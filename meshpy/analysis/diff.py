"""Which requests two revisions treat otherwise: exact over classes, each with a request that shows it.

Every flow that could differ is explored with both revisions at once, by the engine of the sidecars. A class
on which they answer alike is done; the others are gathered by what changed. What cannot be cut into classes
(an expression without an automaton, a rewrite by expression) is told as undetermined, never left out.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any

from meshpy.analysis.deciding import deciding
from meshpy.analysis.describe import described, merged
from meshpy.analysis.explorations import MOST_CLASSES, Answers, Explorations
from meshpy.analysis.flow import Flow
from meshpy.analysis.flows import flows
from meshpy.analysis.probe import Cell, Probe
from meshpy.analysis.space import Space
from meshpy.engine.explain import Explanation
from meshpy.engine.prepared import Prepared
from meshpy.engine.request import Request
from meshpy.model.names import OUTSIDE, ServiceName
from meshpy.model.route import HeaderOps, RouteRule
from meshpy.model.snapshot import Snapshot

__all__ = ["Change", "Delta", "Diff", "Kind", "Undetermined", "Witness", "diff"]


class Kind(StrEnum):
    """What became of a class of requests."""

    ALLOWED = "newly allowed"
    DENIED = "newly denied"
    ROUTED = "routed otherwise"


@dataclass(frozen=True, slots=True)
class Witness:
    """One request that shows it, as `meshpy policy explain` would be asked; `claims` are its token's."""

    source: str
    destination: str
    port: int
    method: str = ""
    path: str = ""
    authority: str = ""
    headers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    source_ip: str = ""
    claims: Mapping[str, Any] | None = None

    def __str__(self) -> str:
        words = [self.source, "→", f"{self.destination}:{self.port}", self.method, self.path]
        words += [f"{name}: {value}" for name, values in self.headers.items() for value in values]
        words += [f"from {self.source_ip}"] if self.source_ip else []
        words += [f"with a token {json.dumps(self.claims)}"] if self.claims is not None else []
        return " ".join(word for word in words if word)

    def to_json(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "destination": self.destination,
            "port": self.port,
            "method": self.method or None,
            "path": self.path or None,
            "authority": self.authority or None,
            "headers": {name: list(values) for name, values in self.headers.items()},
            "source_ip": self.source_ip or None,
            "claims": self.claims,
        }


@dataclass(frozen=True, slots=True)
class Change:
    """One class of requests that is treated otherwise.

    Args:
        sources: who sends them; `nets` narrows their addresses.
        requests: alternatives, each dimension → words; an empty one is every request.
        before, after: the verdict and who decided it.
    """

    kind: Kind
    sources: tuple[str, ...]
    destination: str
    port: int
    nets: str
    requests: tuple[Mapping[str, str], ...]
    before: str
    after: str
    witness: Witness

    def to_json(self) -> dict[str, Any]:
        return {
            "change": self.kind.value,
            "sources": list(self.sources),
            "source_nets": self.nets or None,
            "destination": self.destination,
            "port": self.port,
            "requests": [dict(words) for words in self.requests],
            "before": self.before,
            "after": self.after,
            "witness": self.witness.to_json(),
        }


@dataclass(frozen=True, slots=True)
class Undetermined:
    """A flow of which not every class was judged: there may be a difference that is not shown.

    Args:
        is_left: `why` is that there were too many classes, not what could not be cut into any.
    """

    source: str
    destination: str
    port: int
    why: str
    is_left: bool = False

    def __str__(self) -> str:
        return self.why if self.is_left else f"{self.why} could not be cut into classes"

    def to_json(self) -> dict[str, Any]:
        return {"source": self.source, "destination": self.destination, "port": self.port, "why": self.why}


@dataclass(frozen=True, slots=True)
class Delta:
    """The differing cells of one flow, as they were explored."""

    flow: Flow
    space: Space
    cells: tuple[Cell[Answers], ...]

    def has(self, request: Request) -> bool:
        """True when the request is of a class that changed."""
        values = self.space.find(request)
        return values is not None and any(
            all(values[name] == number for name, number in cell.fixed.items()) for cell in self.cells
        )


@dataclass(frozen=True, slots=True)
class Diff:
    """All differences; `classes` is how many were judged."""

    deltas: tuple[Delta, ...]
    changes: tuple[Change, ...]
    undetermined: tuple[Undetermined, ...]
    flows: int
    classes: int

    @property
    def is_empty(self) -> bool:
        """True when it is proved that no request is treated otherwise."""
        return not self.changes and not self.undetermined

    def to_json(self) -> dict[str, Any]:
        return {
            "changes": [change.to_json() for change in self.changes],
            "undetermined": [item.to_json() for item in self.undetermined],
            "compared": {"flows": self.flows, "classes": self.classes},
        }


def diff(
    old: Mapping[ServiceName, Snapshot],
    new: Mapping[ServiceName, Snapshot],
    *,
    most: int = MOST_CLASSES,
    progress: Callable[[int, int], None] = lambda _flows, _classes: None,
) -> Diff:
    """Compare two compiled revisions.

    Args:
        most: how many classes may be judged in all; what is left over is told as undetermined.
        progress: called with the flows and classes so far, before each flow.
    """
    before, after = (Prepared(deciding(each), with_steps=False) for each in (old, new))
    deltas: list[Delta] = []
    undetermined: dict[Undetermined, None] = {}
    every = list(flows(before, after, only_changed=True))
    explored = Explorations(most, _differing)
    classes = 0
    for flow, space, found in explored.of(every, progress):
        for reason in found.unproved:
            undetermined[Undetermined(flow.caller.label, flow.host, flow.port, reason)] = None
        if found.left:
            left = Undetermined(flow.caller.label, flow.host, flow.port, found.left, is_left=True)
            undetermined[left] = None
        classes += found.judged
        if found.cells:
            deltas.append(Delta(flow, space, found.cells))
    return Diff(tuple(deltas), _changes(deltas), tuple(undetermined), len(every), classes)


def _differing(cells: Sequence[Cell[Answers]]) -> tuple[Cell[Answers], ...]:
    kinds: dict[tuple[int, int], Kind | None] = {}  # by identity: most cells share their answers

    def kind(before: Explanation, after: Explanation) -> Kind | None:
        key = (id(before), id(after))
        if key not in kinds:
            kinds[key] = kind_of(before, after)
        return kinds[key]

    return tuple(cell for cell in cells if kind(*cell.answer) is not None)


def kind_of(before: Explanation, after: Explanation) -> Kind | None:
    """None when the two treat the request alike; who decided it is not looked at."""
    shares = allowed_share(before), allowed_share(after)
    if shares[0] < shares[1]:
        return Kind.ALLOWED
    if shares[0] > shares[1]:
        return Kind.DENIED
    return None if not shares[1] or _is_alike(before, after) else Kind.ROUTED


def allowed_share(explanation: Explanation) -> float:
    """The share of requests that reach something: 1 when all legs are allowed."""
    if len(explanation.legs) < 2:
        return 1.0 if explanation.verdict.allowed else 0.0
    return round(sum(leg.share for leg in explanation.legs if leg.verdict.allowed), 9)


_CHANGED = ("rewritten_path", "rewritten_authority", "redirect", "status")
_EFFECTS = tuple(field.name for field in fields(RouteRule) if field.name not in ("name", "policy", "matches"))


def _is_alike(before: Explanation, after: Explanation) -> bool:
    """Whether both go the same way, and are changed alike on it."""
    if len(before.legs) != len(after.legs):
        return False
    routes = before.route or {}, after.route or {}
    return (
        all(
            (one.service, one.port, one.share) == (other.service, other.port, other.share)
            and one.verdict.allowed == other.verdict.allowed
            and one.destination == other.destination
            for one, other in zip(before.legs, after.legs, strict=True)
        )
        and all(routes[0].get(key) == routes[1].get(key) for key in _CHANGED)
        and _has_same_effect(before.rule, after.rule)
    )


def _has_same_effect(one: RouteRule | None, other: RouteRule | None) -> bool:
    if one is None or other is None or one is other:
        return one is other
    return all(getattr(one, name) == getattr(other, name) for name in _EFFECTS)


def _words(explanation: Explanation) -> str:
    """The verdict in one line; destinations when there is a choice."""
    verdict = explanation.verdict
    by = " ".join(part for part in (verdict.policy, verdict.rule) if part) or verdict.stage
    share = allowed_share(explanation)
    words = "allowed" if verdict.allowed else "denied" if not share else f"denied for {1 - share:.0%}"
    return f"{words} by {by}"


def _route_words(explanation: Explanation) -> str:
    rule, route = explanation.rule, explanation.route or {}
    if rule is None and not explanation.legs:
        return _words(explanation)
    if "redirect" in route:
        return f"redirected {route['status']} to {route['redirect']}"
    if not explanation.legs:
        return f"answered {route.get('status')}"
    shares: dict[str, float] = {}
    for leg in explanation.legs:
        name = str(leg.service) if leg.service else (leg.destination.host if leg.destination else "-")
        shares[name] = shares.get(name, 0.0) + leg.share
    words = ["to " + ", ".join(f"{name} {share:.0%}" for name, share in shares.items())]
    words += [f"as {route['rewritten_path']}"] if route.get("rewritten_path") else []
    words += [f"for {route['rewritten_authority']}"] if route.get("rewritten_authority") else []
    if rule is not None:
        words += [f"timeout {rule.timeout_s:g} s"] if rule.timeout_s is not None else []
        words += [f"{rule.retry.attempts} retries"]
        words += ["with a fault"] if rule.fault is not None else []
        changed = {rule.request_headers, rule.response_headers} != {HeaderOps()}
        words += ["headers changed"] if changed else []
    return ", ".join(words)


@dataclass(frozen=True, slots=True)
class _Group:
    """Cells of one flow that change alike: what is said of them, and one of them."""

    kind: Kind
    before: str
    after: str
    requests: tuple[Mapping[str, str], ...]
    first: Mapping[str, int]


def _groups(delta: Delta) -> tuple[_Group, ...]:
    groups: dict[tuple[Kind, str, str], list[Cell[Answers]]] = {}
    words: dict[tuple[int, int], tuple[Kind, str, str]] = {}  # by identity, as in `_differing`
    for cell in delta.cells:
        before, after = cell.answer
        known = words.get((id(before), id(after)))
        if known is None:
            kind = kind_of(before, after)
            assert kind is not None  # noqa: S101 - only differing cells are kept
            tell = _route_words if kind is Kind.ROUTED else _words
            known = words[id(before), id(after)] = (kind, tell(before), tell(after))
        groups.setdefault(known, []).append(cell)
    return tuple(
        _Group(
            *said,
            tuple(described(delta.space, box) for box in merged([cell.fixed for cell in cells])),
            cells[0].fixed,
        )
        for said, cells in groups.items()
    )


def _changes(deltas: list[Delta]) -> tuple[Change, ...]:
    """Cells by kind and words, merged over requests, then over callers that see the same."""
    found: dict[tuple[object, ...], Change] = {}
    known: dict[int, tuple[_Group, ...]] = {}  # flows that are alike share their cells
    for delta in deltas:
        if id(delta.cells) not in known:
            known[id(delta.cells)] = _groups(delta)
        for group in known[id(delta.cells)]:
            flow = delta.flow
            requests = tuple(tuple(sorted(words.items())) for words in group.requests)
            said = (group.kind, group.before, group.after)
            key = (*said, flow.host, flow.port, flow.caller.nets, requests)
            if (before := found.get(key)) is not None:
                sources = tuple(dict.fromkeys((*before.sources, flow.caller.label)))
                found[key] = replace(before, sources=sources)
                continue
            found[key] = Change(
                group.kind,
                (flow.caller.label,),
                flow.host,
                flow.port,
                flow.caller.nets,
                group.requests,
                group.before,
                group.after,
                witness_of(flow, delta.space, group.first),
            )
    order = {Kind.ALLOWED: 0, Kind.DENIED: 1, Kind.ROUTED: 2}
    return tuple(sorted(found.values(), key=lambda c: (order[c.kind], c.destination, c.port, c.sources)))


def witness_of(flow: Flow, space: Space, fixed: Mapping[str, int]) -> Witness:
    """A request of a cell."""
    caller = flow.caller
    source = str(caller.service) if caller.service else OUTSIDE
    if flow.is_opaque:
        return Witness(source, flow.host, flow.port, source_ip=caller.address)
    probe = Probe(space, fixed)
    sent = probe.plain()
    path = f"{sent.path}?{sent.query}" if sent.query else sent.path
    headers = {name: tuple(values) for name, values in sent.headers.items() if name != "host"}
    return Witness(
        source,
        flow.host,
        flow.port,
        sent.method,
        path,
        sent.authority,
        headers,
        caller.address,
        probe.payload(),
    )
