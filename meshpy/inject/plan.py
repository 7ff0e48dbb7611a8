"""What the injector will write, decided first: who is meshed, on which networks, by which names."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from meshpy.errors import DocumentError, Problem
from meshpy.inject.evidence import PortFact, listens_on_nothing, port_facts
from meshpy.inject.exempt import cluster_reasons, hard_reason, soft_reason
from meshpy.inject.gateways import check_gateways, stated_gateways, with_edge
from meshpy.inject.groups import check_groups
from meshpy.inject.interpolation import has_variable, substitute
from meshpy.inject.members import PROXY_HOST, Member, Plan, Pod
from meshpy.inject.mentions import Mention, mentions_of
from meshpy.inject.options import InjectOptions, Settings
from meshpy.inject.outside import found_ports
from meshpy.inject.published import Published, read_port, shadowed
from meshpy.inject.reach import Callee, TooManyNames, share_out
from meshpy.inject.stackfile import StackFile
from meshpy.inject.topology import Attachment, Network, attachments_of, networks_of
from meshpy.inject.words import Orders, orders_of, parse_ports, settings_of, text_of
from meshpy.model.endpoint import Protocol
from meshpy.model.names import ServiceName, standard_hosts

__all__ = ["PortsUnknownError", "make_plan"]


STACK_NAME = re.compile(r"[a-zA-Z0-9](?:[-_]*[A-Za-z0-9]+)*")
"""Swarm's rule for names (swarmkit manager/controlapi)."""


class PortsUnknownError(DocumentError):
    """Nothing shows the ports of some services; `images` are theirs, by service."""

    def __init__(self, problems: Sequence[Problem], images: Mapping[str, str]) -> None:
        super().__init__(problems)
        self.images = images


@dataclass(slots=True)
class _Work:
    stack: StackFile
    name: str
    options: InjectOptions
    settings: Settings
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    known: frozenset[str] = frozenset()
    unknown: dict[str, str] = field(default_factory=dict)


def make_plan(stack: StackFile, stack_name: str, options: InjectOptions) -> Plan:
    """Decide everything.

    Raises:
        DocumentError: every reason why this file cannot be injected.
    """
    if not STACK_NAME.fullmatch(stack_name):
        what = f"{stack_name!r} is no name for a stack"
        raise DocumentError([stack.problem((), what, "use letters, digits, - and _")])
    work = _Work(stack, stack_name, options, settings_of(stack, options))
    networks = networks_of(stack, stack_name)
    members = [m for key in stack.value["services"] if (m := _member(work, key, networks))]
    _refuse(work)
    work.known = frozenset(name for m in members for name in m.names)
    members = _with_exemptions(work, members)
    members = _at_the_edge(work, _with_ports(work, members))
    _check_names(work, members)
    check_groups(work.stack, work.name, members, work.problems, work.notes)
    _refuse(work)
    members = [_with_networks(work, member, members) for member in members]
    _refuse(work)
    mesh_key = next(
        (n.key for n in networks.values() if n.full == work.settings.mesh_network and n.external),
        _free(work.settings.mesh_network, networks, "meshpy-mesh"),
    )
    egress_key = _free("egress", networks, "meshpy-egress")
    return Plan(stack, stack_name, work.settings, tuple(members), mesh_key, egress_key, tuple(work.notes))


def _free(key: str, networks: Mapping[str, Network], other: str) -> str:
    return other if key in networks else key


def _refuse(work: _Work) -> None:
    if work.unknown:
        raise PortsUnknownError(sorted(set(work.problems)), work.unknown)
    if work.problems:
        raise DocumentError(sorted(set(work.problems)))


