"""A connection to the control plane: to any of the replicas behind its name.

The system's resolver sorts addresses by their likeness to our own (RFC 6724 §6, rule 9), so that all sidecars
of a subnet would ask the same replica; and one that is gone would be asked first for ever.
"""

from __future__ import annotations

import asyncio
import random
import socket
import ssl

__all__ = ["Link", "dial"]

Link = tuple[asyncio.StreamReader, asyncio.StreamWriter]

_ADDRESS_S = 1.0
"""For one address to take the connection, while there are others."""


async def dial(host: str, port: int, tls: ssl.SSLContext | None, server_name: str = "") -> Link:
    """Connect to the addresses of a name, in random order, until one answers.

    Args:
        server_name: which TLS says; the host where it is empty.

    Raises:
        OSError, TimeoutError: the name is not known, or nobody answers there.
    """
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    random.shuffle(found)
    for number, (family, kind, protocol, _, address) in enumerate(found, 1):
        is_last = number == len(found)
        connection = socket.socket(family, kind, protocol)
        try:
            connection.setblocking(False)
            async with asyncio.timeout(None if is_last else _ADDRESS_S):
                await loop.sock_connect(connection, address)
            name = server_name or host if tls is not None else None
            return await asyncio.open_connection(sock=connection, ssl=tls, server_hostname=name)
        except (OSError, TimeoutError):
            connection.close()
            if is_last:
                raise
        except BaseException:
            connection.close()
            raise
    raise OSError(f"{host}: has no address")
