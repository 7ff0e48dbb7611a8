"""Egress gateways: services through which others reach hosts outside, and what each may reach there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from meshpy.model.ingress import covers_host, specificity
from meshpy.model.names import ServiceName

__all__ = ["GatewayGrant", "grant_for", "outside_of_sni", "outside_sni"]

_SUFFIX = "._outside.mesh"
"""No stack can be called so: names of stacks begin with a letter or digit."""


@dataclass(frozen=True, slots=True)
class GatewayGrant:
    """Hosts outside that some callers may reach through this gateway.

    Args:
        host: a name in lower case, `*.suffix`, or `*`.
        port: 0 is every port.
        dial: names or addresses with ports that stand for the host; empty: itself, as it is looked up.
    """

    host: str
    port: int
    callers: frozenset[ServiceName]
    dial: tuple[tuple[str, int], ...] = ()


def grant_for(
    grants: Iterable[GatewayGrant], caller: ServiceName | None, host: str, port: int
) -> GatewayGrant | None:
    """The most specific grant by which a caller may reach a host; None where there is none."""
    found = [
        each
        for each in grants
        if each.port in (0, port) and caller in each.callers and covers_host(each.host, host)
    ]
    return max(found, key=lambda each: (*specificity(each.host), each.port), default=None)


def outside_sni(host: str, port: int) -> str:
    """The server name by which a gateway is asked for a host: `p443.api.stripe.com._outside.mesh`."""
    return f"p{port}.{host}{_SUFFIX}".lower()


def outside_of_sni(sni: str) -> tuple[str, int] | None:
    """Host and port of such a server name; None when it is another."""
    head, _, host = sni.removesuffix(_SUFFIX).partition(".")
    if not sni.endswith(_SUFFIX) or not host or head[:1] != "p" or not head[1:].isdecimal():
        return None
    port = int(head[1:])
    return (host, port) if 0 < port < 65536 else None
