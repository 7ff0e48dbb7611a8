"""This task's own addresses: which of them a listener's `bind` means."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from pathlib import Path

from meshpy.errors import MeshpyError
from meshpy.model.snapshot import EDGE

__all__ = ["AddressError", "Addresses", "local_ipv4"]

_FIB = Path("/proc/net/fib_trie")


class AddressError(MeshpyError):
    """A listener names a network on which this task has no address."""


def local_ipv4(fib_trie: str) -> tuple[str, ...]:
    """Every own address that is not loopback, from the text of `/proc/net/fib_trie`.

    The kernel prints an address as `|-- A.B.C.D` and, below it, `/32 host LOCAL` when it is one of its own.
    """
    found: dict[str, None] = {}
    address = ""
    for line in fib_trie.splitlines():
        text = line.strip()
        if text.startswith("|--"):
            address = text[3:].strip()
        elif text.startswith("/32 host LOCAL") and not address.startswith("127."):
            found[address] = None
    return tuple(found)


class Addresses:
    """Names of networks → own addresses.

    Args:
        networks: full name of a network → this task's addresses on it, as enrolment or `--bind` gave them.
    """

    __slots__ = ("_networks",)

    def __init__(self, networks: Mapping[str, Sequence[str]]) -> None:
        self._networks = dict(networks)

    def with_more(self, networks: Mapping[str, Sequence[str]]) -> Addresses:
        """These and `networks`; what is known already wins, for it was written by hand."""
        return Addresses({**networks, **self._networks})

    def resolve(self, bind: str) -> str:
        """The address that `bind` (an IP literal or a network's name) stands for.

        Raises:
            AddressError: neither.
        """
        try:
            return str(ipaddress.ip_address(bind))
        except ValueError:
            pass
        own = self._networks.get(bind)
        if not own:
            known = ", ".join(sorted(self._networks)) or "none"
            raise AddressError(
                f"bind {bind!r}: no address of this task is known on that network (known: {known}); "
                f"write an IP address, or start with --bind {bind}=IP"
            )
        return own[0]

    def edge(self) -> tuple[str, ...]:
        """Own IPv4 addresses on no known network: where published ports and unmeshed callers arrive.

        `--bind edge=IP` names them instead.

        Raises:
            AddressError: the kernel's table cannot be read.
        """
        if EDGE in self._networks:
            return tuple(self._networks[EDGE])
        taken = {address for own in self._networks.values() for address in own}
        try:
            text = _FIB.read_text(encoding="ascii")
        except OSError as error:
            raise AddressError(f"{_FIB}: {error.strerror}; own addresses cannot be listed") from error
        return tuple(address for address in local_ipv4(text) if address not in taken)
