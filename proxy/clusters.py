"""All live clusters of the process.

Made, changed and dropped with the snapshots; DNS ones resolved every second.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from meshpy.model.endpoint import Cluster, Endpoint
from proxy.moved import Moved
from proxy.net.connection import UpstreamConnection
from proxy.net.h2_connection import H2Connection
from proxy.net.outside import is_outside, local_networks
from proxy.net.pool import Surroundings, Upstream
from proxy.turns import Turns

__all__ = ["Clusters", "find_changed"]

_log = logging.getLogger("meshpy.proxy")

_RESOLVE_EVERY_S: Final = 1.0
_RESOLVE_TIMEOUT_S: Final = 5.0
_SWEEP_EVERY_S: Final = 5.0
_FIRST_ANSWER_S: Final = 1.0
_BUILD_TURNS: Final = 10_000


def find_changed(wanted: Mapping[str, Cluster], prepared: Mapping[str, Upstream]) -> list[str]:
    """The names whose cluster is another one than their upstream serves."""
    return [name for name, cluster in wanted.items() if prepared[name].cluster != cluster]


class Clusters:
    """Name → Upstream. A cluster that a snapshot drops ends when the requests on it do.

    `pods` are the networks on which apps reach us. No outside host is there: an address that a look-up of one
    gives there is our own or that of another replica, under the alias that stands for the host.
    """

    def __init__(self, own: Surroundings) -> None:
        self.own = own
        self.live: dict[str, Upstream] = {}
        self.pods: Sequence[ipaddress.IPv4Network] = ()
        self.is_alone = False
        """Whether there was a control plane, and none tells now who is where."""
        self.changed = asyncio.Event()
        """Set when others are live, and when a name was found: `has_app` may be another."""
        self._moved = Moved()
        self._looped: set[str] = set()

    async def prepare(self, wanted: Mapping[str, Cluster]) -> dict[str, Upstream]:
        """The upstreams for a snapshot, new ones made; nothing that is live is changed yet."""
        prepared: dict[str, Upstream] = {}
        turns = Turns()
        for name, cluster in wanted.items():
            upstream = self.live.get(name)
            if upstream is None:
                upstream = Upstream(cluster, self.own)
            prepared[name] = upstream
            await turns.rest()
        return prepared

    async def update(
        self,
        wanted: Mapping[str, Cluster],
        prepared: Mapping[str, Upstream],
        changed: Iterable[str],
        turns: Turns,
    ) -> None:
        """Give upstreams their new cluster, one by one; routes that lead to them follow.

        Args:
            changed: those names whose cluster differs from that of their upstream (`find_changed`).
        """
        for name in changed:
            prepared[name].update(wanted[name])
            await turns.rest()

    def commit(self, prepared: dict[str, Upstream]) -> list[Upstream]:
        """Make the prepared set the live one; returns those that are no longer wanted."""
        before, self.live = self.live, prepared
        self.changed.set()
        return [upstream for name, upstream in before.items() if name not in prepared]

    async def refresh(self, turns: Turns) -> None:
        """Where this sidecar and its endpoints are may have changed."""
        for upstream in list(self.live.values()):
            upstream.refresh()
            await turns.rest()

    def retire_connections(self) -> None:
        """Our certificate was renewed: idle connections end, busy ones after their exchange."""
        for upstream in self.live.values():
            upstream.retire_connections()

    @property
    def has_app(self) -> bool:
        """Whether the app was found behind every port of it; without any there is nothing to find."""
        own = (upstream for name, upstream in self.live.items() if name.startswith("inbound|"))
        return all(upstream.is_resolved for upstream in own)

    def cut(self, is_cut: Callable[[UpstreamConnection | H2Connection], bool]) -> None:
        """End connections whose peer may be spoken to no longer."""
        for upstream in self.live.values():
            upstream.cut(is_cut)

    async def resolve_new(self, prepared: Mapping[str, Upstream]) -> None:
        """Have hash tables built, and ask once for names without an answer yet, a second at most."""
        for _ in range(_BUILD_TURNS):
            if not any(upstream.is_building for upstream in prepared.values()):
                break
            await asyncio.sleep(0)
        new = [upstream for upstream in prepared.values() if not upstream.is_resolved]
        if new:
            asked = asyncio.gather(*(self._resolve(upstream) for upstream in new))
            try:
                async with asyncio.timeout(_FIRST_ANSWER_S):
                    await asked
            except TimeoutError:
                _log.warning("no address yet for %s", ", ".join(each.cluster.dns for each in new))

    async def run(self) -> None:
        """Resolve every second and sweep idle connections, until cancelled."""
        turn = 0
        while True:
            await asyncio.sleep(_RESOLVE_EVERY_S)
            turn += 1
            named = [upstream for upstream in self.live.values() if upstream.cluster.dns]
            await asyncio.gather(*(self._resolve(upstream) for upstream in named))
            await self._moved.look(self.live, is_alone=self.is_alone and bool(self.pods))
            if turn % int(_SWEEP_EVERY_S / _RESOLVE_EVERY_S) == 0:
                for upstream in self.live.values():
                    upstream.sweep()
            self.cut(_is_expired)

    async def _resolve(self, upstream: Upstream) -> None:
        """Take a name's addresses; no answer, or an empty one, changes nothing (THREATS §4 H 164)."""
        cluster = upstream.cluster
        try:
            async with asyncio.timeout(_RESOLVE_TIMEOUT_S):
                found = await asyncio.get_running_loop().getaddrinfo(
                    cluster.dns, cluster.dns_port, type=socket.SOCK_STREAM
                )
        except (OSError, TimeoutError):
            found = []
        addresses = sorted({str(info[4][0]) for info in found}, key=_order)
        if cluster.name.startswith("outbound|"):
            addresses = self._outside_pods(cluster, addresses)
        endpoints = tuple(Endpoint(address, cluster.dns_port) for address in addresses)
        if endpoints and endpoints != tuple(host.endpoint for host in upstream.hosts):
            upstream.set_endpoints(endpoints)
        if endpoints and not upstream.is_resolved:
            upstream.is_resolved = True
            self.changed.set()

    def _outside_pods(self, cluster: Cluster, addresses: list[str]) -> list[str]:
        """What is not ourselves, which we would dial until no descriptor is left; else what we were told."""
        host = cluster.dns
        kept = [each for each in addresses if not any(ipaddress.ip_address(each) in pod for pod in self.pods)]
        if not kept and cluster.endpoints:
            local = local_networks()
            kept = [each.address for each in cluster.endpoints if is_outside(each.address, local)]
        if addresses and not kept and host not in self._looped:
            self._looped.add(host)
            _log.error(
                "%s is looked up to %s on the app's own network, where its alias is, and the control plane "
                "knows no address outside for it: see its log, or use a ServiceEntry with addresses",
                host,
                ", ".join(addresses),
            )
        return kept


def _order(address: str) -> tuple[int, int]:
    """IPv4 first; a host may have addresses of both kinds, which do not compare."""
    parsed = ipaddress.ip_address(address)
    return parsed.version, int(parsed)


def _is_expired(connection: UpstreamConnection | H2Connection) -> bool:
    certificate = connection.certificate
    return certificate is not None and certificate.not_after <= time.time()
