"""Addresses outside: what a name means, without anything that is on a network of this very task."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct
from collections.abc import Sequence
from pathlib import Path

__all__ = ["is_outside", "local_networks", "networks_of_routes", "reachable"]

_ROUTES = Path("/proc/net/route")


def networks_of_routes(text: str) -> tuple[ipaddress.IPv4Network, ...]:
    """The networks on the link, from the text of `/proc/net/route`: those without a gateway."""
    found = []
    for line in text.splitlines()[1:]:
        words = line.split()
        if len(words) >= 8 and words[2] == "00000000" and words[1] != "00000000":
            address, mask = (socket.inet_ntoa(struct.pack("<I", int(words[at], 16))) for at in (1, 7))
            found.append(ipaddress.IPv4Network(f"{address}/{mask}", strict=False))
    return tuple(found)


def local_networks() -> tuple[ipaddress.IPv4Network, ...]:
    """Those of this task now; a table that cannot be read means that nothing is known to be outside."""
    try:
        return networks_of_routes(_ROUTES.read_text(encoding="ascii"))
    except OSError:
        return (ipaddress.IPv4Network("0.0.0.0/0"),)


def is_outside(address: str, local: Sequence[ipaddress.IPv4Network]) -> bool:
    """Whether an address can be a host of the outside world. Private ones can: a company's own database."""
    parsed = ipaddress.IPv4Address(address)
    if parsed.is_loopback or parsed.is_link_local or parsed.is_multicast or parsed.is_unspecified:
        return False  # link-local holds a cloud's metadata service, 169.254.169.254
    return not any(parsed in network for network in local)


async def reachable(
    loop: asyncio.AbstractEventLoop, host: str, port: int, local: Sequence[ipaddress.IPv4Network]
) -> list[str]:
    """The addresses of a host that are outside.

    Raises:
        OSError: the name cannot be looked up.
    """
    found = await loop.getaddrinfo(host, port, family=socket.AF_INET, type=socket.SOCK_STREAM)
    addresses = dict.fromkeys(str(each[4][0]) for each in found)
    return [address for address in addresses if is_outside(address, local)]
