"""Listening sockets: an accept loop that pauses instead of failing.

The loop's own server cannot pause, and at the limit of file descriptors libuv accepts and drops. Here the
four errors of exhausted capacity (EMFILE, ENFILE, ENOBUFS, ENOMEM) and the cap on connections stop accepting;
callers wait in the kernel's backlog until a connection ends or a second has passed.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import NamedTuple, cast

from proxy.net.recording import Recording
from proxy.net.secured import Secured
from proxy.net.timers import Wheel

__all__ = ["Accepted", "Capacity", "Listener", "Opening", "Ticket", "bind"]

_log = logging.getLogger("meshpy.proxy")

_BACKLOG = 1024
_BATCH = 64
_PAUSE_S = 0.5
_HANDSHAKE_TIMEOUT_S = 10.0
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Accepted(asyncio.Protocol):
    """An accepted connection; whoever is its protocol when it is lost releases the ticket."""

    ticket: Ticket | None = None

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the loop's signature
        """Lost before anybody went on with it."""
        if self.ticket is not None:
            self.ticket.release()

    def hand_over(self, transport: asyncio.BaseTransport, successor: Accepted, received: bytes = b"") -> None:
        """Have another protocol go on with the connection, its place and what was read of it.

        The successor may itself hand over or end the connection in `connection_made`.
        """
        successor.ticket = self.ticket
        transport.set_protocol(successor)
        successor.connection_made(transport)
        if received and not transport.is_closing():
            cast("asyncio.Protocol", transport.get_protocol()).data_received(received)


ProtocolFactory = Callable[[], Accepted]


class Opening(NamedTuple):
    """How one connection goes on once its first bytes were seen: with which TLS, to whom."""

    tls: ssl.SSLContext | None
    factory: ProtocolFactory


class Ticket:
    """The place that one accepted connection takes."""

    __slots__ = ("_capacity",)

    def __init__(self, capacity: Capacity) -> None:
        self._capacity: Capacity | None = capacity

    def release(self) -> None:
        """Give the place back; only the first call counts."""
        capacity, self._capacity = self._capacity, None
        if capacity is not None:
            capacity.release()


class Capacity:
    """How many accepted connections there may be.

    Less than half of the descriptors, each needs a second one.

    Args:
        whole: what this is a part of: a listener's share of the process.

    Attributes:
        accepted: how many there ever were.
        on_full: called when somebody waits for a place: connections that ask nothing may be ended.
    """

    __slots__ = ("_is_closed", "_listeners", "_whole", "accepted", "limit", "on_full", "open")

    def __init__(self, limit: int = 0, whole: Capacity | None = None) -> None:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        most = max(8, (soft - 32) * 2 // 5)
        self.limit = min(limit, most) if limit else most
        self.open = self.accepted = 0
        self.on_full: Callable[[], None] | None = None
        self._whole = whole
        self._is_closed = False
        self._listeners: set[Listener] = set()

    @property
    def is_full(self) -> bool:
        return self._is_closed or self.open >= self.limit or (self._whole is not None and self._whole.is_full)

    def set_closed(self, *, is_closed: bool) -> None:
        """Accept nothing at all for now, or as usual again."""
        self._is_closed = is_closed
        if not is_closed:
            self._resume()

    def take(self) -> None:
        """A connection was accepted."""
        self.open += 1
        self.accepted += 1
        if self._whole is not None:
            self._whole.take()

    def wait(self, listener: Listener) -> None:
        """Have the listener resumed when a connection ends."""
        self._listeners.add(listener)
        if self.on_full is not None:
            self.on_full()
        if self._whole is not None:
            self._whole.wait(listener)

    def release(self) -> None:
        """A connection has ended."""
        self.open -= 1
        if self._whole is not None:
            self._whole.release()
        self._resume()

    def _resume(self) -> None:
        if self._listeners:
            waiting, self._listeners = self._listeners, set()
            for listener in waiting:
                listener.resume()


def bind(address: str, port: int, *, is_shared: bool = False) -> socket.socket:
    """A listening socket.

    Args:
        is_shared: several workers bind the same address (SO_REUSEPORT).

    Raises:
        OSError: the address cannot be bound.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((address, port))
        sock.listen(_BACKLOG)
    except OSError:
        sock.close()
        raise
    return sock


