"""Groups: members of a cluster that call each other directly, each behind a sidecar for everybody else.

Kafka, etcd, Galera and their like advertise addresses of their own and count on meeting a peer under each:
one network holds the members of a group together, without their sidecars. Clients reach each member through
its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from meshpy.errors import Problem
from meshpy.inject.members import Member
from meshpy.inject.stackfile import StackFile

__all__ = ["check_groups", "group_networks"]


def check_groups(
    stack: StackFile, name: str, members: Sequence[Member], problems: list[Problem], notes: list[str]
) -> None:
    """What is wrong with the groups of a file, and what has to be known of them."""
    taken = set(stack.value.get("networks") or {})
    groups: dict[str, list[Member]] = {}
    for member in members:
        if member.orders.group:
            groups.setdefault(member.orders.group, []).append(member)
    for group, found in groups.items():
        names = ", ".join(sorted(member.key for member in found))
        for member in found:
            place = (member.orders.places or {}).get("group", ("services", member.key))
            if member.exempt:
                what = f"`{member.key}` of the group `{group}` stays outside of the mesh: {member.exempt}"
                problems.append(stack.problem(place, what, 'write meshpy.enable: "true", or leave the group'))
            elif not any(other.networks & member.networks for other in found if other is not member):
                what = f"no other service on its networks is in the group `{group}`"
                problems.append(stack.problem(place, what, "write the group on every peer, or nowhere"))
            notes.append(f"{member.key}: peers of the group {group} ({names}) reach each other past sidecars")
        key, place = found[0].group_network, ("services", found[0].key)
        if key in taken:
            what = f"the network `{key}` is in the file, and the group `{group}` needs that name"
            problems.append(stack.problem(place, what, "rename one of them"))
        if len(f"{name}_{key}") > 63:
            what = f"`{name}_{key}` has more than the 63 characters that Swarm allows"
            problems.append(stack.problem(place, what, "shorten the name of the group"))


def group_networks(members: Sequence[Member], definition: Mapping[str, Any]) -> dict[str, Any]:
    """The networks of all groups, by key: no way out, as any pod network."""
    return {member.group_network: definition for member in members if member.group_network}
