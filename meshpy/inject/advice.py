"""What callers would feel of an app's own updates, with a mesh or without one: said in the report.

Measured (docs/swarm.md): two replicas with a healthcheck lose no request; without one a few are refused, and
a single replica that stops before its successor starts is away for seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from meshpy.inject.interpolation import substitute
from meshpy.inject.members import Member
from meshpy.inject.mentions import mentions_of
from meshpy.inject.words import text_of

__all__ = ["advice_on"]

_NO_CHECK = (
    "no healthcheck in the file (an image's own is not seen here): "
    "while it is updated callers may be refused until it listens"
)
_ALONE = (
    "one replica that stops before its successor starts: while it is updated nobody answers for it; "
    "`replicas: 2` or `update_config: {order: start-first}` avoids that"
)


def advice_on(members: Iterable[Member]) -> Iterator[str]:
    """`service: fact` for each meshed service."""
    for member in members:
        yield from _enumerated(member)
        deploy = member.service.get("deploy") or {}
        mode = text_of(deploy.get("mode"))
        if not member.ports or mode.endswith("-job"):
            continue
        if not _is_checked(member.service.get("healthcheck")):
            yield f"{member.key}: {_NO_CHECK}"
        order = text_of((deploy.get("update_config") or {}).get("order"))
        if mode != "global" and order != "start-first" and _replicas(deploy) == "1":
            yield f"{member.key}: {_ALONE}"


def _enumerated(member: Member) -> Iterator[str]:
    """Names by which it may ask for every task of another service."""
    hosts = {mention.host.lower() for mention in mentions_of(member.key, member.service)}
    found = sorted(host for host in hosts if host.startswith("tasks.") and host not in member.names)
    if found:
        fact = "leads to one address, its sidecar's; who asks for every task by it finds one"
        yield f"{member.key}: {', '.join(found)} {fact}"


def _is_checked(said: Any) -> bool:
    if not isinstance(said, Mapping) or said.get("disable") is True:
        return False
    test = said.get("test")
    first = test[0] if isinstance(test, list) and test else test
    return bool(first) and text_of(first).upper() != "NONE"


def _replicas(deploy: Mapping[str, Any]) -> str:
    text = text_of(deploy.get("replicas", 1))
    return substitute(text) or text
