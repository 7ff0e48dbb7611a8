"""What a connection begins with, read before it is anybody's: its PROXY header, the server name of its hello.

Looked at in the kernel's buffer (MSG_PEEK), so that TLS can be begun by the loop afterwards, with the context
that the name asks for. SO_RCVLOWAT has the kernel wake us for more bytes only, not for those already seen.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import cast

from proxy.http.client_hello import ClientHello, HelloReader, NoHello
from proxy.http.proxy_protocol import HeaderReader, NoHeader, ProxyHeader

__all__ = ["OpeningRefusedError", "peek_hello", "take_proxy_header"]

_MOST_BYTES = 20 * 1024
"""More than a ClientHello or a PROXY header may have, with the heads of its records."""


class OpeningRefusedError(ConnectionError):
    """The connection begins with what is not taken here.

    Args:
        reason: a short code, for logs and metrics.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


async def peek_hello(sock: socket.socket) -> ClientHello:
    """The ClientHello, left where it is.

    Raises:
        OpeningRefusedError: something else comes, or too little.
    """
    found, _ = await _peek(sock, HelloReader().feed)
    if isinstance(found, NoHello):
        raise OpeningRefusedError(f"client-hello-{found.reason}")
    return cast("ClientHello", found)


async def take_proxy_header(sock: socket.socket) -> ProxyHeader:
    """The PROXY header, taken off the connection.

    Raises:
        OpeningRefusedError: there is none.
    """
    found, seen = await _peek(sock, HeaderReader().feed)
    if isinstance(found, NoHeader):
        raise OpeningRefusedError(f"proxy-protocol-{found.reason}")
    header = cast("ProxyHeader", found)
    sock.recv(seen - len(header.rest))
    return header


async def _peek(sock: socket.socket, feed: Callable[[bytes], object]) -> tuple[object, int]:
    """The first outcome of `feed`, which is given what is new each time, and how much was seen for it."""
    seen = 0
    try:
        while True:
            try:
                data = sock.recv(_MOST_BYTES, socket.MSG_PEEK)
            except (BlockingIOError, InterruptedError):
                data = None
            if data is not None:
                if len(data) <= seen or len(data) == _MOST_BYTES:
                    raise OpeningRefusedError("ended" if len(data) <= seen else "too-long")
                outcome = feed(data[seen:])
                seen = len(data)
                if outcome is not None:
                    return outcome, seen
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, seen + 1)
            await _readable(sock)
    finally:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(sock.fileno(), wake)
    try:
        await ready
    finally:
        loop.remove_reader(sock.fileno())
