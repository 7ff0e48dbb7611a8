"""Snapshots without what decides nothing: AUDIT, dry-run and staged policies, and rules that only log.

The engine would read a request for them too, and every reading cuts the space of requests further.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from meshpy.model.authz import Action, NetworkAction, NetworkPolicy, Tier
from meshpy.model.names import ServiceName
from meshpy.model.snapshot import Snapshot

__all__ = ["deciding"]


def deciding(snapshots: Mapping[ServiceName, Snapshot]) -> dict[ServiceName, Snapshot]:
    """The same verdicts from less."""
    return {name: _deciding(snapshot) for name, snapshot in snapshots.items()}


def _deciding(snapshot: Snapshot) -> Snapshot:
    rules = snapshot.authorization
    policies = tuple(p for p in rules.policies if p.action is not Action.AUDIT and not p.dry_run)
    ingress, egress = _tiers(rules.ingress), _tiers(rules.egress)
    quiet = replace(rules, policies=policies, ingress=ingress, egress=egress, pending=None)
    return snapshot if quiet == rules else replace(snapshot, authorization=quiet)


def _tiers(tiers: tuple[Tier, ...]) -> tuple[Tier, ...]:
    """A policy of logging rules alone stays: whom it applies to, it closes."""
    return tuple(replace(tier, policies=tuple(map(_policy, tier.policies))) for tier in tiers)


def _policy(policy: NetworkPolicy) -> NetworkPolicy:
    return replace(policy, rules=tuple(rule for rule in policy.rules if rule.action is not NetworkAction.LOG))
