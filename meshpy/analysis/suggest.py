"""Least-privilege AuthorizationPolicies from recorded traffic, with how far they can be trusted.

A callee is `learning` until it was watched long enough and often enough, `stabilizing` while new kinds of
requests still turned up in the last fifth of the time, `stable` afterwards. Policies come out staged (dry
run): they decide nothing, are counted, and are enforced by dropping the annotation.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from meshpy.analysis.recording import Recording
from meshpy.analysis.templates import Template, templates_of
from meshpy.model.names import ServiceName

__all__ = ["Observed", "Sighting", "Suggestion", "Threshold", "suggest"]


@dataclass(frozen=True, slots=True)
class Threshold:
    """What makes a callee known well enough."""

    observed_s: float = 24 * 3600.0
    requests: int = 100
    many: int = 10


@dataclass(frozen=True, slots=True)
class Allowed:
    """What one set of callers was seen to do: an opaque port has neither methods nor paths."""

    sources: tuple[ServiceName, ...]
    port: int
    methods: tuple[str, ...]
    templates: tuple[Template, ...]
    count: int


@dataclass(frozen=True, slots=True)
class Sighting:
    """What a caller was let do, so often; None is a caller without an identity."""

    source: ServiceName | None
    destination: ServiceName
    port: int
    method: str
    path: str
    count: int
    first_s: float


@dataclass(frozen=True, slots=True)
class Observed:
    """Args:
    watched_s: how long each callee was watched.
    end_s: when the observation ended, in seconds since the epoch.
    lost: requests of a callee that no sighting holds.
    """

    sightings: tuple[Sighting, ...]
    watched_s: Mapping[ServiceName, float]
    end_s: float
    lost: Mapping[ServiceName, int] = field(default_factory=dict)

    @classmethod
    def of(cls, recording: Recording) -> Observed:
        """The requests of a recording that were allowed."""
        found: dict[tuple[object, ...], Sighting] = {}
        for entry in recording.entries:
            if entry.allowed:
                key = (entry.source, entry.destination, entry.port, entry.method, entry.path)
                known = found.get(key)
                first_s, count = (known.first_s, known.count) if known else (entry.time_s, 0)
                found[key] = Sighting(*key, count + 1, first_s)
        callees = {sighting.destination for sighting in found.values()}
        end_s = recording.entries[-1].time_s if recording.entries else 0.0
        return cls(tuple(found.values()), dict.fromkeys(callees, recording.span_s), end_s)


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A policy for one callee.

    Args:
        state: learning, stabilizing or stable.
        confidence: 0 to 1: how much of the wanted time and number was seen, and how long nothing new came.
        outside: requests of callers without identity on published ports; no rule can name these callers.
        lost: requests that were counted and not kept: the rules do not know them.
    """

    destination: ServiceName
    rules: tuple[Allowed, ...]
    state: str
    confidence: float
    requests: int
    observed_s: float
    outside: int
    outside_ports: tuple[int, ...] = ()
    lost: int = 0

    @property
    def name(self) -> str:
        """Of the policy."""
        return f"{self.destination.name}-least-privilege".lower()

    def document(self, *, staged: bool = True) -> str:
        """The policy as a document, with its evidence in comments."""
        annotations = '\n  annotations:\n    istio.io/dry-run: "true"' if staged else ""
        seen = f"{self.requests} requests in {self.observed_s / 3600:.1f} h"
        lines = [
            f"# {self.state}, confidence {self.confidence:.0%}: {seen}",
            "apiVersion: security.istio.io/v1",
            "kind: AuthorizationPolicy",
            f"metadata:\n  name: {self.name}\n  namespace: {self.destination.namespace}{annotations}",
            "spec:",
            f"  selector: {{matchLabels: {{service: {self.destination.name}}}}}",
            "  action: ALLOW",
            "  rules:",
        ]
        for rule in self.rules:
            lines += _rule_lines(rule, self.destination.namespace)
        if self.outside:
            lines += [
                f"    # {self.outside} requests of callers without an identity, on a published port",
                f"    - to: [{{operation: {{ports: {_list(map(str, self.outside_ports))}}}}}]",
            ]
        return "\n".join(lines) + "\n"

    def to_json(self) -> dict[str, object]:
        return {
            "destination": str(self.destination),
            "state": self.state,
            "confidence": round(self.confidence, 4),
            "requests": self.requests,
            "observed_s": self.observed_s,
            "rules": [
                {
                    "sources": [str(source) for source in rule.sources],
                    "port": rule.port,
                    "methods": list(rule.methods),
                    "paths": [template.text for template in rule.templates],
                    "merged": [text for template in rule.templates for text in template.merged],
                    "requests": rule.count,
                }
                for rule in self.rules
            ],
            "policy": self.document(),
        }


