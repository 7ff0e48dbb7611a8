"""`meshpy describe service NAME`: all that the mesh knows of one service, on one page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias
from urllib.parse import quote

import click

from meshpy.cli.groups import Group
from meshpy.cli.output import ask_format, print_json, print_table
from meshpy.client import Context, Operator
from meshpy.model.authz import Authorization, Tier
from meshpy.model.names import ServiceName
from meshpy.model.route import Destination, DirectResponse, Forward, Redirect, RouteRule
from meshpy.model.snapshot import OutboundListener, Snapshot
from meshpy.wire import decode_snapshot

__all__ = ["describe"]

Rows: TypeAlias = list[tuple[str, ...]]


@click.group(cls=Group)
def describe() -> None:
    """Show one thing of the mesh, whole.

    \b
    Example:
      meshpy describe service shop/api
    """


@describe.command()
@click.argument("name")
@click.option("-n", "--namespace", default="default", show_default=True, help="Of a NAME without one.")
@ask_format
def service(name: str, namespace: str, output: str) -> None:
    """Show a service: identity, ports, endpoints, sidecars, callers, policies in force, routes.

    \b
    Examples:
      meshpy describe service api -n shop
      meshpy describe service shop/api -o json
    """
    named = _named(name, namespace)
    operator = Operator(Context.load())
    detail = operator.call("GET", f"/v1/services/{quote(named.namespace)}/{quote(named.name)}")
    status = operator.call("GET", "/v1/status")
    about: dict[str, Any] = {
        **detail,
        "identity": f"spiffe://{status['trust_domain']}/ns/{named.namespace}/sa/{named.name}",
        "sidecars": [each for each in status["sidecars"] if each["service"] == str(named)],
        "edges": [each for each in status["edges"] if str(named) in (each["source"], each["destination"])],
    }
    if output == "json":
        print_json(about)
    else:
        _print(about)


def _named(name: str, namespace: str) -> ServiceName:
    try:
        return ServiceName.parse(name, namespace)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _print(about: Mapping[str, Any]) -> None:
    click.echo(about["service"])
    facts = {
        "identity": about["identity"] if not about["exempt"] else f"none: {about['exempt']}",
        "labels": ", ".join(f"{key}={value}" for key, value in sorted(about["labels"].items())),
        "hosts": ", ".join(about["hosts"]),
        "networks": ", ".join(about["networks"]),
        "ports": ", ".join(_port(port) for port in about["ports"]),
    }
    for title, text in facts.items():
        click.echo(f"  {title:<10}{text or '-'}")
    snapshot = decode_snapshot(about["snapshot"]) if about["snapshot"] is not None else None
    for title, headers, rows in _tables(about, snapshot):
        click.echo(f"\n{title}")
        if rows:
            print_table(headers, rows)
        else:
            click.echo("none")


def _tables(
    about: Mapping[str, Any], snapshot: Snapshot | None
) -> Iterator[tuple[str, tuple[str, ...], Rows]]:
    endpoints: Rows = [
        (each["address"], str(each["port"]), each["node"] or "-") for each in about["endpoints"]
    ]
    yield "Endpoints", ("ADDRESS", "PORT", "NODE"), endpoints
    sidecars: Rows = [
        (each["task"], each["node"] or "-", each["state"], each["held"] or "-", each["reason"] or "")
        for each in about["sidecars"]
    ]
    yield "Sidecars", ("TASK", "NODE", "STATE", "VERSION", "REASON"), sidecars
    yield (
        "Traffic",
        ("FROM", "TO", "RPS", "SUCCESS", "P99 MS", "MTLS", "DENIED"),
        list(_edges(about["edges"])),
    )
    if snapshot is not None:
        yield "Calls to it are judged by", ("STAGE", "POLICY", "DOES", "RULES"), list(_judges(snapshot))
        yield "It may call", ("HOST", "PORT", "WHEN", "GOES TO", "BY"), list(_routes(snapshot))


def _port(port: Mapping[str, Any]) -> str:
    return f"{port['number']}/{port['protocol']}"


def _edges(edges: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    for edge in edges:
        yield (
            edge["source"],
            edge["destination"],
            f"{edge['rps']:.1f}",
            f"{edge['success_ratio']:.2%}",
            "-" if edge["p99_ms"] is None else f"{edge['p99_ms']:.1f}",
            "√" if edge["mtls_ratio"] == 1 else f"{edge['mtls_ratio']:.0%}",
            str(sum(edge["denied"].values())),
        )


def _judges(snapshot: Snapshot) -> Iterator[tuple[str, ...]]:
    """What decides, in that order: mTLS, network, token, CUSTOM, DENY, ALLOW, rate."""
    judged = snapshot.authorization
    for strict in judged.strict:
        yield "mTLS", strict.policy, f"STRICT on port {strict.port}", "-"
    yield from _network("network", judged.ingress)
    for rule in snapshot.jwt:
        yield "token", rule.policy, f"validates {rule.issuer}", "-"
    yield from _policies(judged)
    for limit in snapshot.rate_limits:
        yield "rate limit", limit.policy, "limits", "-"
    if judged.pending is not None:
        yield from _network("staged", judged.pending.ingress)


def _network(stage: str, tiers: Sequence[Tier]) -> Iterator[tuple[str, ...]]:
    for tier in tiers:
        for policy in tier.policies:
            yield stage, policy.name, f"tier {tier.name}", str(len(policy.rules))


def _policies(judged: Authorization) -> Iterator[tuple[str, ...]]:
    order = ("CUSTOM", "DENY", "ALLOW", "AUDIT")
    for policy in sorted(judged.policies, key=lambda each: order.index(each.action)):
        done = f"{policy.action}, dry run" if policy.dry_run else str(policy.action)
        yield "authorization", policy.name, done, str(len(policy.rules))


def _routes(snapshot: Snapshot) -> Iterator[tuple[str, ...]]:
    for listener in snapshot.outbound:
        for host in listener.virtual_hosts:
            for rule in host.rules:
                yield host.host, _where(listener), _when(rule), _action(rule), rule.policy or "-"
        for route in listener.tcp_routes():
            when = ", ".join((*route.sni_hosts, *route.subnets)) or "any"
            yield route.host, _where(listener), when, _targets(route.destinations), route.policy or "-"


def _where(listener: OutboundListener) -> str:
    return f"{listener.port}/{listener.protocol}"


def _when(rule: RouteRule) -> str:
    return f"{len(rule.matches)} match{'es' * (len(rule.matches) != 1)}" if rule.matches else "any"


def _action(rule: RouteRule) -> str:
    match rule.action:
        case Forward(destinations):
            return _targets(destinations)
        case Redirect():
            return "a redirect"
        case DirectResponse():
            return f"answered here: {rule.action.status}"


def _targets(destinations: Sequence[Destination]) -> str:
    total = sum(each.weight for each in destinations) or 1
    if len(destinations) == 1:
        return _target(destinations[0])
    return ", ".join(f"{_target(each)} {each.weight / total:.0%}" for each in destinations)


def _target(destination: Destination) -> str:
    return destination.host + (f" ({destination.subset})" if destination.subset else "")
