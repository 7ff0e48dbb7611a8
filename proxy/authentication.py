"""Tokens at run time: what the engine said of a request's JWT becomes a refusal, or a changed request.

Only workloads with a RequestAuthentication come here. A token in the query never reaches the access log.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from meshpy.engine.authenticate import Accepted, Refused
from proxy.decide.headers import FoldedOps
from proxy.denial import DENIED_BY, decider
from proxy.http.head import RequestHead
from proxy.http.hygiene import twins
from proxy.plan import Plan, Reply

__all__ = ["changed_plan", "hide_tokens", "unauthenticated"]


def unauthenticated(refused: Refused, service: str, *, is_named: bool) -> Reply:
    """401 with a challenge (RFC 6750 §3), or 403 for a token that is meant for others.

    Args:
        is_named: the caller belongs to the mesh and may read policies, issuers and audiences.
    """
    told = refused.reason if is_named else refused.public
    reason = told.replace('"', "'").encode("ascii", "replace").decode("ascii")
    headers: list[tuple[bytes, bytes]] = []
    if refused.status == 401:
        challenge = f'Bearer realm="{service}", error="invalid_token", error_description="{reason}"'
        headers.append((b"www-authenticate", challenge.encode("ascii")))
    body = f"Jwt verification fails: {reason}\n"
    if is_named:
        name = decider(refused.verdict)
        headers.append((DENIED_BY, name.encode("latin-1", "replace")))
        body = f"Jwt verification fails by {name}: {reason}\n"
    return Reply(
        refused.status,
        "-",
        f"jwt_authn_access_denied{{{reason.replace(' ', '_')}}}",
        body.encode(),
        tuple(headers),
        service,
        policy=refused.policy,
        rule=refused.rule,
        stage="jwt",
    )


def hide_tokens(head: RequestHead, params: Collection[str]) -> bytes | None:
    """Take parameters that may be tokens out of the target, which is logged.

    Returns:
        The target as it was; None when it had none of them.
    """
    path, mark, query = head.target.partition(b"?")
    if not mark:
        return None
    pairs = query.split(b"&")
    kept = [pair for pair in pairs if pair.partition(b"=")[0].decode("latin-1") not in params]
    if len(kept) == len(pairs):
        return None
    original, head.target = head.target, _joined(path, b"&".join(kept))
    return original


def _joined(path: bytes, query: bytes) -> bytes:
    return path + b"?" + query if query else path


def changed_plan(plan: Plan, head: RequestHead, accepted: Accepted, original: bytes | None) -> Plan:
    """The plan of a request whose token is taken out, and told to the app in other headers.

    Args:
        original: the target before `hide_tokens`.
    """
    target = plan.target
    if original is not None:
        path, _, _ = original.partition(b"?")
        target = original if accepted.query is None else _joined(path, accepted.query.encode("latin-1"))
    if not accepted.drop and not accepted.add:
        return plan if target is plan.target else replace(plan, target=target)
    drop = {name.encode("latin-1") for name in accepted.drop}
    drop |= twins(head.fields, drop)
    add = tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in accepted.add)
    ops = plan.request_ops
    folded = FoldedOps(ops.drop | drop, (*ops.extra, *add), ops.host)
    return replace(plan, target=target, request_ops=folded)