def _rule_lines(rule: Allowed, namespace: str) -> list[str]:
    lines = [f"    # {text}" for template in rule.templates for text in template.merged]
    accounts = [s.name if s.namespace == namespace else str(s) for s in rule.sources]
    lines.append(f"    - from: [{{source: {{serviceAccounts: {_list(accounts)}}}}}]  # {rule.count} requests")
    operation = [f"ports: {_list([str(rule.port)])}"]
    operation += [f"methods: {_list(rule.methods)}"] if rule.methods else []
    operation += [f"paths: {_list([t.text for t in rule.templates])}"] if rule.templates else []
    lines.append(f"      to: [{{operation: {{{', '.join(operation)}}}}}]")
    return lines


def _list(words: Iterable[str]) -> str:
    return "[" + ", ".join(f'"{word}"' for word in words) + "]"


def suggest(observed: Observed, threshold: Threshold) -> list[Suggestion]:
    """A policy for each callee that was called, from the requests that were allowed."""
    by_callee: dict[ServiceName, list[Sighting]] = {}
    for sighting in observed.sightings:
        by_callee.setdefault(sighting.destination, []).append(sighting)
    return [_suggestion(callee, seen, observed, threshold) for callee, seen in sorted(by_callee.items())]


def _suggestion(
    callee: ServiceName, sightings: Sequence[Sighting], observed: Observed, threshold: Threshold
) -> Suggestion:
    known = [each for each in sightings if each.source is not None]
    outside = [each for each in sightings if each.source is None]
    rules = _rules(known, threshold.many)
    span, lost = observed.watched_s.get(callee, 0.0), observed.lost.get(callee, 0)
    calm_s = observed.end_s - _last_novelty(known, rules)
    requests = sum(each.count for each in sightings)
    watched = min(1.0, span / threshold.observed_s if threshold.observed_s else 1.0)
    counted = min(1.0, requests / threshold.requests if threshold.requests else 1.0)
    calm = min(1.0, calm_s / (0.2 * span)) if span else 0.0
    confidence = watched * counted * calm * requests / (requests + lost)
    state = "stable"
    if watched < 1 or counted < 1:
        state = "learning"
    elif calm < 1 or lost:
        state = "stabilizing"
    ports = tuple(sorted({each.port for each in outside}))
    count = sum(each.count for each in outside)
    return Suggestion(callee, rules, state, confidence, requests, span, count, ports, lost)


def _rules(sightings: Sequence[Sighting], many: int) -> tuple[Allowed, ...]:
    """One rule for each (callers, port, methods, templates): callers that do the same stand together."""
    seen: dict[tuple[ServiceName, int], dict[str, list[Sighting]]] = {}
    for each in sightings:
        assert each.source is not None  # noqa: S101 - the others were sorted out
        seen.setdefault((each.source, each.port), {}).setdefault(each.method, []).append(each)
    merged: dict[tuple[int, str, tuple[str, ...]], tuple[list[ServiceName], list[Template], int]] = {}
    for (source, port), methods in sorted(seen.items()):
        for method, members in sorted(methods.items()):
            templates = templates_of((each.path for each in members), many=many) if method else []
            key = (port, method, tuple(template.text for template in templates))
            sources, _, count = merged.get(key, ([], [], 0))
            merged[key] = ([*sources, source], templates, count + sum(each.count for each in members))
    by_paths: dict[tuple[object, ...], Allowed] = {}
    for (port, method, texts), (sources, templates, count) in merged.items():
        group = (tuple(sources), port, texts)
        known = by_paths.get(group)
        methods_ = (*(known.methods if known else ()), *([method] if method else ()))
        total = (known.count if known else 0) + count
        by_paths[group] = Allowed(tuple(sources), port, methods_, tuple(templates), total)
    return tuple(by_paths.values())


def _last_novelty(sightings: Sequence[Sighting], rules: Sequence[Allowed]) -> float:
    """When the last caller, method or template turned up for the first time."""
    first: dict[object, float] = {}
    patterns: Mapping[str, re.Pattern[str]] = {
        template.text: re.compile(re.escape(template.text).replace(r"\{\*\}", "[^/]+"))
        for rule in rules
        for template in rule.templates
    }
    for each in sightings:
        template = next((t for t, p in patterns.items() if p.fullmatch(each.path)), each.path)
        key = (each.source, each.port, each.method, template)
        first[key] = min(each.first_s, first.get(key, each.first_s))
    return max(first.values(), default=0.0)
