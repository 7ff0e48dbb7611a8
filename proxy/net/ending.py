"""How tunnels end: in one direction alone, or so that nobody takes it for the end of what was sent."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Final

from proxy.net.secured import Secured
from proxy.net.tls import ALPN_TUNNEL

__all__ = ["allow_half_close", "reset"]

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


def allow_half_close(transport: asyncio.BaseTransport, *, is_agreed: bool = False) -> None:
    """Let each direction end by itself, where both ends of a TLS connection have agreed on that.

    Args:
        is_agreed: in another way than by ALPN.
    """
    secured: object = transport  # no transport by its class
    if isinstance(secured, Secured):
        tls = transport.get_extra_info("ssl_object")
        secured.is_half_closable = is_agreed or tls.selected_alpn_protocol() == ALPN_TUNNEL


def reset(transport: asyncio.Transport) -> None:
    """End at once by a reset: where nothing else tells, an end would look like the end of what was sent."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()