def _member(work: _Work, key: str, networks: Mapping[str, Network]) -> Member | None:
    path = ("services", key)
    service = work.stack.value["services"][key]
    try:
        attachments = attachments_of(service, networks)
        orders = orders_of(work.stack, key)
    except KeyError as error:
        what = f"the network {error.args[0]!r} is not defined"
        work.problems.append(
            work.stack.problem((*path, "networks"), what, "define it below the root `networks`")
        )
        return None
    except DocumentError as error:
        work.problems += error.problems
        return None
    published: list[Published] = []
    for index, entry in enumerate(service.get("ports") or ()):
        try:
            published += read_port(entry)
        except ValueError as error:
            instead = "write the port of the app as a number or with a default, ${PORT:-8080}"
            work.problems.append(work.stack.problem((*path, "ports", index), str(error), instead))
    for port in published:
        if port.host_ip:
            work.notes.append(
                f"{key}: docker stack publishes {port.published} on every address, not on {port.host_ip}"
            )
    work.notes += [f"{key}: {fact}" for fact in shadowed(published, work.settings.endpoint_mode == "dnsrr")]
    name = ServiceName(work.name, key)
    hosts = _hosts(work, key, service, attachments, orders)
    if not orders.ports and key in work.options.assume:
        try:
            orders = replace(orders, ports=parse_ports(work.options.assume[key]))
        except ValueError as error:
            work.problems.append(work.stack.problem(path, f"--assume {key}: {error}"))
    return Member(name, service, attachments, orders, tuple(published), hosts)


def _hosts(
    work: _Work, key: str, service: Mapping[str, Any], attachments: Sequence[Attachment], orders: Orders
) -> tuple[str, ...]:
    hosts = [alias for attachment in attachments for alias in attachment.aliases]
    hostname = text_of(service.get("hostname"))
    if hostname and "{{" not in hostname:
        hosts.append(hostname)
    elif hostname:
        work.notes.append(f"{key}: its hostname is a template, so no caller in the mesh can use it")
    plain: list[str] = []
    for host in (*hosts, *orders.hosts):
        value = substitute(host) if has_variable(host) else host
        if value and value.lower() != key.lower() and "{{" not in value:
            plain.append(value)
    return tuple(dict.fromkeys(plain))


def _with_exemptions(work: _Work, members: Sequence[Member]) -> list[Member]:
    services = {m.key: m.service for m in members}
    names = {name: m.key for m in members for name in m.names}
    mentions = {m.key: mentions_of(m.key, m.service) for m in members}
    grouped = {m.key for m in members if m.orders.group}
    clusters = cluster_reasons(services, mentions, names, grouped)
    found = []
    for member in members:
        hard = hard_reason(member.service, member.attachments)
        reason = hard or soft_reason(member.orders, member.service, member.published)
        if not reason and member.orders.enable is None:
            reason = clusters.get(member.key, "")
            if reason:
                word = f'meshpy.group: "{min(clusters)}-cluster"'
                work.notes.append(f"{member.key}: {word} on each of these peers meshes them as a group")
        if hard and member.orders.enable:
            path = (member.orders.places or {}).get("enable", ("services", member.key))
            work.problems.append(work.stack.problem(path, f"{member.key} cannot be meshed: {hard}"))
        found.append(replace(member, exempt=reason))
    return found


def _with_ports(work: _Work, members: Sequence[Member]) -> list[Member]:
    for key in sorted(set(work.options.assume) - {m.key for m in members}):
        work.problems.append(work.stack.problem((), f"--assume names `{key}`, which the file does not have"))
    mentions = {m.key: mentions_of(m.key, m.service) for m in members}
    return [_member_ports(work, member, members, mentions) for member in members]


def _at_the_edge(work: _Work, members: Sequence[Member]) -> list[Member]:
    """With what their published ports present to callers outside."""
    gateways = stated_gateways(work.stack, work.name)
    found = []
    for member in members:
        ready, problems = with_edge(work.stack, member, gateways, is_permissive=work.settings.permissive)
        work.problems += problems
        found.append(ready)
    work.problems += check_gateways(found, gateways)
    return found


