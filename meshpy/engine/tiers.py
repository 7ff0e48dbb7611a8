"""The network stage: Calico's tiers, policies and rules in order.

Inside a tier the first rule that matches acts: Allow and Deny are final, Log goes on, Pass continues with
the next tier. A tier that no rule ended acts by its default. After the last tier nothing is decided: the
caller goes on to the baseline (ingress) or allows (egress).

A rule with `http` is judged on a request. Where there is none, an Allow with `http` does not match and a
Deny does: what cannot be read is never let through (Calico's own checker takes a missing method as a match).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from meshpy.engine.match import RequestTest, all_of, compile_any, compile_header_condition, compile_hosts
from meshpy.engine.pathindex import LINEAR_UP_TO, PathIndex
from meshpy.engine.request import Request
from meshpy.engine.verdict import Address, Connection, Step, Verdict, compile_nets, describe_all
from meshpy.model.authz import (
    HttpMatch,
    NetworkAction,
    NetworkPolicy,
    NetworkRule,
    PeerMatch,
    PortRange,
    Tier,
)
from meshpy.model.match import HeaderMatch, StringMatch
from meshpy.model.names import ServiceName

__all__ = ["NetworkStage", "Outcome", "Walk"]

_LAST = -1


class Outcome(NamedTuple):
    """What the tiers came to: a verdict or, when every tier passed, None; and the Log rules on the way."""

    verdict: Verdict | None
    logged: tuple[str, ...] = ()


class _Stop(NamedTuple):
    """One rule (or a tier's default) that this connection may meet; of `paths`, if any, one must hold."""

    test: RequestTest | None
    action: NetworkAction
    next_tier: int
    verdict: Verdict | None
    label: str
    paths: tuple[StringMatch, ...] = ()


class Walk:
    """The rules that are left of all tiers for one connection; `constant` when no request can change them."""

    __slots__ = ("_index", "_stops", "constant")

    def __init__(self, stops: Sequence[_Stop]) -> None:
        self._stops = tuple(stops)
        self._index: PathIndex | None = None
        if len(self._stops) > LINEAR_UP_TO:
            self._index = PathIndex([stop.paths if stop.test and stop.paths else (None,) for stop in stops])
        self.constant: Outcome | None = None
        if all(stop.test is None for stop in self._stops):
            self.constant = self._run(None)

    def decide(self, request: Request | None) -> Outcome:
        return self.constant or self._run(request)

    def _run(self, request: Request | None) -> Outcome:
        logged: tuple[str, ...] = ()
        stops, begin = self._stops, 0
        ranks: Iterable[int] = range(len(stops))
        if self._index is not None and request is not None:
            ranks = self._index.candidates(request.path)
        for rank in ranks:
            if rank < begin:
                continue
            test, action, next_tier, verdict, label, _ = stops[rank]
            if test is not None and (request is None or not test(request)):
                continue
            begin = rank + 1
            if action is NetworkAction.LOG:
                logged = (*logged, label)
            elif action is NetworkAction.PASS:
                begin = next_tier
            else:
                return Outcome(verdict, logged)
        return Outcome(None, logged)


@dataclass(frozen=True, slots=True)
class _Rule:
    policy: str
    name: str
    action: NetworkAction
    on_connection: Callable[[Connection], str]
    on_request: RequestTest | None
    asks: str
    paths: tuple[StringMatch, ...]


class NetworkStage:
    """The tiers of one direction.

    Args:
        stage: the name that verdicts carry, `network` or `egress`.

    Raises:
        MatchError: a CIDR or path that cannot be judged.
    """

    __slots__ = ("_stage", "_tiers", "depends_on_headers", "depends_on_request", "empty")

    def __init__(self, tiers: Sequence[Tier], stage: str) -> None:
        self._stage = stage
        self._tiers = tuple((tier, tuple(_compile(tier.policies))) for tier in tiers)
        self.empty = not self._tiers
        self.depends_on_request = any(rule.on_request for _, rules in self._tiers for rule in rules)
        policies = (policy for tier in tiers for policy in tier.policies)
        self.depends_on_headers = any(
            rule.http.headers for policy in policies for rule in policy.rules if rule.http is not None
        )

    def walk(self, connection: Connection) -> Walk:
        """Settle everything that the connection shows."""
        stops: list[_Stop] = []
        passes: list[int] = []
        for tier, rules in self._tiers:
            begin = len(stops)
            ended = self._stops_of_tier(rules, connection, stops)
            if not ended:
                stops.append(self._default_stop(tier))
            passes += [len(stops)] * (len(stops) - begin)
        return Walk([stop._replace(next_tier=after) for stop, after in zip(stops, passes, strict=True)])

    def _stops_of_tier(self, rules: Sequence[_Rule], connection: Connection, stops: list[_Stop]) -> bool:
        """Append the rules that can match; True when one of them surely ends the tier."""
        for rule in rules:
            if rule.on_connection(connection):
                continue
            test = rule.on_request
            if test is not None and connection.opaque:
                if rule.action is not NetworkAction.DENY:
                    continue
                test = None
            label = f"{rule.policy} {rule.name}"
            stops.append(_Stop(test, rule.action, _LAST, self._verdict(rule), label, rule.paths))
            if test is None and rule.action is not NetworkAction.LOG:
                return True
        return False

    def _verdict(self, rule: _Rule) -> Verdict | None:
        if rule.action not in (NetworkAction.ALLOW, NetworkAction.DENY):
            return None
        allowed = rule.action is NetworkAction.ALLOW
        verb = "allows" if allowed else "denies"
        reason = f"{rule.policy} {rule.name} {verb} it"
        return Verdict(allowed, self._stage, rule.policy, rule.name, reason)

    def _default_stop(self, tier: Tier) -> _Stop:
        if tier.default_action is NetworkAction.PASS:
            return _Stop(None, NetworkAction.PASS, _LAST, None, "")
        policy = tier.policies[-1].name if tier.policies else f"Tier {tier.name}"
        names = ", ".join(item.name for item in tier.policies)
        reason = (
            f"no rule of tier {tier.name} ({names}) matches, and what its policies do not allow is denied"
        )
        verdict = Verdict(False, self._stage, policy, "", reason)
        return _Stop(None, NetworkAction.DENY, _LAST, verdict, "")

    def steps(self, connection: Connection, request: Request | None) -> list[Step]:
        """Every rule in order, up to the one that ends the stage."""
        steps: list[Step] = []
        for tier, rules in self._tiers:
            ended = self._steps_of_tier(rules, connection, request, steps)
            if ended in (NetworkAction.ALLOW, NetworkAction.DENY):
                return steps
            if ended is None:
                action = tier.default_action
                why = f"no rule of tier {tier.name} ended it; its default action is {action.value}"
                steps.append(Step(self._stage, f"Tier {tier.name}", "defaultAction", action.value, True, why))
                if action is not NetworkAction.PASS:
                    return steps
        return steps

    def _steps_of_tier(
        self, rules: Sequence[_Rule], connection: Connection, request: Request | None, steps: list[Step]
    ) -> NetworkAction | None:
        for rule in rules:
            why = rule.on_connection(connection)
            if not why and rule.on_request is not None:
                why = _http_failure(rule, connection, request)
            matched = not why
            steps.append(
                Step(
                    self._stage, rule.policy, rule.name, rule.action.value, matched, why or "everything holds"
                )
            )
            if matched and rule.action is not NetworkAction.LOG:
                return rule.action
        return None


def _http_failure(rule: _Rule, connection: Connection, request: Request | None) -> str:
    if request is None or connection.opaque:
        return "" if rule.action is NetworkAction.DENY else f"{rule.asks} can never hold on an opaque port"
    if rule.on_request is None or rule.on_request(request):
        return ""
    return f"{rule.asks} does not hold for {request.method} {request.path}"


def _compile(policies: Sequence[NetworkPolicy]) -> list[_Rule]:
    return [_compile_rule(policy.name, rule) for policy in policies for rule in policy.rules]


def _compile_rule(policy: str, rule: NetworkRule) -> _Rule:
    peer = _peer_failure(rule.peer, denies=rule.action is NetworkAction.DENY)
    ports = _port_failure(rule.ports, rule.not_ports)
    test = _http_test(rule.http) if rule.http else None
    return _Rule(
        policy,
        rule.name,
        rule.action,
        lambda connection: ports(connection) or peer(connection),
        test,
        _http_text(rule.http) if rule.http else "",
        rule.http.paths if rule.http else (),
    )


def _http_test(http: HttpMatch) -> RequestTest | None:
    tests: list[RequestTest] = []
    if http.methods:
        methods = compile_any(http.methods)
        tests.append(lambda request: methods(request.method))
    if http.paths:
        paths = compile_any(http.paths, path=True)
        tests.append(lambda request: paths(request.path))
    if http.hosts:
        hosts = compile_hosts(http.hosts)
        tests.append(lambda request: hosts(request.authority))
    tests += [_header_test(header) for header in http.headers]
    return all_of(tests) or _is_http


def _header_test(header: HeaderMatch) -> RequestTest:
    """A header of an allow rule: each value that was sent must hold."""
    values = () if header.match is None else (header.match,)
    if not values:
        return lambda request: header.name in request.headers
    return compile_header_condition(header.name, values, (), denies=False)


def _is_http(_request: Request) -> bool:
    return True


def _http_text(http: HttpMatch) -> str:
    parts = [
        f"{field} {describe_all(matches)}"
        for field, matches in (("methods", http.methods), ("paths", http.paths), ("hosts", http.hosts))
        if matches
    ]
    parts += [f"header {header.name}" for header in http.headers]
    return f"http {' and '.join(parts)}" if parts else "http"


def _port_failure(ports: Sequence[PortRange], not_ports: Sequence[PortRange]) -> Callable[[Connection], str]:
    def failure(connection: Connection) -> str:
        port = connection.port
        if ports and not any(span.first <= port <= span.last for span in ports):
            return f"ports {_spans(ports)} does not hold for {port}"
        if any(span.first <= port <= span.last for span in not_ports):
            return f"notPorts {_spans(not_ports)} does not hold for {port}"
        return ""

    return failure


def _spans(ports: Sequence[PortRange]) -> str:
    return " | ".join(
        f"{span.first}" if span.first == span.last else f"{span.first}:{span.last}" for span in ports
    )


def _peer_failure(peer: PeerMatch, *, denies: bool) -> Callable[[Connection], str]:
    """Why the other end does not match.

    An unknown address is in no net and fails `notNets`; for a Deny it may be in any net, unless the other end
    is a service, whose identity says more than an address.
    """
    inside = compile_nets(peer.nets) if peer.nets is not None else None
    unwanted = compile_nets(peer.not_nets) if peer.not_nets is not None else None
    in_sets = compile_nets(peer.set_nets)
    in_unwanted_sets = compile_nets(peer.not_set_nets)
    is_named = compile_any(peer.domains) if peer.domains is not None else None

    def failure(connection: Connection) -> str:
        service, ip = connection.service, connection.ip
        if peer.services is not None and service not in peer.services and not (ip and in_sets(ip)):
            names = _names(peer.services, peer.set_nets)
            return f"{connection.caller} is none of the services that its selector means ({names})"
        if peer.not_services is not None and (service in peer.not_services or (ip and in_unwanted_sets(ip))):
            return f"{connection.caller} is one of the services that its notSelector means"
        if is_named is not None and not (connection.host and is_named(connection.host)):
            return f"domains {describe_all(peer.domains or ())} does not hold for {connection.caller}"
        if inside is not None and not _holds(inside, ip, unknown=denies and service is None):
            return f"nets {' | '.join(peer.nets or ())} does not hold for {ip or 'an unknown address'}"
        if unwanted is not None and _holds(unwanted, ip, unknown=not denies):
            return f"notNets {' | '.join(peer.not_nets or ())} does not hold for {ip or 'an unknown address'}"
        return ""

    return failure


def _holds(test: Callable[[Address], bool], ip: Address | None, *, unknown: bool) -> bool:
    return unknown if ip is None else test(ip)


def _names(services: frozenset[ServiceName], set_nets: Sequence[str]) -> str:
    names = [*sorted(map(str, services)), *set_nets]
    return (
        ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") if names else "none"
    )
