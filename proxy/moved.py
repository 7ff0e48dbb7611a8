"""Where callees went while no control plane tells: by the name that the engine gives to a sidecar's tasks.

A callee whose task was replaced has another address. While the control plane is away and connections to a
service fail, the engine is asked for `tasks.STACK_SERVICE-sidecar`; whom that leads to proves in the
handshake that it is that service, so nobody can take its place by a name.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from meshpy.model.endpoint import Cluster, Endpoint, Transport
from meshpy.model.names import ServiceName
from proxy.net.pool import Upstream

__all__ = ["Moved", "addresses_of"]

_log = logging.getLogger("meshpy.proxy")

_LOOK_UP_S: Final = 2.0
_TOLD_TICKS: Final = 5
"""After the control plane is back its snapshot comes first, and only then what was found is forgotten."""


async def addresses_of(name: str) -> Sequence[str]:
    """What a name leads to; nothing when it is not known."""
    try:
        async with asyncio.timeout(_LOOK_UP_S):
            loop = asyncio.get_running_loop()
            found = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError):
        return ()
    return sorted({str(info[4][0]) for info in found})


class Moved:
    """Args:
    look_up: the addresses behind a name.
    """

    def __init__(self, look_up: Callable[[str], Awaitable[Sequence[str]]] = addresses_of) -> None:
        self._look_up = look_up
        self._failures: dict[str, int] = {}
        self._taken: set[str] = set()
        self._ticks = 0

    async def look(self, live: Mapping[str, Upstream], *, is_alone: bool) -> None:
        """Once a second: look for those to whom connections failed since the last time.

        Args:
            is_alone: no control plane tells who is where.
        """
        if not is_alone:
            self._failures.clear()
            self._ticks += 1
            if self._taken and self._ticks >= _TOLD_TICKS:
                self._forget(live)
            return
        self._ticks = 0
        for name, upstream in live.items():
            if upstream.cluster.transport is Transport.MTLS:
                failures = upstream.stats.connect_failures
                if failures > self._failures.setdefault(name, failures):
                    self._failures[name] = failures
                    await self._find(upstream)

    async def _find(self, upstream: Upstream) -> None:
        cluster = upstream.cluster
        found: list[Endpoint] = []
        for workload in dict.fromkeys(each.workload for each in cluster.endpoints):
            if workload is not None:
                addresses = await self._look_up(f"tasks.{workload.swarm_name}-sidecar")
                found += _at(cluster, workload, addresses)
        if found and tuple(found) != tuple(host.endpoint for host in upstream.hosts):
            where = ", ".join(each.address for each in found)
            _log.warning("%s does not answer; the engine knows it at %s", cluster.name, where)
            upstream.set_endpoints(found)
            self._taken.add(cluster.name)

    def _forget(self, live: Mapping[str, Upstream]) -> None:
        for name in self._taken & live.keys():
            live[name].set_endpoints(live[name].cluster.endpoints)
        self._taken.clear()


def _at(cluster: Cluster, workload: ServiceName, addresses: Sequence[str]) -> list[Endpoint]:
    """Endpoints of a service at these addresses: those that are known stay what they are."""
    known = {each.address: each for each in cluster.endpoints if each.workload == workload}
    port = next(iter(known.values())).port
    return [known.get(address) or Endpoint(address, port, workload) for address in addresses]
