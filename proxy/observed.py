"""What policies that decide nothing said of a request: AUDIT and Log rules, staged ones that differ."""

from __future__ import annotations

from typing import NamedTuple

from meshpy.engine.verdict import Verdict
from proxy.denial import decider

__all__ = ["UNOBSERVED", "Observed", "observed_in"]


class Observed(NamedTuple):
    """Args:
    audit: who would have it noticed, `policy rule`: an AUDIT or Log rule, or a staged one that would refuse
        what is let through; empty when nobody.
    pending: the verdict with the staged policies in force, `deny policy rule`; empty when none takes part.
    """

    audit: str
    pending: str


UNOBSERVED = Observed("", "")


def observed_in(verdict: Verdict) -> Observed:
    """What is worth a word in the records of a request."""
    audit = verdict.audited[0] if verdict.audited else ""
    pending = verdict.pending
    if pending is None:
        return Observed(audit, "")
    if not audit and verdict.allowed and not pending.allowed:
        audit = decider(pending)
    return Observed(audit, f"{'allow' if pending.allowed else 'deny'} {decider(pending)}")
