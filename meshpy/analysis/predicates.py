"""Every test that a snapshot makes of a request, by the dimension that it reads.

`HANDLED` names each field of the model's rules; a test compares it with the dataclasses, so that a field
which is added there and not here fails the build and never weakens a proof in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from meshpy.analysis.asked import Tests
from meshpy.analysis.partition import Matcher
from meshpy.analysis.seam import Seam
from meshpy.engine.checks import own_trust_domain
from meshpy.engine.match import any_of, compile_string
from meshpy.engine.rewrite import prefix_length
from meshpy.engine.verdict import describe_all
from meshpy.model.authn import JwtRule, TokenHeader
from meshpy.model.authz import (
    Action,
    Authorization,
    AuthorizationPolicy,
    AuthorizationRule,
    Condition,
    HttpMatch,
    NetworkAction,
    NetworkPolicy,
    NetworkRule,
    Operation,
    PeerMatch,
    Pending,
    Source,
    Tier,
)
from meshpy.model.match import Exact, HeaderMatch, Present, RequestMatch, StringMatch
from meshpy.model.names import ServiceName
from meshpy.model.route import RouteRule
from meshpy.model.snapshot import Snapshot

__all__ = [
    "HANDLED",
    "tests_of_authorization",
    "tests_of_callee",
    "tests_of_routes",
    "through_rewrites",
]

HANDLED: Mapping[type, frozenset[str]] = {
    # read here, field by field
    Source: frozenset(
        (
            *("principals", "not_principals", "namespaces", "not_namespaces"),
            *("ip_blocks", "not_ip_blocks", "remote_ip_blocks", "not_remote_ip_blocks"),
            *("request_principals", "not_request_principals"),
        )
    ),
    Operation: frozenset(
        (
            *("hosts", "not_hosts", "ports", "not_ports"),
            *("methods", "not_methods", "paths", "not_paths"),
        )
    ),
    Condition: frozenset(("key", "values", "not_values")),
    HttpMatch: frozenset(("methods", "paths", "hosts", "headers")),
    PeerMatch: frozenset(
        ("services", "not_services", "nets", "not_nets", "set_nets", "not_set_nets", "domains")
    ),
    HeaderMatch: frozenset(("name", "match", "invert")),
    RequestMatch: frozenset(
        (
            "name",
            "path",
            "ignore_path_case",
            "method",
            "scheme",
            "authority",
            "port",
            "headers",
            "query",
        )
    ),
    # their parts are read; names, actions and ports are settled by asking the engine for each port
    AuthorizationRule: frozenset(("name", "sources", "operations", "conditions")),
    AuthorizationPolicy: frozenset(("name", "action", "rules", "dry_run", "provider")),
    NetworkRule: frozenset(("name", "action", "peer", "ports", "not_ports", "http")),
    NetworkPolicy: frozenset(("name", "rules")),
    Tier: frozenset(("name", "policies", "default_action")),
    Authorization: frozenset(
        (
            *("ingress", "egress", "policies", "baseline", "baseline_external"),
            *("trusted_proxies", "pending", "strict"),
        )
    ),
    Pending: frozenset(("ingress", "egress")),  # decides nothing
    JwtRule: frozenset(
        (
            *("policy", "name", "issuer", "audiences", "jwks", "from_headers", "from_params"),
            *("from_cookies", "forward", "payload_header", "claim_headers", "space_delimited"),
        )
    ),
    TokenHeader: frozenset(("name", "prefix")),
    RouteRule: frozenset(
        (
            *("action", "name", "policy", "matches", "rewrite", "timeout_s", "retry", "fault"),
            *("request_headers", "response_headers", "mirrors", "cors", "via"),
        )
    ),
}


def tests_of_callee(snapshot: Snapshot, caller: ServiceName | None) -> Tests:
    """What the sidecar of a callee asks of a request.

    Args:
        caller: only of its requests, of which rules for others ask nothing; None is everybody.
    """
    domain = snapshot.workload.trust_domain
    found = tests_of_authorization(snapshot.authorization, domain, caller, egress=False)
    for rule in snapshot.jwt:
        found.token(rule)
    return found


def tests_of_authorization(
    auth: Authorization, trust_domain: str, caller: ServiceName | None, *, egress: bool
) -> Tests:
    """What the callee's sidecar asks of a request or, with `egress`, the caller's own before it sends."""
    found = Tests()
    for tier in auth.egress if egress else auth.ingress:
        for policy in tier.policies:
            for rule in policy.rules:
                if caller is None or not _is_for_others(rule.peer, caller):
                    _network_rule(found, rule)
    if egress:
        # the nets of an egress rule are the callee's, and no task has its address yet
        if found.nets:
            found.unproved["the nets of egress rules, as the address of a task is not known here"] = None
            found.nets.clear()
        return found
    found.groups[auth.baseline] = None
    _istio(found, auth, trust_domain, caller)
    if auth.trusted_proxies and found.remote_nets:
        found.unproved["remote.ip, which x-forwarded-for tells behind trusted proxies"] = None
    elif not auth.trusted_proxies:
        found.nets.update(found.remote_nets)
    return found


def _is_for_others(peer: PeerMatch, caller: ServiceName) -> bool:
    return peer.services is not None and caller not in peer.services and not peer.set_nets


def _names_others(rule: AuthorizationRule, caller: ServiceName, trust_domain: str) -> bool:
    """Whether each `source` names callers, and this is none of them."""
    principal = trust_domain + caller.spiffe_path

    def is_meant(source: Source) -> bool:
        named = own_trust_domain(source.principals, trust_domain)
        return all(
            not matches or any_of([compile_string(match) for match in matches])(text)
            for matches, text in ((named, principal), (source.namespaces, caller.namespace))
        )

    return bool(rule.sources) and not any(is_meant(source) for source in rule.sources)


def _istio(found: Tests, auth: Authorization, trust_domain: str, caller: ServiceName | None) -> None:
    for authorization in auth.policies:
        if authorization.dry_run or authorization.action is Action.AUDIT:
            continue
        if authorization.action is Action.CUSTOM:
            found.unproved[f"{authorization.name}, whose provider is asked at run time"] = None
        for item in authorization.rules:
            if caller is not None and _names_others(item, caller, trust_domain):
                continue
            _rule(found, item, trust_domain, denies=authorization.action is not Action.ALLOW)


def _network_rule(found: Tests, rule: NetworkRule) -> None:
    peer = rule.peer
    found.groups.update({group: None for group in (peer.services, peer.not_services) if group is not None})
    for net in (*(peer.nets or ()), *(peer.not_nets or ()), *peer.set_nets, *peer.not_set_nets):
        found.nets[net] = None
    if rule.http is not None:
        found.text("method", rule.http.methods)
        found.text("path", rule.http.paths)
        found.hosts(rule.http.hosts)
        for header in rule.http.headers:
            _header_match(found, header, of_all=rule.action is NetworkAction.ALLOW)


def _rule(found: Tests, rule: AuthorizationRule, trust_domain: str, *, denies: bool) -> None:
    for source in rule.sources:
        for principals in (source.principals, source.not_principals):
            found.text("principal", own_trust_domain(principals, trust_domain))
        for namespaces in (source.namespaces, source.not_namespaces):
            found.text("principal", namespaces, part=1)
        for net in (*source.ip_blocks, *source.not_ip_blocks):
            found.nets[net] = None
        for net in (*source.remote_ip_blocks, *source.not_remote_ip_blocks):
            found.remote_nets[net] = None
        for issued in (source.request_principals, source.not_request_principals):
            found.claim("request.auth.principal", issued)
    for operation in rule.operations:
        for hosts in (operation.hosts, operation.not_hosts):
            found.hosts(hosts)
        for methods in (operation.methods, operation.not_methods):
            found.text("method", methods)
        for paths in (operation.paths, operation.not_paths):
            found.text("path", paths)
    for condition in rule.conditions:
        _condition(found, condition, trust_domain, denies=denies)


def _condition(found: Tests, condition: Condition, trust_domain: str, *, denies: bool) -> None:
    key, values, not_values = condition.key, condition.values, condition.not_values
    if key.startswith("request.headers["):
        # `not_values` holds when no (ALLOW) or not every (DENY) value is one of them
        name = key[len("request.headers[") : -1].lower()
        found.header(name, values, of_all=not denies)
        found.header(name, not_values, of_all=denies)
        return
    if key.startswith("request.auth."):
        found.claim(key, values)
        found.claim(key, not_values)
        return
    match key:
        case "source.principal":
            for principals in (values, not_values):
                found.text("principal", own_trust_domain(principals, trust_domain))
        case "source.namespace":
            for namespaces in (values, not_values):
                found.text("principal", namespaces, part=1)
        case "source.ip" | "destination.ip" | "remote.ip":
            nets = {"source.ip": found.nets, "remote.ip": found.remote_nets}.get(key, found.local_nets)
            nets.update({match.value: None for match in (*values, *not_values) if isinstance(match, Exact)})
        case "destination.port" | "connection.sni":
            pass  # settled by the port that is asked for: the caller's sidecar names it in the SNI
        case _:
            found.unproved[f"the condition {key}"] = None


def tests_of_routes(rules: Iterable[RouteRule]) -> Tests:
    """What the caller's sidecar asks of a request."""
    found = Tests()
    for rule in rules:
        for match in rule.matches:
            _request_match(found, match)
        if rule.cors is not None:
            found.text("method", (Exact("OPTIONS"),))
            found.once("origin", rule.cors.allow_origins)
            found.once("access-control-request-method", ())
    return found


