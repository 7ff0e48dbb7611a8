"""The whole verdict of a callee: network stage, then the request's token, then the policies.

The sidecar takes the same steps with its own memory of connections and tokens (`proxy.inbound`); this is the
road of `explain`, `test` and everything else that asks about one request.
"""

from __future__ import annotations

from meshpy.engine.authenticate import Accepted, Authenticator, Refused
from meshpy.engine.authorize import InboundAuthorizer
from meshpy.engine.judge import ConnectionJudge
from meshpy.engine.request import Peer, Request
from meshpy.engine.verdict import Step, Verdict
from meshpy.model.endpoint import Protocol
from meshpy.model.snapshot import Snapshot

__all__ = ["InboundJudge", "as_authenticated", "judge_inbound"]


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


class InboundJudge:
    """One callee, asked as often as one likes.

    Raises:
        MeshpyError: the snapshot cannot be judged by.
    """

    __slots__ = ("_authenticator", "_authorizer", "_jwt")

    def __init__(self, snapshot: Snapshot) -> None:
        self._jwt = snapshot.jwt
        self._authorizer = InboundAuthorizer(snapshot.authorization, snapshot.workload.trust_domain)
        self._authenticator = Authenticator(snapshot.jwt)

    def judge(
        self,
        peer: Peer,
        port: int,
        protocol: Protocol,
        request: Request | None,
        *,
        sni: str = "",
        local_address: str = "",
        with_steps: bool = True,
    ) -> tuple[Verdict, tuple[Step, ...]]:
        """One verdict, and the steps that led to it.

        Args:
            request: None on an opaque port. Its `auth`, when set, is taken as what a valid token says;
                otherwise tokens are read from the request, and each is taken as if it were in its time.
            local_address: the address that was called; empty is unknown.
        """
        said: tuple[Step, ...] = ()
        if not protocol.is_http:
            request = None
        on = self.on(peer, port, protocol if request is not None else Protocol.TCP, sni, local_address)
        if request is not None:
            outcome = self._token_of(on, request)
            if isinstance(outcome, Refused):
                return outcome.verdict, (_refusal(outcome),)
            if outcome is not None:
                said = _acceptance(self._jwt[0].policy, outcome) if self._jwt else (_UNREAD,)
                request = as_authenticated(request, outcome)
        verdict = on.judge(request)
        if not with_steps:
            return verdict, ()
        steps = self._authorizer.evaluate_all(
            request, peer, port, protocol, local_address=local_address, sni=sni
        )
        return verdict, (*said, *steps)

    def on(
        self, peer: Peer, port: int, protocol: Protocol, sni: str, local_address: str = ""
    ) -> ConnectionJudge:
        """The judge of a connection, for `verdict`; one without requests speaks an opaque protocol."""
        return self._authorizer.for_connection(peer, port, protocol, local_address, sni)

    def verdict(self, on: ConnectionJudge, request: Request | None) -> Verdict:
        """The verdict alone."""
        outcome = self._token_of(on, request) if request is not None else None
        if isinstance(outcome, Refused):
            return outcome.verdict
        if outcome is not None and request is not None:
            request = as_authenticated(request, outcome)
        return on.judge(request)

    def _token_of(self, on: ConnectionJudge, request: Request) -> Accepted | Refused | None:
        """What the request's token says; None leaves the request as it is.

        Nobody reads the token of a request that the network stage refuses anyway.
        """
        if self._jwt:
            return None if on.is_closed else self._authenticated(request)
        return Accepted(None) if request.auth is not None else None

    def _authenticated(self, request: Request) -> Accepted | Refused:
        auth = request.auth
        if auth is None:
            return self._authenticator.authenticate(request, None)
        return self._authenticator.assume(auth)


_UNREAD = Step(
    "jwt", "", "", "ignore", False, "no RequestAuthentication is for it: the token counts for nothing"
)


def _refusal(outcome: Refused) -> Step:
    done = f"refuse with {outcome.status}"
    return Step("jwt", outcome.policy, outcome.rule, done, True, outcome.reason)


def _acceptance(policy: str, outcome: Accepted) -> tuple[Step, ...]:
    if outcome.auth is None:
        return ()
    said = f"the token is valid, its principal is {outcome.auth.principal or 'not told'}"
    return (Step("jwt", policy, "", "accept", True, said),)


def judge_inbound(
    snapshot: Snapshot, peer: Peer, port: int, protocol: Protocol, request: Request | None
) -> tuple[Verdict, tuple[Step, ...]]:
    """One question to a callee of which nobody will ask another."""
    return InboundJudge(snapshot).judge(peer, port, protocol, request)
