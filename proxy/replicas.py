"""Which replica of the control plane: any of those behind its name.

The system's resolver sorts addresses by their likeness to our own (RFC 6724 §6, rule 9), so that all sidecars
of a subnet would ask the same replica; and one that is gone would be asked first for ever.
"""

from __future__ import annotations

import random
import socket

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

__all__ = ["AnyReplica", "to_any_replica"]


class AnyReplica(AbstractResolver):
    """The addresses of a name in random order; the next ones are tried where the first does not answer."""

    def __init__(self, resolver: AbstractResolver | None = None) -> None:
        self._resolver = resolver if resolver is not None else aiohttp.ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = list(await self._resolver.resolve(host, port, family))
        random.shuffle(found)
        return found

    async def close(self) -> None:
        await self._resolver.close()


def to_any_replica() -> aiohttp.TCPConnector:
    """For a session that speaks to the control plane."""
    return aiohttp.TCPConnector(resolver=AnyReplica(), use_dns_cache=False)