def _request_match(found: Tests, match: RequestMatch) -> None:
    if match.method is not None:
        found.text("method", (match.method,))
    if match.path is not None:
        found.text("path", (match.path,), fold=match.ignore_path_case)
    if match.authority is not None:
        found.text("authority", (match.authority,), fold=True)
        found.text("authority", (match.authority,), part=0, fold=True)
    for header in match.headers:
        _header_match(found, header, of_all=False)
    for name, wanted in match.query.items():
        found.query[name].update({} if isinstance(wanted, Present) else {_one(wanted): None})


def _header_match(found: Tests, header: HeaderMatch, *, of_all: bool) -> None:
    wanted = (header.match,) if header.match is not None else ()
    found.header(header.name, wanted, of_all=False)
    if of_all:
        found.header(header.name, wanted, of_all=True)


def _one(match: StringMatch) -> Matcher:
    return Matcher(describe_all((match,)), (match,))


def through_rewrites(rules: Iterable[RouteRule], after: Tests) -> Tests:
    """What `after` asks of the rewritten path, put as tests of the path that was sent."""
    found = Tests()
    judged = tuple(after.texts.get("path", ()))
    if not judged:
        return found
    for rule in rules:
        rewrite = rule.rewrite
        if rewrite is None or (rewrite.uri is None and rewrite.regex_match is None):
            continue
        if rewrite.regex_match is not None:
            found.unproved[f"the paths that {rule.policy} rewrites by {rewrite.regex_match!r}"] = None
            continue
        for match in rule.matches or (None,):
            length = prefix_length(match)
            if length is None or rewrite.uri is None:
                continue
            for matcher in judged:
                seam = Seam(length, rewrite.uri)
                label = f"{matcher.label} once rewritten by {rule.policy}"
                found.texts["path"][Matcher(label, matcher.matches, matcher.part, matcher.fold, seam)] = None
    return found
