"""What a refusal says: policy, rule and reason to callers of the mesh, nothing but the fact to others."""

from __future__ import annotations

from meshpy.engine.verdict import Verdict
from proxy.plan import Reply

__all__ = ["DENIED_BY", "decider", "denial"]

DENIED_BY = b"x-meshpy-denied-by"


def decider(verdict: Verdict) -> str:
    """Who decided, `NetworkPolicy default/deny-all ingress[0]`; the stage when no policy did."""
    return " ".join(part for part in (verdict.policy or verdict.stage, verdict.rule) if part)


def denial(verdict: Verdict, service: str, *, is_named: bool) -> Reply:
    """403 for a verdict.

    Args:
        is_named: the caller belongs to the mesh and may read policy names.
    """
    name = decider(verdict)
    body = b"RBAC: access denied\n"
    headers: tuple[tuple[bytes, bytes], ...] = ()
    if is_named:
        body = f"RBAC: access denied by {name}: {verdict.reason}\n".encode()
        headers = ((DENIED_BY, name.encode("latin-1", "replace")),)
    return Reply(
        403,
        "-",
        f"rbac_access_denied_matched_policy[{name}]",
        body,
        headers,
        service,
        policy=verdict.policy or verdict.stage,
        rule=verdict.rule,
        stage=verdict.stage,
    )