class Listener:
    """One listening socket; what it accepts goes to `factory`, which may be replaced at any time.

    Args:
        tls: asked for each connection, so that a renewed certificate serves the next one; None is plaintext.
        opening: asked first, with the raw connection; None from it is `factory` in plaintext.
        on_refused: told of a handshake that failed: the peer's address and the reason.
    """

    def __init__(
        self,
        sock: socket.socket,
        factory: ProtocolFactory,
        *,
        capacity: Capacity,
        wheel: Wheel,
        tls: Callable[[], ssl.SSLContext] | None = None,
        opening: Callable[[socket.socket], Awaitable[Opening | None]] | None = None,
        on_refused: Callable[[str, str], None] | None = None,
    ) -> None:
        self.factory = factory
        self._opening = opening
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._capacity = capacity
        self._wheel = wheel
        self._tls = tls
        self._on_refused = on_refused
        self.recording: Recording | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_accepting = False
        self._is_closed = False

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens; tells the port when 0 was asked for."""
        name = self._sock.getsockname()
        return str(name[0]), int(name[1])

    def resume(self) -> None:
        """Accept (again)."""
        if not self._is_accepting and not self._is_closed:
            self._is_accepting = True
            self._loop.add_reader(self._sock.fileno(), self._accept)

    def _pause(self) -> None:
        if self._is_accepting:
            self._is_accepting = False
            self._loop.remove_reader(self._sock.fileno())
        self._capacity.wait(self)
        self._wheel.after(_PAUSE_S, self.resume)

    def _accept(self) -> None:
        for _ in range(_BATCH):
            if self._capacity.is_full:
                self._pause()
                return
            try:
                connection, peer = self._sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    _log.warning("accepting pauses on %s:%d: %s", *self.address, error.strerror)
                    self._pause()
                return
            connection.setblocking(False)
            self._capacity.take()
            task = self._loop.create_task(self._serve(connection, str(peer[0])))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _open(self, connection: socket.socket) -> Opening:
        tls, opened = self._tls, None
        if self._opening is not None:
            try:
                async with asyncio.timeout(_HANDSHAKE_TIMEOUT_S):
                    opened = await self._opening(connection)
            except BaseException:
                connection.close()
                raise
        return opened or Opening(None if tls is None else tls(), self.factory)

    async def _serve(self, connection: socket.socket, peer: str) -> None:
        ticket = Ticket(self._capacity)

        def factory() -> asyncio.Protocol:
            protocol = opened.factory()
            protocol.ticket = ticket
            recording = self.recording
            return protocol if recording is None or not recording.is_on else recording.wrapped(protocol)

        def refuse(error: Exception) -> None:
            ticket.release()
            if self._on_refused is not None:
                self._on_refused(peer, str(error) or type(error).__name__)

        try:
            opened = await self._open(connection)
            if opened.tls is None:
                await self._loop.connect_accepted_socket(factory, connection)
            else:
                secured = Secured(self._loop, opened.tls, factory, on_failed=refuse, is_server=True)
                secured.limit = self._wheel.after(_HANDSHAKE_TIMEOUT_S, secured.expire)
                try:
                    await self._loop.connect_accepted_socket(secured.as_protocol, connection)
                except OSError as error:
                    secured.fail(error)
        except (OSError, TimeoutError) as error:
            refuse(error)

    def close(self) -> None:
        """Accept no more; connections that were accepted live on, those that the kernel holds for us too."""
        if not self._is_closed:
            self._is_closed = True
            if self._is_accepting:
                self._accept()
            if self._is_accepting:
                self._loop.remove_reader(self._sock.fileno())
            self._sock.close()
