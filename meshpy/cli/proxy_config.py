"""The sections of what a sidecar decides by: each a table made of its snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias, assert_never

from meshpy.model.authz import NetworkPolicy, Tier
from meshpy.model.match import RequestMatch
from meshpy.model.route import DirectResponse, Forward, Redirect, RouteAction, RouteRule
from meshpy.model.snapshot import Snapshot

__all__ = ["SECTIONS", "Table", "raw"]

Row: TypeAlias = tuple[str, ...]
Table: TypeAlias = tuple[Row, list[Row]]

PARTS = {
    "listeners": ("inbound", "servers", "outbound"),
    "routes": ("outbound", "edge"),
    "clusters": ("clusters",),
    "endpoints": ("clusters",),
    "policies": ("authorization", "jwt", "rate_limits", "providers", "denied"),
}
"""Which members of a printed snapshot a section is made of."""


def raw(answer: Mapping[str, Any], section: str) -> dict[str, Any]:
    """A section as the control plane told it."""
    if section == "secrets":
        return {key: answer[key] for key in ("sidecar", "trust_domain", "roots")}
    snapshot = answer["snapshot"] or {}
    return {key: snapshot[key] for key in PARTS[section] if key in snapshot}


def _listeners(snapshot: Snapshot | None, _answer: Mapping[str, Any]) -> Table:
    rows: list[Row] = []
    if snapshot is not None:
        for port in snapshot.inbound:
            ways = "mesh" + (", ingress" if port.ingress else "")
            rows.append(("inbound", ways, str(port.port), port.protocol.value, port.cluster))
        for server in snapshot.servers:
            modes = [f"{each.mode} {', '.join(each.hosts)}" for each in server.tls]
            says = "; ".join(modes) or f"plain {', '.join(server.hosts) or '*'}"
            says = f"redirect to {server.redirect_to}" if server.redirect_to else says
            spoken, leads_to = "tls" if server.tls else "http", f"{says} -> {server.target}"
            rows.append(("edge", f"published {server.published}", str(server.port), spoken, leads_to))
        for listener in snapshot.outbound:
            hosts = [host.host for host in listener.virtual_hosts]
            hosts += [route.host for route in listener.tcp_routes()]
            where, port_text = listener.bind, str(listener.port)
            rows.append(("outbound", where, port_text, listener.protocol.value, ", ".join(hosts) or "-"))
    return ("SIDE", "BIND", "PORT", "PROTOCOL", "LEADS TO"), rows


def _routes(snapshot: Snapshot | None, _answer: Mapping[str, Any]) -> Table:
    rows: list[Row] = []
    for listener in (*snapshot.outbound, *snapshot.edge) if snapshot is not None else ():
        for host in listener.virtual_hosts:
            rows += [
                (
                    str(listener.port),
                    host.host,
                    rule.name or "-",
                    _when(rule),
                    _action(rule),
                    rule.policy or "-",
                )
                for rule in host.rules
            ]
        for route in listener.tcp_routes():
            when = ", ".join((*route.sni_hosts, *route.subnets)) or "any connection"
            to = _weighted([(each.cluster, each.weight) for each in route.destinations])
            rows.append((str(listener.port), route.host, "-", when, to, route.policy or "-"))
    return ("PORT", "HOST", "ROUTE", "MATCHES", "ACTION", "POLICY"), rows


def _clusters(snapshot: Snapshot | None, _answer: Mapping[str, Any]) -> Table:
    rows: list[Row] = [
        (
            name,
            cluster.protocol.value,
            cluster.transport.value,
            cluster.load_balancing.value if cluster.affinity is None else "hash",
            str(len(cluster.endpoints)) if not cluster.dns else f"dns {cluster.dns}:{cluster.dns_port}",
            cluster.sni or "-",
        )
        for name, cluster in (snapshot.clusters.items() if snapshot is not None else ())
    ]
    return ("CLUSTER", "PROTOCOL", "TRANSPORT", "BALANCING", "ENDPOINTS", "SNI"), rows


def _endpoints(snapshot: Snapshot | None, _answer: Mapping[str, Any]) -> Table:
    rows: list[Row] = [
        (f"{each.address}:{each.port}", str(each.workload or "-"), each.node or "-", name)
        for name, cluster in (snapshot.clusters.items() if snapshot is not None else ())
        for each in cluster.endpoints
    ]
    return ("ENDPOINT", "IDENTITY", "NODE", "CLUSTER"), rows


def _policies(snapshot: Snapshot | None, _answer: Mapping[str, Any]) -> Table:
    rows: list[Row] = []
    if snapshot is not None:
        authorization = snapshot.authorization
        rows += [("mTLS", each.policy, f"STRICT on port {each.port}") for each in authorization.strict]
        rows += _tiers("ingress", authorization.ingress)
        rows += _tiers("egress", authorization.egress)
        rows += [("token", rule.policy, f"issuer {rule.issuer}") for rule in snapshot.jwt]
        for policy in authorization.policies:
            action = policy.action.value + (" (dry run)" if policy.dry_run else "")
            rows.append(("requests", policy.name, f"{action}, {len(policy.rules)} rules"))
        rows += [("rate", each.policy, "limits requests") for each in snapshot.rate_limits]
        rows += [("denied", each, "its identity is revoked") for each in sorted(snapshot.denied)]
        if pending := authorization.pending:
            rows += _tiers("staged ingress", pending.ingress)
            rows += _tiers("staged egress", pending.egress)
        if not authorization.ingress:
            names = ", ".join(sorted(map(str, authorization.baseline))) or "nobody"
            rows.append(("ingress", "(no policy)", f"Allow from those on its networks: {names}"))
    return ("STAGE", "POLICY", "DECIDES"), rows


def _secrets(_snapshot: Snapshot | None, answer: Mapping[str, Any]) -> Table:
    row = answer["sidecar"]
    namespace, _, name = row["service"].partition("/")
    identity = f"spiffe://{answer['trust_domain']}/ns/{namespace}/sa/{name}"
    ends = (row["certificate_not_before"], row["certificate_not_after"])
    rows: list[Row] = [("certificate", identity, row["certificate_serial"], *ends)]
    rows += [("root", "SHA-256", root, "-", "-") for root in answer["roots"]]
    return ("SECRET", "NAME", "SERIAL OR PRINT", "NOT BEFORE", "NOT AFTER"), rows


SECTIONS: Mapping[str, Callable[[Snapshot | None, Mapping[str, Any]], Table]] = {
    "routes": _routes,
    "clusters": _clusters,
    "endpoints": _endpoints,
    "listeners": _listeners,
    "policies": _policies,
    "secrets": _secrets,
}


def _tiers(stage: str, tiers: tuple[Tier, ...]) -> Iterator[Row]:
    for tier in tiers:
        for policy in tier.policies:
            yield stage, f"{tier.name}: {policy.name}", _rules(policy)
        yield stage, f"{tier.name}: (end)", tier.default_action.value


def _rules(policy: NetworkPolicy) -> str:
    actions = [rule.action.value for rule in policy.rules]
    counted = [f"{actions.count(action)} {action}" for action in dict.fromkeys(actions)]
    return ", ".join(counted) or "no rule: passes on to the tier's end"


def _when(rule: RouteRule) -> str:
    return " or ".join(_match(each) for each in rule.matches) or "any request"


def _match(match: RequestMatch) -> str:
    parts = [
        f"{what} {type(found).__name__.lower()} {getattr(found, 'value', '')}".rstrip()
        for what, found in (
            ("path", match.path),
            ("method", match.method),
            ("scheme", match.scheme),
            ("authority", match.authority),
        )
        if found is not None
    ]
    parts += [f"header {each.name}" for each in match.headers]
    parts += [f"query {name}" for name in match.query]
    return " and ".join(parts) or "any request"


def _action(rule: RouteRule) -> str:
    extras = []
    if rule.timeout_s is not None:
        extras.append(f"timeout {rule.timeout_s:g}s")
    if rule.fault is not None:
        extras.append("fault")
    if rule.mirrors:
        extras.append(f"{len(rule.mirrors)} mirrors")
    return " ".join([_end(rule.action), *(f"[{each}]" for each in extras)])


def _end(action: RouteAction) -> str:
    match action:
        case Forward(destinations):
            return _weighted([(each.cluster or each.refusal, each.weight) for each in destinations])
        case Redirect():
            return f"redirect {action.code}"
        case DirectResponse():
            return f"answer {action.status}"
        case _:
            assert_never(action)


def _weighted(targets: list[tuple[str, int]]) -> str:
    total = sum(weight for _, weight in targets) or 1
    if len(targets) == 1:
        return targets[0][0]
    return ", ".join(f"{weight * 100 // total}% {name}" for name, weight in targets)
