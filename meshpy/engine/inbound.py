"""The whole verdict of a callee: network stage, then the request's token, then the policies.

The sidecar takes the same steps with its own memory of connections and tokens (`proxy.inbound`); this is the
road of `explain`, `test` and everything else that asks about one request.
"""

from __future__ import annotations

from meshpy.engine.authenticate import Accepted, Authenticator, Refused
from meshpy.engine.authorize import InboundAuthorizer
from meshpy.engine.request import Peer, Request
from meshpy.engine.verdict import Step, Verdict
from meshpy.model.endpoint import Protocol
from meshpy.model.snapshot import Snapshot

__all__ = ["as_authenticated", "judge_inbound"]


def as_authenticated(request: Request, accepted: Accepted) -> Request:
    """The request as policies see it: its token is known, and gone from where it stood."""
    headers = request.headers
    if accepted.drop or accepted.add:
        changed = {name: list(values) for name, values in headers.items() if name not in accepted.drop}
        for name, value in accepted.add:
            changed.setdefault(name, []).append(value)
        headers = changed
    query = request.query if accepted.query is None else accepted.query
    return Request(
        request.method, request.path, query, request.authority, request.scheme, headers, accepted.auth
    )


def judge_inbound(
    snapshot: Snapshot, peer: Peer, port: int, protocol: Protocol, request: Request | None
) -> tuple[Verdict, tuple[Step, ...]]:
    """One verdict, and the steps that led to it.

    Args:
        request: None on an opaque port. Its `auth`, when set, is taken as what a valid token says; otherwise
            tokens are read from the request, and each is taken as if it were in its time.

    Raises:
        MeshpyError: the snapshot cannot be judged by.
    """
    authorizer = InboundAuthorizer(snapshot.authorization, snapshot.workload.trust_domain)
    if request is None or not protocol.is_http:
        verdict = authorizer.judge(None, peer, port, protocol)
        return verdict, tuple(authorizer.evaluate_all(None, peer, port, protocol))
    if authorizer.for_connection(peer, port, protocol).is_closed:
        verdict = authorizer.judge(request, peer, port, protocol)
        return verdict, tuple(authorizer.evaluate_all(request, peer, port, protocol))
    authenticator = Authenticator(snapshot.jwt)
    outcome = (
        authenticator.authenticate(request, None)
        if request.auth is None
        else authenticator.assume(request.auth)
    )
    if isinstance(outcome, Refused):
        step = Step(
            "jwt", outcome.policy, outcome.rule, f"refuse with {outcome.status}", True, outcome.reason
        )
        return outcome.verdict, (step,)
    judged = as_authenticated(request, outcome)
    verdict = authorizer.judge(judged, peer, port, protocol)
    steps = authorizer.evaluate_all(judged, peer, port, protocol)
    if outcome.auth is not None:
        said = f"the token is valid, its principal is {outcome.auth.principal or 'not told'}"
        steps.insert(0, Step("jwt", snapshot.jwt[0].policy, "", "accept", True, said))
    return verdict, tuple(steps)
