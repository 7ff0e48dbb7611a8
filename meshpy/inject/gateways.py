"""Published ports that Gateways open: those of Gateway documents in the file, and those that labels name.

A Gateway under `x-mesh.policies` is found here, so its ports and secrets need no further word. For one that
is applied from elsewhere `meshpy.gateway: "443,80"` leaves these published ports to it, and
`meshpy.credentials: "shop"` gives the sidecar what it may name as `credentialName`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from meshpy.compile.offers import offers_of
from meshpy.errors import Place, Problem
from meshpy.inject.edge import lay_gateway_ports, lay_servers
from meshpy.inject.inventory import labels_of
from meshpy.inject.members import Member
from meshpy.inject.place_tree import source_of
from meshpy.inject.servers import missing_secrets, secrets_in, servers_ordered
from meshpy.inject.stackfile import StackFile
from meshpy.model.inventory import GatewayPort, Service
from meshpy.policy import Document, load_documents
from meshpy.policy.gateway_kinds import GatewayDoc, ServerDoc

__all__ = ["check_gateways", "stated_gateways", "with_edge"]

_ENDINGS = ("", ".crt", ".key", ".ca", "-cacert")


def stated_gateways(stack: StackFile, stack_name: str) -> tuple[GatewayDoc, ...]:
    """The Gateways under `x-mesh.policies`.

    Raises:
        DocumentError: one of them cannot be read.
    """
    extension = stack.value.get("x-mesh")
    policies = extension.get("policies") if isinstance(extension, dict) else None
    found = []
    for index, item in enumerate(policies if isinstance(policies, list) else ()):
        if isinstance(item, dict) and item.get("kind") == "Gateway":
            text, line = source_of(stack, ("x-mesh", "policies", index))
            found.append(Document("", stack_name, "", text, stack.file, Place(), line))
    return load_documents(found).gateways


def with_edge(
    stack: StackFile, member: Member, gateways: Sequence[GatewayDoc], *, is_permissive: bool
) -> tuple[Member, list[Problem]]:
    """What a member's published ports present to callers outside; a port never falls back to plaintext."""
    ordered, problems = servers_ordered(stack, member.key, member.orders)
    at_label = stack.place((member.orders.places or {}).get("gateway", ("services", member.key)))
    place = ordered[0].place if ordered else at_label
    ports: tuple[GatewayPort, ...] = ()
    credentials: tuple[str, ...] = ()
    if not problems and (not member.exempt or member.orders.gateway):
        ports, credentials, problems = _gateway_ports_of(stack, member, gateways)
    if problems or not (ordered or ports):
        return member, problems
    if member.exempt:
        what = f"`{member.key}` stays outside of the mesh ({member.exempt}): nobody would end TLS there"
        return member, [Problem(place, what, "remove it, or have the service meshed")]
    if is_permissive:
        what = f"a permissive `{member.key}` keeps its ports, and would answer there in plaintext"
        instead = "remove `servers` and Gateways of its ports until the strict deployment"
        return member, [Problem(place, what, instead)]
    taken, proxied = [each.port for each in ports], member.orders.proxy_protocol
    servers, problems = lay_servers(ordered, member.published, member.ports, proxied, taken)
    for number in sorted({each.published for each in servers} & {each.published for each in ports}):
        what = f"port {number} of `{member.key}` has a server under x-mesh.servers and a Gateway"
        problems.append(Problem(place, what, "keep one of them"))
    return replace(member, servers=servers, gateway_ports=ports, credentials=credentials), problems


def _gateway_ports_of(
    stack: StackFile, member: Member, gateways: Sequence[GatewayDoc]
) -> tuple[tuple[GatewayPort, ...], tuple[str, ...], list[Problem]]:
    """The ports of one service, the secrets that its sidecar needs for them, and what is wrong."""
    servers = [server for server in _servers_for(member, gateways) if _publishes(member, server.port)]
    wanted = {*member.orders.gateway, *(server.port for server in servers)}
    laid, missing = lay_gateway_ports(sorted(wanted), member.published, member.ports)
    at_label = stack.place((member.orders.places or {}).get("gateway", ("services", member.key)))
    problems = []
    for number in missing:
        what = f"`{member.key}` publishes no port {number}, which a Gateway could open"
        problems.append(Problem(at_label, what, "name a port that `ports:` publishes"))
    for number in sorted({each.published for each in member.servers} & wanted):
        what = f"port {number} of `{member.key}` has a server under x-mesh.servers and a Gateway"
        place = next((each.place for each in servers if each.port == number), at_label)
        problems.append(Problem(place, what, "keep one of them"))
    keys, wrong = _secrets(stack, member, servers)
    return laid, keys, [*problems, *wrong]


def _secrets(
    stack: StackFile, member: Member, servers: Sequence[ServerDoc]
) -> tuple[tuple[str, ...], list[Problem]]:
    known = secrets_in(stack)
    tls = [server.tls for server in servers if server.tls is not None]
    problems = [problem for each in tls for problem in missing_secrets(each, known)]
    keys = [key for each in tls for key, _ in each.secrets(known)]
    for name in member.orders.credentials:
        found = [name + ending for ending in _ENDINGS if name + ending in known]
        keys += found
        if not found:
            path = (member.orders.places or {}).get("credentials", ("services", member.key))
            instead = f"write {name}.crt: {{file: ./{name}.crt}} and {name}.key below the root `secrets`"
            problems.append(stack.problem(path, f"the file has no secret {name} or {name}.crt", instead))
    return tuple(dict.fromkeys(key for key in keys if key in known)), problems


def check_gateways(members: Collection[Member], gateways: Sequence[GatewayDoc]) -> Iterator[Problem]:
    """Servers of the file's Gateways that no service of the file publishes."""
    for gateway in gateways:
        for server in gateway.servers:
            picked = [m for m in members if not m.exempt and server in _servers_for(m, [gateway])]
            if not picked:
                what = f"{gateway.meta.title} picks no meshed service of the file"
                known = ", ".join(f"{{app: {m.key}}}" for m in members if not m.exempt) or "none is meshed"
                yield Problem(gateway.meta.place, what, f"write labels of one of them as `selector`: {known}")
            elif not any(_publishes(member, server.port) for member in picked):
                names = ", ".join(m.key for m in picked)
                what = f"{gateway.meta.title} picks {names}, where no port {server.port} is published"
                yield Problem(server.place, what, f'add "{server.port}:PORT" to `ports` of the service')


def _servers_for(member: Member, gateways: Sequence[GatewayDoc]) -> list[ServerDoc]:
    """Of Gateways that pick the service, whatever it publishes."""
    ports = {server.port for gateway in gateways for server in gateway.servers}
    anywhere = tuple(GatewayPort(number, number, number) for number in sorted(ports))
    service = Service(member.name, labels_of(member), gateway_ports=anywhere)
    return [offer.server for offers in offers_of(service, gateways).values() for offer in offers]


def _publishes(member: Member, number: int) -> bool:
    return not lay_gateway_ports([number], member.published, member.ports)[1]
