"""Which sockets listen.

Worked out from a snapshot, opened before those that are no longer wanted are closed.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from meshpy.model.snapshot import EDGE, MESH_PORT, Snapshot
from proxy.config import ConfigError
from proxy.doors import Doors
from proxy.net.addresses import AddressError, Addresses
from proxy.net.listener import Accepted, Capacity, Listener, bind
from proxy.net.timers import Wheel
from proxy.net.tls import Credentials

__all__ = ["Listeners", "Socket", "pods_of", "wanted_sockets"]


@dataclass(frozen=True, slots=True)
class Socket:
    """A socket that a snapshot wants.

    Args:
        bind: for `app`: the bind of its listener, as the snapshot writes it.
    """

    address: str
    port: int
    kind: str
    bind: str = ""


def pods_of(
    sockets: Iterable[Socket], networks: Iterable[ipaddress.IPv4Network]
) -> tuple[ipaddress.IPv4Network, ...]:
    """Those of the networks on the link on which apps reach us, where a listener names a network.

    A listener that is bound to an address, as on a single machine, says nothing of its neighbours.
    """
    doors = {
        ipaddress.ip_address(each.address) for each in sockets if each.bind and each.bind != each.address
    }
    return tuple(network for network in networks if any(door in network for door in doors))


def wanted_sockets(snapshot: Snapshot, addresses: Addresses, mesh: tuple[str, int]) -> list[Socket]:
    """Every socket of a snapshot.

    Args:
        mesh: where other sidecars are accepted: an IP address or the name of a network, and the port.

    Raises:
        ConfigError: a network on which this task has no address; two listeners for one address.
    """
    try:
        sockets = [
            Socket(addresses.resolve(each.bind), each.port, "app", each.bind) for each in snapshot.outbound
        ]
        if snapshot.inbound or snapshot.gateway:
            sockets.append(Socket(addresses.resolve(mesh[0]), mesh[1], "mesh"))
        taken = {(each.address, each.port) for each in sockets}
        open_ports = [each.port for each in snapshot.inbound if each.ingress]
        open_ports += [each.port for each in snapshot.servers]
        if open_ports:
            edge = addresses.edge()
            sockets += [
                Socket(address, port, EDGE)
                for port in open_ports
                for address in edge
                if (address, port) not in taken
            ]
    except AddressError as error:
        raise ConfigError(str(error)) from error
    seen: set[tuple[str, int]] = set()
    for each in sockets:
        if (each.address, each.port) in seen:
            raise ConfigError(f"two listeners of the snapshot mean {each.address}:{each.port}")
        seen.add((each.address, each.port))
    return sockets


@dataclass(slots=True)
class Listeners:
    """The open sockets.

    Args:
        is_shared: several workers bind the same addresses.
        per_listener: connections that one socket may have accepted; 0 is as many as the process.
        credentials: asked at each handshake.
    """

    doors: Doors
    capacity: Capacity
    wheel: Wheel
    credentials: Callable[[], Credentials]
    is_shared: bool = False
    per_listener: int = 0
    _open: dict[Socket, Listener] = field(default_factory=dict)

    def open(self, wanted: Iterable[Socket]) -> dict[Socket, Listener]:
        """Bind what is not open yet, accepting nothing; all or none.

        Raises:
            ConfigError: an address cannot be bound.
        """
        opened: dict[Socket, Listener] = {}
        for each in wanted:
            if each in self._open:
                continue
            try:
                opened[each] = self._listen(each)
            except OSError as error:
                for listener in opened.values():
                    listener.close()
                raise ConfigError(f"cannot listen on {each.address}:{each.port}: {error.strerror}") from error
        return opened

    def _listen(self, wanted: Socket) -> Listener:
        sock = bind(wanted.address, wanted.port, is_shared=self.is_shared)
        doors = self.doors
        capacity = Capacity(self.per_listener, self.capacity) if self.per_listener else self.capacity
        if wanted.kind == "mesh":
            return Listener(
                sock,
                doors.for_mesh(),
                capacity=capacity,
                wheel=self.wheel,
                tls=lambda: self.credentials().server,
                on_refused=self._on_refused,
            )
        factory: Callable[[], Accepted]
        if wanted.kind == EDGE:
            factory, opening = doors.for_edge(wanted.port), doors.opening_at(wanted.port)
            refused = doors.refused_at(wanted.port)
        else:
            factory, opening, refused = doors.for_app((wanted.bind, wanted.port)), None, None
        listener = Listener(
            sock, factory, capacity=capacity, wheel=self.wheel, opening=opening, on_refused=refused
        )
        listener.recording = doors.own.dialer.recording
        return listener

    def _on_refused(self, peer: str, reason: str) -> None:
        self.doors.inbound.telemetry.refused("tls-handshake")
        self.doors.on_refused(peer, reason)

    def commit(self, wanted: Iterable[Socket], opened: Mapping[Socket, Listener]) -> None:
        """Accept on the new sockets, then close those that are not wanted."""
        for each, listener in opened.items():
            self._open[each] = listener
            listener.resume()
        kept = set(wanted)
        for each in [socket for socket in self._open if socket not in kept]:
            self._open.pop(each).close()

    def close(self) -> None:
        """Accept no more."""
        for listener in self._open.values():
            listener.close()
        self._open.clear()

    def describe(self) -> list[str]:
        """`kind address:port` of each, for people."""
        return [
            f"{each.kind} {listener.address[0]}:{listener.address[1]}"
            for each, listener in self._open.items()
        ]


MESH_DEFAULT = ("0.0.0.0", MESH_PORT)
