"""Authorization of one workload: network stage or baseline, then DENY, then ALLOW (DESIGN §5).

`InboundAuthorizer` is built once per snapshot, `for_connection` once per accepted connection: whatever the
connection settles (caller, addresses, port) is settled there, so that a request costs only the L7 tests that
are left. The caller may memoise a verdict per (connection, method, path, host) unless `depends_on_headers`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from meshpy.engine.match import RequestTest
from meshpy.engine.request import Peer, Request
from meshpy.engine.rules import Rule
from meshpy.engine.tiers import NetworkStage, Walk
from meshpy.engine.verdict import Connection, Step, Verdict
from meshpy.model.authz import Action, Authorization, AuthorizationPolicy
from meshpy.model.endpoint import Protocol

__all__ = ["ConnectionJudge", "InboundAuthorizer"]

_MEMO_ENTRIES = 1024
_NO_REQUEST = Verdict(False, "network", reason="the port speaks HTTP and there is no request to judge")


class _Policy(NamedTuple):
    policy: AuthorizationPolicy
    rules: tuple[Rule, ...]


class _Entry(NamedTuple):
    """A rule that a connection may still meet; no test: it meets it always."""

    test: RequestTest | None
    verdict: Verdict
    label: str


def _first(entries: Sequence[_Entry], request: Request | None) -> _Entry | None:
    for entry in entries:
        test = entry.test
        if test is None or (request is not None and test(request)):
            return entry
    return None


class ConnectionJudge:
    """The judge of all requests of one connection.

    Args:
        constant: the verdict, when no request can change it; always set on an opaque port.
        depends_on_headers: True when a verdict may not be kept for another request with the same method,
            path, host and JWT.
        depends_on_auth: True when a verdict may not be kept for a request with another JWT.
    """

    __slots__ = (
        "_allow",
        "_audit",
        "_deny",
        "_fallback",
        "_pending",
        "_unmatched",
        "_walk",
        "constant",
        "depends_on_auth",
        "depends_on_headers",
    )

    def __init__(
        self,
        walk: Walk,
        fallback: Verdict,
        deny: Sequence[_Entry],
        allow: Sequence[_Entry],
        unmatched: Verdict | None,
        audit: Sequence[_Entry],
        *,
        depends_on_headers: bool,
        depends_on_auth: bool,
        pending: ConnectionJudge | None = None,
    ) -> None:
        self._walk = walk
        self._fallback = fallback
        self._deny = tuple(deny)
        self._allow = tuple(allow)
        self._unmatched = unmatched
        self._audit = tuple(audit)
        self._pending = pending
        self.depends_on_headers = depends_on_headers
        self.depends_on_auth = depends_on_auth
        self.constant: Verdict | None = None
        if self._is_settled():
            self.constant = self._judge(None)

    def _is_settled(self) -> bool:
        if self._walk.constant is None or any(entry.test for entry in self._audit):
            return False
        if self._pending is not None and self._pending.constant is None:
            return False
        network = self._walk.constant.verdict or self._fallback
        if not network.allowed:
            return True
        if self._deny and self._deny[0].test is None:
            return True
        return not self._deny and (not self._allow or self._allow[0].test is None)

    @property
    def is_closed(self) -> bool:
        """Whether the network stage refuses every request, so that none of it needs to be read."""
        constant = self.constant
        return constant is not None and not constant.allowed and constant.stage in ("network", "baseline")

    def judge(self, request: Request | None) -> Verdict:
        """Judge one request; on an opaque port there is none."""
        if self.constant is not None:
            return self.constant
        return _NO_REQUEST if request is None else self._judge(request)

    def _judge(self, request: Request | None) -> Verdict:
        verdict = self._enforced(request)
        if self._pending is None:
            return verdict
        return replace(verdict, pending=self._pending.constant or self._pending._judge(request))

    def _enforced(self, request: Request | None) -> Verdict:
        outcome = self._walk.constant or self._walk.decide(request)
        verdict = outcome.verdict or self._fallback
        if verdict.allowed:
            if self._deny and (denied := _first(self._deny, request)) is not None:
                verdict = denied.verdict
            elif self._unmatched is not None:
                allowed = _first(self._allow, request)
                verdict = allowed.verdict if allowed is not None else self._unmatched
        if not self._audit and not outcome.logged:
            return verdict
        return self._with_audit(verdict, outcome.logged, request)

    def _with_audit(self, verdict: Verdict, logged: tuple[str, ...], request: Request | None) -> Verdict:
        seen = [entry.label for entry in self._audit if _first((entry,), request)]
        return replace(verdict, audited=tuple(dict.fromkeys((*logged, *seen))))


class InboundAuthorizer:
    """Who may call this workload.

    Args:
        depends_on_headers: True when any rule looks at a request header.
        depends_on_auth: True when any rule looks at a JWT.

    Raises:
        MatchError: an expression, CIDR or condition key that cannot be judged.
    """

    __slots__ = (
        "_allow",
        "_auth",
        "_deny",
        "_memo",
        "_network",
        "_observed",
        "_pending",
        "depends_on_auth",
        "depends_on_headers",
    )

    def __init__(self, auth: Authorization, trust_domain: str = "cluster.local") -> None:
        self._auth = auth
        self._network = NetworkStage(auth.ingress, "network")
        self._pending = NetworkStage(auth.pending.ingress, "pending") if auth.pending is not None else None
        enforced = [policy for policy in auth.policies if not policy.dry_run]
        proxies = auth.trusted_proxies
        self._deny = _compile(enforced, Action.DENY, trust_domain, proxies)
        self._allow = _compile(enforced, Action.ALLOW, trust_domain, proxies)
        dry = [policy for policy in auth.policies if policy.dry_run]
        self._observed = (
            *_compile(enforced, Action.AUDIT, trust_domain, proxies),
            *(item for action in Action for item in _compile(dry, action, trust_domain, proxies)),
        )
        every = (*self._deny, *self._allow, *self._observed)
        self.depends_on_auth = any(rule.depends_on_auth for item in every for rule in item.rules)
        stages = (self._network, *((self._pending,) if self._pending is not None else ()))
        self.depends_on_headers = any(
            rule.depends_on_headers for item in every for rule in item.rules
        ) or any(stage.depends_on_headers for stage in stages)
        self._memo: dict[tuple[object, ...], ConnectionJudge] = {}

    def for_connection(
        self, peer: Peer, port: int, protocol: Protocol, local_address: str = "", sni: str = ""
    ) -> ConnectionJudge:
        """The judge for all requests of a connection from `peer` to `port`."""
        return self._judge_of(
            Connection.of_peer(peer, port, opaque=not protocol.is_http, local_address=local_address, sni=sni)
        )

    def judge(
        self,
        request: Request | None,
        peer: Peer,
        port: int,
        protocol: Protocol,
        local_address: str = "",
        sni: str = "",
    ) -> Verdict:
        """One verdict; without a request everything L7 is judged as on an opaque port."""
        opaque = request is None or not protocol.is_http
        key = (peer, port, opaque, local_address, sni)
        found = self._memo.get(key)
        if found is None:
            if len(self._memo) >= _MEMO_ENTRIES:
                self._memo.clear()
            connection = Connection.of_peer(peer, port, opaque=opaque, local_address=local_address, sni=sni)
            found = self._memo[key] = self._judge_of(connection)
        return found.judge(request)

    def _judge_of(self, connection: Connection) -> ConnectionJudge:
        deny = _entries(self._deny, connection, allowed=False)
        allow = _entries(self._allow, connection, allowed=True)
        observed = _every_entry(self._observed, connection)

        def judge(walk: Walk, audit: Sequence[_Entry], pending: ConnectionJudge | None) -> ConnectionJudge:
            return ConnectionJudge(
                walk,
                self._baseline(connection),
                deny,
                allow,
                self._unmatched(connection) if self._allow else None,
                audit,
                depends_on_headers=self.depends_on_headers and not connection.opaque,
                depends_on_auth=self.depends_on_auth and not connection.opaque,
                pending=pending,
            )

        pending = None
        if self._pending is not None:
            pending = judge(self._pending.walk(connection), (), None)
        return judge(self._network.walk(connection), observed, pending)

    def _baseline(self, connection: Connection) -> Verdict:
        """What the stack allowed before any policy: callers on a shared network, and published ports."""
        caller, port = connection.caller, connection.port
        if connection.service is not None:
            if connection.service in self._auth.baseline:
                return Verdict(True, "baseline", reason=f"{caller} shares a network with it in the stack")
            return Verdict(
                False,
                "baseline",
                reason=f"{caller} shares no network with it in the stack and no network policy allows"
                " the call; put both on one network, or write a NetworkPolicy whose ingress allows it",
            )
        if port in self._auth.baseline_external:
            return Verdict(True, "baseline", reason=f"port {port} is open to callers outside the mesh")
        return Verdict(
            False,
            "baseline",
            reason=f"{caller} may not use port {port}: it is neither published nor reached by a service"
            " outside the mesh; publish it, or write a NetworkPolicy with an ingress rule that allows it",
        )

    def _unmatched(self, connection: Connection) -> Verdict:
        names = [item.policy.name for item in self._allow]
        listed = ", ".join(names)
        what = "no ALLOW rule matches" if any(item.rules for item in self._allow) else "it has no rules"
        why = f"{what} of {listed}" if what.startswith("no") else f"{listed} allows nothing: {what}"
        if connection.opaque and any(item.rules for item in self._allow):
            why += " (a rule with hosts, methods, paths or headers never matches on an opaque port)"
        return Verdict(False, "allow", listed, "", why)

    def evaluate_all(
        self,
        request: Request | None,
        peer: Peer,
        port: int,
        protocol: Protocol,
        local_address: str = "",
        sni: str = "",
    ) -> list[Step]:
        """Every stage, policy and rule in order, and why it did or did not match."""
        opaque = request is None or not protocol.is_http
        connection = Connection.of_peer(peer, port, opaque=opaque, local_address=local_address, sni=sni)
        steps = self._network.steps(connection, request)
        if self._pending is not None:
            steps += self._pending.steps(connection, request)
        outcome = self._network.walk(connection).decide(None if opaque else request)
        if outcome.verdict is None:
            baseline = self._baseline(connection)
            action = "Allow" if baseline.allowed else "Deny"
            steps.append(Step("baseline", "", "", action, True, baseline.reason))
        if not (outcome.verdict or self._baseline(connection)).allowed:
            return steps
        for stage, items in (("audit", self._observed), ("deny", self._deny), ("allow", self._allow)):
            for item in items:
                steps += _steps(stage, item, connection, request)
        return steps


def _compile(
    policies: Sequence[AuthorizationPolicy], action: Action, trust_domain: str, trusted_proxies: int
) -> tuple[_Policy, ...]:
    return tuple(
        _Policy(
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


def _entries(items: Sequence[_Policy], connection: Connection, *, allowed: bool) -> list[_Entry]:
    """The rules that can match, up to the first that surely does."""
    entries: list[_Entry] = []
    for entry in _every_entry(items, connection, allowed=allowed):
        entries.append(entry)
        if entry.test is None:
            break
    return entries


def _every_entry(items: Sequence[_Policy], connection: Connection, *, allowed: bool = True) -> list[_Entry]:
    entries: list[_Entry] = []
    for policy, rules in items:
        for rule in rules:
            reduced = rule.reduce(connection)
            if reduced is False:
                continue
            stage, verb = ("allow", "allows") if allowed else ("deny", "denies")
            label = f"{policy.name} {rule.name}"
            verdict = Verdict(allowed, stage, policy.name, rule.name, f"{label} {verb} it")
            entries.append(_Entry(None if reduced is True else reduced, verdict, label))
    return entries


def _steps(stage: str, item: _Policy, connection: Connection, request: Request | None) -> list[Step]:
    policy = item.policy
    action = f"{policy.action.value} (dry run)" if policy.dry_run else policy.action.value
    if not item.rules:
        return [Step(stage, policy.name, "", action, False, "it has no rules")]
    steps: list[Step] = []
    for rule in item.rules:
        why = rule.failure(connection, request)
        steps.append(Step(stage, policy.name, rule.name, action, not why, why or "everything holds"))
    return steps
