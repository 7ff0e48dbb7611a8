"""Istio policies of one action, compiled; and the rules of them that a connection may still meet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from meshpy.engine.match import RequestTest
from meshpy.engine.request import Request
from meshpy.engine.rules import Rule
from meshpy.engine.verdict import Connection, Step, Verdict
from meshpy.model.authz import Action, AuthorizationPolicy

__all__ = [
    "CompiledPolicy",
    "Entry",
    "compile_policies",
    "entries_of",
    "every_entry",
    "first_met",
    "steps_of",
]


class CompiledPolicy(NamedTuple):
    policy: AuthorizationPolicy
    rules: tuple[Rule, ...]


class Entry(NamedTuple):
    """A rule that a connection may still meet; no test: it meets it always.

    Args:
        provider: of a CUSTOM policy.
    """

    test: RequestTest | None
    verdict: Verdict
    label: str
    provider: str = ""


def first_met(entries: Sequence[Entry], request: Request | None) -> Entry | None:
    for entry in entries:
        test = entry.test
        if test is None or (request is not None and test(request)):
            return entry
    return None


def compile_policies(
    policies: Sequence[AuthorizationPolicy], action: Action, trust_domain: str, trusted_proxies: int
) -> tuple[CompiledPolicy, ...]:
    return tuple(
        CompiledPolicy(
            policy,
            tuple(
                Rule(
                    rule,
                    denies=action is not Action.ALLOW,
                    trust_domain=trust_domain,
                    trusted_proxies=trusted_proxies,
                )
                for rule in policy.rules
            ),
        )
        for policy in policies
        if policy.action is action
    )


def entries_of(items: Sequence[CompiledPolicy], connection: Connection, *, allowed: bool) -> list[Entry]:
    """The rules that can match, up to the first that surely does."""
    entries: list[Entry] = []
    for entry in every_entry(items, connection, allowed=allowed):
        entries.append(entry)
        if entry.test is None:
            break
    return entries


def every_entry(
    items: Sequence[CompiledPolicy], connection: Connection, *, allowed: bool = True
) -> list[Entry]:
    entries: list[Entry] = []
    for policy, rules in items:
        for rule in rules:
            reduced = rule.reduce(connection)
            if reduced is False:
                continue
            label = f"{policy.name} {rule.name}"
            verdict = _verdict(policy, rule.name, label, allowed=allowed)
            entries.append(Entry(None if reduced is True else reduced, verdict, label, policy.provider))
    return entries


def _verdict(policy: AuthorizationPolicy, rule: str, label: str, *, allowed: bool) -> Verdict:
    if policy.action is Action.CUSTOM:
        # Only of opaque connections, which no provider can be asked about.
        why = f"{label} asks {policy.provider}, which cannot be asked about an opaque connection"
        return Verdict(False, "custom", policy.name, rule, why)
    stage, verb = ("allow", "allows") if allowed else ("deny", "denies")
    return Verdict(allowed, stage, policy.name, rule, f"{label} {verb} it")


def steps_of(stage: str, item: CompiledPolicy, connection: Connection, request: Request | None) -> list[Step]:
    policy = item.policy
    action = f"{policy.action.value} (dry run)" if policy.dry_run else policy.action.value
    if not item.rules:
        return [Step(stage, policy.name, "", action, False, "it has no rules")]
    steps: list[Step] = []
    for rule in item.rules:
        why = rule.failure(connection, request)
        steps.append(Step(stage, policy.name, rule.name, action, not why, why or "everything holds"))
    return steps
