"""The IPv4 addresses of this task's interfaces with their networks, as the kernel has them now."""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct
from collections.abc import Iterable, Mapping, Sequence

__all__ = ["interfaces", "moved"]

_SIOCGIFADDR, _SIOCGIFNETMASK = 0x8915, 0x891B
"""ioctl_list(2); each fills a `struct ifreq` with a sockaddr_in at byte 16."""


def interfaces() -> list[ipaddress.IPv4Interface]:
    """The first address of each interface that has one."""
    found: list[ipaddress.IPv4Interface] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            try:
                address, mask = (_ask(probe, what, name) for what in (_SIOCGIFADDR, _SIOCGIFNETMASK))
            except OSError:
                continue  # it has none, or is gone
            found.append(ipaddress.IPv4Interface(f"{address}/{mask}"))
    return found


def moved(
    known: Mapping[str, Sequence[str]], now: Iterable[ipaddress.IPv4Interface]
) -> dict[str, tuple[str, ...]]:
    """Own addresses by network, as they are now: a task that was started anew keeps networks, not addresses.

    Args:
        known: name of a network -> addresses that an earlier task of this service had on it.
    """
    present = list(now)
    found: dict[str, tuple[str, ...]] = {}
    for network, addresses in known.items():
        here = [_at(ipaddress.ip_address(address), present) for address in addresses]
        own = tuple(dict.fromkeys(address for address in here if address))
        if own:
            found[network] = own
    return found


def _at(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, present: Sequence[ipaddress.IPv4Interface]
) -> str:
    if address.is_loopback or any(address == each.ip for each in present):
        return str(address)
    return next((str(each.ip) for each in present if address in each.network), "")


def _ask(probe: socket.socket, request: int, name: str) -> str:
    answer = fcntl.ioctl(probe.fileno(), request, struct.pack("256s", name.encode()[:15]))
    return socket.inet_ntoa(answer[20:24])