def _member_ports(
    work: _Work, member: Member, members: Sequence[Member], mentions: Mapping[str, Sequence[Mention]]
) -> Member:
    near = [m for m in members if m.networks & member.networks]
    callers = [x for m in near for x in mentions[m.key] if x.host.lower() in member.names]
    outside = found_ports(work.options.found.get(member.key, ""))
    facts = port_facts(member.service, member.orders.ports, member.published, callers, outside)
    open_ports = {fact.number for fact in facts if fact.published}
    for number in set(member.orders.proxy_protocol) - open_ports:
        path = (member.orders.places or {}).get("proxy_protocol", ("services", member.key))
        what = f"`{member.key}` publishes no port {number}, where a PROXY header could be read"
        work.problems.append(work.stack.problem(path, what, "name a port that `ports:` publishes"))
    if facts or member.orders.ports is not None:
        return replace(
            member, ports=facts, no_ports="" if facts else "meshpy.ports is empty: it listens on nothing"
        )
    foreign = any(a.network.external for a in member.attachments)
    reason = listens_on_nothing(member.service)
    if not reason and len(near) == 1 and not foreign:
        reason = "nobody shares a network with it"
    if not reason and not member.exempt:
        image = text_of(member.service.get("image"))
        work.unknown[member.key] = substitute(image) or image
        line = 'meshpy.ports: "8080/http"'
        work.problems.append(
            work.stack.problem(
                ("services", member.key),
                f"nothing in the file shows which port `{member.key}` listens on",
                f'write {line} (or "" when it listens on nothing) below its deploy.labels, '
                f"or pass --assume {member.key}=8080/http",
            )
        )
    return replace(member, no_ports=reason or "no port is known, so meshed services cannot call it")


def _check_names(work: _Work, members: Sequence[Member]) -> None:
    keys = set(work.stack.value["services"])
    networks = set(work.stack.value.get("networks") or {})
    for member in members:
        if member.exempt:
            continue
        path = ("services", member.key)
        for name, taken, kind in (
            (f"{member.key}-sidecar", keys, "service"),
            (f"{member.key}-pod", networks, "network"),
        ):
            if name in taken:
                what = f"the {kind} `{name}` is in the file, and `{member.key}` needs that name"
                work.problems.append(work.stack.problem(path, what, "rename one of them"))
        longest = f"{work.name}_{member.key}-sidecar"
        if len(longest) > 63:
            what = f"`{longest}` has {len(longest)} characters, Swarm allows 63"
            work.problems.append(
                work.stack.problem(path, what, "shorten the name of the stack or of the service")
            )
        if any(a.network.full == work.settings.mesh_network for a in member.attachments):
            what = f"the network `{work.settings.mesh_network}` is for sidecars only"
            instead = "take the service off it, or choose another with x-mesh.mesh_network"
            work.problems.append(work.stack.problem((*path, "networks"), what, instead))


def _with_networks(work: _Work, member: Member, members: Sequence[Member]) -> Member:
    if member.exempt:
        return member
    others = [m for m in members if m.key != member.key and m.networks & member.networks]
    if member.orders.group:  # peers are met on a network of the group's own
        others = [m for m in others if m.orders.group != member.orders.group]
    others = _scoped(member, others)
    outbound = _outbound(work, member)
    callees = _callees(member, others) + list(_foreign(work, member))
    if not outbound:  # a forward proxy is asked by name: it needs no alias, which its own look-up would find
        callees += _egress(member)
    try:
        rooms, is_short = share_out(callees)
    except TooManyNames as error:
        path = ("services", member.key, "x-mesh")
        instead = "name what it calls: x-mesh `dependencies: [db]` or the label meshpy.dependencies: db,cache"
        work.problems.append(
            work.stack.problem(path, f"`{member.key}` can reach too many services: {error}", instead)
        )
        return member
    if is_short:
        work.notes.append(
            f"{member.key}: callees answer to their short names only; the long ones do not fit 900 bytes"
        )
    pods = []
    for index, (aliases, keys) in enumerate(rooms):
        key = f"{member.key}-pod" + (str(index + 1) if index else "")
        pods.append(Pod(key, f"{work.name}_{key}", tuple(aliases), tuple(keys)))
    if len(pods) > 1:
        work.notes.append(
            f"{member.key}: {len(pods)} pod networks keep equal ports of its callees apart; "
            "a list of what it calls (meshpy.dependencies) makes them fewer"
        )
    doors = tuple(
        a
        for a in member.attachments
        if work.settings.permissive
        or a.network.external
        or any(m.exempt and a.network.full in m.networks for m in members)
    )
    member = replace(member, gateway=_gateway(work, member))
    if outbound:
        main = replace(pods[0], aliases=tuple(sorted((*pods[0].aliases, PROXY_HOST))))
        member, pods = replace(member, outbound=outbound), [main, *pods[1:]]
    if work.settings.permissive:  # ports stay with the app, which is the one that is published still
        member = replace(member, published=(), orders=replace(member.orders, proxy_protocol=()))
    return replace(member, pods=tuple(pods), doors=doors)


