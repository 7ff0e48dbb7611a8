"""Consistent hashing: a ring of points, or a Maglev table. Which host a key belongs to, and to which it goes
when that host may not be used.

Neither is rebuilt when a host turns bad: a look-up passes over it, so that its keys spread over the others,
no other key moves, and they come back with it. Tables are built anew only when hosts come or go.

Source: Envoy's ring hash and Maglev; M. Eisenbud et al., Maglev (NSDI 2016) §3.4. The hash is BLAKE2b cut to
64 bits, which is as even as xxHash, is in C, and cannot be steered by who chooses the keys.
"""

from __future__ import annotations

import struct
from bisect import bisect_left
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Generic, Protocol, TypeVar

__all__ = ["Maglev", "Named", "Ring", "hash64"]

_POINTS = struct.Struct(">8Q")


class Named(Protocol):
    """A host as a table knows it."""

    @property
    def name(self) -> str: ...


H = TypeVar("H", bound=Named)


def hash64(data: bytes) -> int:
    """64 evenly spread bits."""
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")


class Ring(Generic[H]):
    """Ketama's ring: each host owns as many points, the next point after a key is its host.

    Args:
        minimum_size: points of the ring, at least; every host has as many, a power of two, so that a host
            that comes or goes seldom changes what the others have.
    """

    __slots__ = ("_owners", "_points")

    def __init__(self, hosts: Sequence[H], minimum_size: int) -> None:
        each = 1 << (-(-minimum_size // len(hosts)) - 1).bit_length() if hosts else 0
        placed: list[tuple[int, int]] = []
        for number, host in enumerate(hosts):
            for turn in range(-(-each // 8)):
                digest = blake2b(f"{host.name}_{turn}".encode(), digest_size=64).digest()
                placed += [(point, number) for point in _POINTS.unpack(digest)[: each - turn * 8]]
        placed.sort()
        self._points = [point for point, _ in placed]
        self._owners = [hosts[number] for _, number in placed]

    def pick(self, key: int, is_usable: Callable[[H], bool]) -> H | None:
        """The usable host that follows the key; None when there is none."""
        owners = self._owners
        at = bisect_left(self._points, key)
        for step in range(len(owners)):
            host = owners[(at + step) % len(owners)]
            if is_usable(host):
                return host
        return None


class Maglev(Generic[H]):
    """A table in which each host has an equal share of slots; built in steps, 65,537 slots take 0.1 s.

    Args:
        size: slots, a prime above the number of hosts.
    """

    __slots__ = ("_filled", "_hosts", "_offsets", "_skips", "_slots", "_turn", "size")

    def __init__(self, hosts: Sequence[H], size: int) -> None:
        self.size = size
        self._hosts = hosts
        self._slots: list[H | None] = [None] * size
        self._filled = 0
        self._turn = 0
        self._offsets: list[int] = []
        self._skips: list[int] = []
        for host in hosts:
            digest = blake2b(host.name.encode(), digest_size=16).digest()
            self._offsets.append(int.from_bytes(digest[:8], "big") % size)
            self._skips.append(int.from_bytes(digest[8:], "big") % (size - 1) + 1)

    @property
    def is_built(self) -> bool:
        return self._filled >= self.size or not self._hosts

    def build(self, slots: int) -> bool:
        """Fill up to so many slots more; True when the table is complete."""
        table, hosts, offsets, skips, size = (
            self._slots,
            self._hosts,
            self._offsets,
            self._skips,
            self.size,
        )
        count, turn = len(hosts), self._turn
        for _ in range(min(slots, size - self._filled) if count else 0):
            at, skip = offsets[turn], skips[turn]
            while table[at] is not None:
                at += skip
                if at >= size:
                    at -= size
            table[at] = hosts[turn]
            offsets[turn] = at
            self._filled += 1
            turn = turn + 1 if turn + 1 < count else 0
        self._turn = turn
        return self.is_built

    def pick(self, key: int, is_usable: Callable[[H], bool]) -> H | None:
        """The usable host of the key's slot, or of a slot that follows by the key's own step."""
        at = key % self.size
        host = self._slots[at]
        if host is not None and is_usable(host):
            return host
        step = (key >> 32) % (self.size - 1) + 1
        for _ in range(self.size):
            at = (at + step) % self.size
            host = self._slots[at]
            if host is not None and is_usable(host):
                return host
        return None
