"""Addresses of the hosts outside that apps call by name, looked up for sidecars that cannot do so themselves.

On a Swarm the name of such a host is an alias of the sidecar on its app's network, so that the engine's
resolver answers the sidecar's own look-up with the sidecar. The control plane is on no app's network: what
it finds travels with the snapshots. A name that is not answered keeps its last addresses.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from control_plane.discovery.view import Publish, View

__all__ = ["OutsideHosts", "addresses_of", "with_addresses"]

_log = logging.getLogger("meshpy.control_plane")

EVERY_S = 10.0
"""Resolvers cache for as long as records live; Envoy asks every 5 s, Istio every 60."""
AT_ONCE = 8
MOST = 64
"""Addresses of one host."""

LookUp = Callable[[str], Collection[str]]


def addresses_of(host: str) -> Collection[str]:
    """What the resolver says, in a thread of its own.

    Raises:
        OSError: it says nothing.
    """
    found = socket.getaddrinfo(host, None, family=socket.AF_INET, type=socket.SOCK_STREAM)
    return {str(each[4][0]) for each in found}


def with_addresses(view: View, known: Mapping[str, tuple[str, ...]]) -> View:
    """The view with what is known of each service's hosts."""
    services = dict(view.inventory.services)
    for name, service in services.items():
        hosts = {each.host.lower() for each in service.egress} & known.keys()
        if hosts and not service.exempt:
            services[name] = replace(service, outside={host: known[host] for host in sorted(hosts)})
    return replace(view, inventory=replace(view.inventory, services=services))


class OutsideHosts:
    """Stands between discovery and the registry.

    Args:
        publish: the registry's; called again when an address has changed.
    """

    def __init__(self, publish: Publish, look_up: LookUp = addresses_of) -> None:
        self._publish, self._look_up = publish, look_up
        self._view: View | None = None
        self._known: dict[str, tuple[str, ...]] = {}
        self._unknown: set[str] = set()
        self._has_new = asyncio.Event()

    def take(self, view: View) -> None:
        """A look of discovery: passed on with what is known; new hosts are looked up at once."""
        self._view = view
        hosts = self._hosts()
        self._known = {host: found for host, found in self._known.items() if host in hosts}
        self._unknown &= hosts
        if hosts - self._known.keys() - self._unknown:
            self._has_new.set()
        self._publish(with_addresses(view, self._known))

    def _hosts(self) -> set[str]:
        services = self._view.inventory.services.values() if self._view is not None else ()
        return {each.host.lower() for service in services if not service.exempt for each in service.egress}

    async def run(self) -> None:
        """Look up every EVERY_S, until cancelled."""
        with ThreadPoolExecutor(AT_ONCE, "outside") as threads:
            try:
                while True:
                    self._has_new.clear()
                    await self._round(threads)
                    try:
                        async with asyncio.timeout(EVERY_S):
                            await self._has_new.wait()
                    except TimeoutError:
                        continue
            finally:
                threads.shutdown(wait=False, cancel_futures=True)

    async def _round(self, threads: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        hosts = sorted(self._hosts())
        asked = [loop.run_in_executor(threads, self._look_up, host) for host in hosts]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        before = dict(self._known)
        for host, answer in zip(hosts, answers, strict=True):
            self._note(host, answer)
        if self._known != before and self._view is not None:
            self._publish(with_addresses(self._view, self._known))

    def _note(self, host: str, answer: Any) -> None:
        usable = () if isinstance(answer, BaseException) else _usable(answer)
        if usable:
            self._known[host] = usable
            self._unknown.discard(host)
        elif host not in self._unknown and host not in self._known:
            self._unknown.add(host)
            _log.warning("%s, which stacks call, cannot be looked up: %s", host, answer or "no address")


def _usable(found: Collection[str]) -> tuple[str, ...]:
    """Addresses that can be outside: a name must not lead a sidecar to itself or to a cloud's metadata."""
    parsed = sorted(map(ipaddress.IPv4Address, found))
    return tuple(
        str(each)
        for each in parsed
        if not (each.is_loopback or each.is_link_local or each.is_multicast or each.is_unspecified)
    )[:MOST]