def _gateway(work: _Work, member: Member) -> ServiceName | None:
    said = member.orders.egress_gateway or work.settings.egress_gateway
    if said in ("", "none"):
        return None
    namespace, _, name = said.partition("/")
    return ServiceName(namespace, name)


def _outbound(work: _Work, member: Member) -> str:
    said = member.orders.outbound or work.settings.outbound
    if member.orders.patterns and said in ("", "CLOSED"):
        path = (member.orders.places or {}).get("egress", ("services", member.key))
        what = f"{member.orders.patterns[0]} is a pattern, for which no alias can stand"
        instead = "give the service a forward proxy: `outbound: REGISTRY_ONLY` (or ALLOW_ANY) below x-mesh"
        work.problems.append(work.stack.problem(path, what, instead))
    return "" if said == "CLOSED" or work.settings.permissive else said


def _scoped(member: Member, others: Sequence[Member]) -> list[Member]:
    wanted = member.orders.dependencies
    if wanted is None:
        return list(others)
    return [m for m in others if m.names & {name.lower() for name in wanted}]


def _callees(member: Member, others: Sequence[Member]) -> list[Callee]:
    """One callee per group of services that share a name; a caller cannot tell them apart by address."""
    groups: list[list[Member]] = []
    for other in others:
        hosts = {host.lower() for host in other.hosts}
        if not hosts:
            groups.append([other])
            continue
        same = [g for g in groups if any(hosts & {h.lower() for h in m.hosts} for m in g)]
        groups = [g for g in groups if g not in same] + [[m for g in same for m in g] + [other]]
    found = []
    for group in groups:
        group.sort(key=lambda m: m.name)
        names = [name for m in group for name in (m.key, *m.hosts)]
        longer = [name for m in group for name in standard_hosts(m.name)[1:]]
        ports = {(p.number, p.protocol): p for m in group for p in m.ports}
        found.append(
            Callee(
                group[0].key,
                tuple(
                    n for n in dict.fromkeys(names) if n.lower() not in {member.key, member.name.swarm_name}
                ),
                tuple(dict.fromkeys(longer)),
                tuple(ports.values()),
            )
        )
    return sorted(found, key=lambda callee: callee.key)


def _foreign(work: _Work, member: Member) -> Iterator[Callee]:
    """Names of other stacks' services that the file mentions, on networks that others may share."""
    said: dict[str, dict[int, Protocol | None]] = {}
    for mention in mentions_of(member.key, member.service):
        host = mention.host.lower()
        if not mention.port or host in work.known or host == "localhost" or host.replace(".", "").isdecimal():
            continue
        if "." in host.removeprefix("tasks."):
            if host not in {e[0] for e in member.orders.egress} and mention.protocol is not None:
                protocol = mention.protocol
                work.notes.append(
                    f"{member.key}: {mention.where} names {host}; if it is outside of the Swarm, "
                    f'add meshpy.egress: "{host}:{mention.port}/{protocol}"'
                )
        elif any(a.network.external for a in member.attachments):
            said.setdefault(mention.host, {})[mention.port] = mention.protocol
    for name in member.orders.dependencies or ():
        if name.lower() not in work.known:
            said.setdefault(name, {})
    for host, ports in sorted(said.items()):
        facts = tuple(PortFact(n, p or Protocol.TCP, "caller", str(n)) for n, p in sorted(ports.items()))
        work.notes.append(f"{member.key}: it calls {host}, which another stack must bring")
        yield Callee(host, (host,), (), facts)


def _egress(member: Member) -> list[Callee]:
    hosts: dict[str, list[PortFact]] = {}
    for host, port, protocol in member.orders.egress:
        hosts.setdefault(host, []).append(PortFact(port, Protocol(protocol), "meshpy.egress", str(port)))
    return [Callee(host, (host,), (), tuple(ports)) for host, ports in sorted(hosts.items())]
