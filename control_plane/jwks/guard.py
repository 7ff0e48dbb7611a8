"""Which addresses a URL of a policy may lead to: the world outside, and what the operator allowed.

Whoever may write policies must not reach the control plane's own networks by them (SSRF, GHSA-fgw5). Names
are resolved here, and only addresses that were judged are connected to: no name can change its mind between.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from control_plane.errors import StartRefused
from control_plane.jwks.errors import KeysError

__all__ = ["Guard", "GuardedResolver"]

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def _plain(address: Address) -> Address:
    """The IPv4 address that an IPv6 one stands for, where it stands for one."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    teredo = address.teredo
    return address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None) or address


@dataclass(frozen=True, slots=True)
class Guard:
    """Args:
    hosts: names whose addresses may be private, lower case.
    networks: addresses that may be asked although they are not global.
    option: the flag that names them, for errors.
    """

    hosts: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()
    option: str = "--jwks-allow"

    @classmethod
    def of(cls, words: Iterable[str], option: str = "--jwks-allow") -> Guard:
        """Read host names, addresses and CIDRs.

        Raises:
            StartRefused: a word is neither.
        """
        hosts: set[str] = set()
        networks: list[Network] = []
        for word in words:
            try:
                networks.append(ipaddress.ip_network(word, strict=False))
            except ValueError:
                if "/" in word or ":" in word or not word:
                    raise StartRefused(
                        f"{option} {word!r}: write a host name, an address or a CIDR"
                    ) from None
                hosts.add(word.lower().rstrip("."))
        return cls(frozenset(hosts), tuple(networks), option)

    def allows(self, host: str, address: str) -> bool:
        """Whether this address may be connected to for this host."""
        found = _plain(ipaddress.ip_address(address.partition("%")[0]))
        if self.is_trusted(host) or any(found in network for network in self.networks):
            return True
        return found.is_global and not found.is_multicast

    def is_trusted(self, host: str) -> bool:
        """Whether the operator named the host, which may then also be asked without TLS."""
        name = host.lower().rstrip(".")
        if name in self.hosts:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return any(_plain(address) in network for network in self.networks)


class GuardedResolver(AbstractResolver):
    """Resolves to addresses that the guard allows, or to none.

    Raises:
        KeysError: from `resolve`, when the name leads to nothing that may be asked.
    """

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._resolver = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        allowed = [each for each in found if self._guard.allows(host, each["host"])]
        if not allowed:
            raise KeysError(f"{host} leads to addresses that are not public; see {self._guard.option}")
        return allowed

    async def close(self) -> None:
        await self._resolver.close()
