"""What a refusal says: policy, rule and reason to callers of the mesh, nothing but the fact to others."""

from __future__ import annotations

import math

from meshpy.engine.rate_limits import STAGE
from meshpy.engine.verdict import Verdict
from proxy.decide.limit import Refusal
from proxy.plan import Reply

__all__ = ["DENIED_BY", "decider", "denial", "too_many"]

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


def too_many(refusal: Refusal, service: str, *, is_named: bool) -> Reply:
    """429 for a request above a rate; fields as in draft-ietf-httpapi-ratelimit-headers.

    Args:
        is_named: the caller belongs to the mesh and may read policy names.
    """
    share = refusal.share
    seconds = b"%d" % max(1, math.ceil(refusal.wait_s))
    name = share.rule.partition("[")[0].encode("ascii")
    headers = (
        (b"retry-after", seconds),
        (b"ratelimit-policy", b'"%b";q=%d;w=1' % (name, share.rps)),
        (b"ratelimit", b'"%b";r=0;t=%b' % (name, seconds)),
    )
    body = b"local_rate_limited\n"
    if is_named:
        whose = share.key or "all callers"
        body = f"{refusal.policy} {share.rule}: {share.rps} requests a second for {whose}\n".encode()
    return Reply(
        429,
        "RL",
        "local_rate_limited",
        body,
        headers,
        service,
        policy=refusal.policy,
        rule=share.rule,
        stage=STAGE,
    )
