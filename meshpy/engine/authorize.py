"""Authorization of one workload: mTLS mode, network stage or baseline, CUSTOM, DENY, ALLOW (DESIGN §5).

`InboundAuthorizer` is built once per snapshot, `for_connection` once per accepted connection: whatever the
connection settles (caller, addresses, port) is settled there, so that a request costs only the L7 tests that
are left. The caller may memoise a verdict per (connection, method, path, host) unless `depends_on_headers`.
"""

from __future__ import annotations

from collections.abc import Sequence

from meshpy.engine.entries import CompiledPolicy, Entry, compile_policies, entries_of, every_entry, steps_of
from meshpy.engine.judge import ConnectionJudge
from meshpy.engine.request import Peer, Request
from meshpy.engine.tiers import NetworkStage, Walk
from meshpy.engine.verdict import Connection, Step, Verdict
from meshpy.model.authz import Action, Authorization
from meshpy.model.endpoint import Protocol

__all__ = ["ConnectionJudge", "InboundAuthorizer"]

_MEMO_ENTRIES = 1024


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
        "_custom",
        "_deny",
        "_dry_allow",
        "_dry_deny",
        "_has_dry",
        "_memo",
        "_network",
        "_observed",
        "_pending",
        "_strict",
        "depends_on_auth",
        "depends_on_headers",
    )

    def __init__(self, auth: Authorization, trust_domain: str = "cluster.local") -> None:
        self._auth = auth
        self._strict = {each.port: each.policy for each in auth.strict}
        self._network = NetworkStage(auth.ingress, "network")
        self._pending = NetworkStage(auth.pending.ingress, "pending") if auth.pending is not None else None
        enforced = [policy for policy in auth.policies if not policy.dry_run]
        proxies = auth.trusted_proxies
        self._custom = compile_policies(enforced, Action.CUSTOM, trust_domain, proxies)
        self._deny = compile_policies(enforced, Action.DENY, trust_domain, proxies)
        self._allow = compile_policies(enforced, Action.ALLOW, trust_domain, proxies)
        dry = [policy for policy in auth.policies if policy.dry_run]
        # what the policies would come to if those on trial decided as well
        self._has_dry = any(policy.action in (Action.ALLOW, Action.DENY) for policy in dry)
        tried = auth.policies if self._has_dry else ()
        self._dry_deny = compile_policies(tried, Action.DENY, trust_domain, proxies)
        self._dry_allow = compile_policies(tried, Action.ALLOW, trust_domain, proxies)
        self._observed = (
            *compile_policies(enforced, Action.AUDIT, trust_domain, proxies),
            *(item for action in Action for item in compile_policies(dry, action, trust_domain, proxies)),
        )
        every = (*self._custom, *self._deny, *self._allow, *self._observed)
        self.depends_on_auth = any(rule.depends_on_auth for item in every for rule in item.rules)
        stages = (self._network, *((self._pending,) if self._pending is not None else ()))
        self.depends_on_headers = any(
            rule.depends_on_headers for item in every for rule in item.rules
        ) or any(stage.depends_on_headers for stage in stages)
        self._memo: dict[tuple[object, ...], ConnectionJudge] = {}

    def for_connection(
        self, peer: Peer, port: int, protocol: Protocol, local_address: str = "", sni: str = ""
    ) -> ConnectionJudge:
        """The judge for all requests of a connection from `peer` to `port`.

        A peer's next connection gets the same one: with many rules making it costs milliseconds.
        """
        return self._known(peer, port, local_address, sni, opaque=not protocol.is_http)

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
        return self._known(peer, port, local_address, sni, opaque=opaque).judge(request)

    def _known(self, peer: Peer, port: int, local_address: str, sni: str, *, opaque: bool) -> ConnectionJudge:
        key = (peer, port, opaque, local_address, sni)
        found = self._memo.get(key)
        if found is None:
            if len(self._memo) >= _MEMO_ENTRIES:
                self._memo.clear()
            connection = Connection.of_peer(peer, port, opaque=opaque, local_address=local_address, sni=sni)
            found = self._memo[key] = self._judge_of(connection)
        return found

    def _judge_of(self, connection: Connection) -> ConnectionJudge:
        refused = self._mtls(connection)
        if refused is not None:
            return ConnectionJudge(
                Walk(()), refused, (), (), None, (), depends_on_headers=False, depends_on_auth=False
            )
        custom = every_entry(self._custom, connection)
        deny = entries_of(self._deny, connection, allowed=False)
        dry_deny = entries_of(self._dry_deny, connection, allowed=False) if self._has_dry else deny
        if connection.opaque:
            # Nobody can be asked about a connection without requests: where a provider should be, it ends.
            deny, dry_deny, custom = [*custom, *deny], [*custom, *dry_deny], []

        def judge(
            walk: Walk,
            deny: Sequence[Entry],
            policies: Sequence[CompiledPolicy],
            audit: Sequence[Entry],
            pending: ConnectionJudge | None,
        ) -> ConnectionJudge:
            return ConnectionJudge(
                walk,
                self._baseline(connection),
                deny,
                entries_of(policies, connection, allowed=True),
                _unmatched(policies, connection) if policies else None,
                audit,
                depends_on_headers=self.depends_on_headers and not connection.opaque,
                depends_on_auth=self.depends_on_auth and not connection.opaque,
                pending=pending,
                custom=custom,
            )

        pending = None
        if self._pending is not None or self._has_dry:
            stage = self._network if self._pending is None else self._pending
            allow = self._dry_allow if self._has_dry else self._allow
            pending = judge(stage.walk(connection), dry_deny, allow, (), None)
        observed = every_entry(self._observed, connection)
        return judge(self._network.walk(connection), deny, self._allow, observed, pending)

    def _mtls(self, connection: Connection) -> Verdict | None:
        """Why the caller may not speak without an identity; None when it may, or has one."""
        policy = self._strict.get(connection.port)
        if policy is None or connection.principal:
            return None
        why = (
            f"{connection.caller} has no certificate, and the mode of port {connection.port} is STRICT;"
            f" write portLevelMtls: {{{connection.port}: {{mode: PERMISSIVE}}}} to let such callers in"
        )
        return Verdict(False, "mtls", policy, "", why)

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
        if (refused := self._mtls(connection)) is not None:
            return [Step("mtls", refused.policy, "", "STRICT", True, refused.reason)]
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
        for stage, items in (
            ("audit", self._observed),
            ("custom", self._custom),
            ("deny", self._deny),
            ("allow", self._allow),
        ):
            for item in items:
                steps += steps_of(stage, item, connection, request)
        return steps


def _unmatched(policies: Sequence[CompiledPolicy], connection: Connection) -> Verdict:
    names = [item.policy.name for item in policies]
    listed = ", ".join(names)
    what = "no ALLOW rule matches" if any(item.rules for item in policies) else "it has no rules"
    why = f"{what} of {listed}" if what.startswith("no") else f"{listed} allows nothing: {what}"
    if connection.opaque and any(item.rules for item in policies):
        why += " (a rule with hosts, methods, paths or headers never matches on an opaque port)"
    return Verdict(False, "allow", listed, "", why)
