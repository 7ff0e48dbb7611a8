"""Routing of opaque connections: by the server name of their ClientHello, and by where they were going."""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterator

from meshpy.engine.match import MatchError
from meshpy.engine.route import WeightedChoice
from meshpy.model.route import TcpRoute
from meshpy.model.snapshot import OutboundListener

__all__ = ["OpaqueRoute", "OpaqueRouter"]


class OpaqueRoute:
    """One route, ready to choose by.

    Raises:
        MatchError: no destination has a weight, or a subnet is none.
    """

    __slots__ = ("_nets", "choice", "route")

    def __init__(self, route: TcpRoute) -> None:
        self.route = route
        self.choice = WeightedChoice(route.destinations)
        try:
            self._nets = tuple(ipaddress.ip_network(net) for net in route.subnets)
        except ValueError as error:
            raise MatchError(str(error)) from None

    def is_for(self, address: str) -> bool:
        """Whether a connection to that address is meant."""
        if not self._nets:
            return True
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(found in net for net in self._nets)


class OpaqueRouter:
    """The routes of one opaque listener: an exact server name, then the longest `*.suffix`, then `*`, then
    those that name none; among equals the first in order.

    Args:
        needs_server_name: the ClientHello has to be read before a route is known.
    """

    __slots__ = ("_anonymous", "_by_name", "needs_server_name")

    def __init__(self, listener: OutboundListener) -> None:
        self._by_name: dict[str, list[OpaqueRoute]] = defaultdict(list)
        self._anonymous: list[OpaqueRoute] = []
        for route in listener.tcp_routes():
            ready = OpaqueRoute(route)
            for name in route.sni_hosts:
                self._by_name[name.lower()].append(ready)
            if not route.sni_hosts:
                self._anonymous.append(ready)
        self.needs_server_name = bool(self._by_name)

    def route(self, server_name: str, address: str) -> OpaqueRoute | None:
        """The route of a connection; None: nothing is meant, close it.

        Args:
            server_name: of the ClientHello; empty when there is none.
            address: that the connection was made to.
        """
        for candidates in self._candidates(server_name.lower().rstrip(".")):
            for ready in candidates:
                if ready.is_for(address):
                    return ready
        return None

    def _candidates(self, name: str) -> Iterator[list[OpaqueRoute]]:
        known = self._by_name
        if name:
            if name in known:
                yield known[name]
            rest = name
            while "." in rest:
                rest = rest.partition(".")[2]
                if (found := known.get(f"*.{rest}")) is not None:
                    yield found
            if "*" in known:
                yield known["*"]
        yield self._anonymous
