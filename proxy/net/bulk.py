"""Large writes: to the kernel at once, and as they lie in memory.

Hot file: the loop gathers the writes of one turn and makes them at its end. When 64 connections have each
sent 64 KiB, what was read first has left the second cache by then, and to join it with its head is one more
copy: 20 µs of a request with so much content.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Final

from uvloop.loop import TCPTransport  # type: ignore[attr-defined] # it is there, but not in the stubs

__all__ = ["LARGE_BYTES", "write_parts"]

LARGE_BYTES: Final = 16 * 1024
"""From here on a copy costs more than the second look-up of a buffer."""
_PLAIN: Final[type] = TCPTransport
_MOST_PARTS: Final = 64
"""Of one call; the kernel takes 1,024."""


def write_parts(transport: asyncio.Transport, parts: Sequence[bytes | memoryview]) -> None:
    """Write all parts, in one call of the kernel where it takes them.

    What lies between us and the socket (TLS, a recording) gets them joined. Only the loop's own transport of
    a plain connection is passed by, and only while nothing waits in it and it has not begun to close: after
    that its descriptor may be another's.
    """
    size = 0
    for part in parts:
        size += len(part)
    if (
        size < LARGE_BYTES
        or len(parts) > _MOST_PARTS
        or type(transport) is not _PLAIN
        or transport.get_write_buffer_size()
        or transport.is_closing()
    ):
        transport.write(parts[0] if len(parts) == 1 else b"".join(parts))
        return
    try:
        sent = os.writev(transport.get_extra_info("socket").fileno(), parts)
    except OSError:
        sent = 0  # full, or broken: the transport meets it again, and knows what to do
    if sent < size:
        transport.writelines(_rest(parts, sent))


def _rest(parts: Sequence[bytes | memoryview], sent: int) -> list[memoryview]:
    rest = []
    for part in parts:
        if sent < len(part):
            rest.append(memoryview(part)[sent:])
            sent = 0
        else:
            sent -= len(part)
    return rest
