"""A dialled connection as asyncio's reader and writer, for what is no hot path."""

from __future__ import annotations

import asyncio
from typing import cast

from meshpy.model.endpoint import Cluster, Endpoint
from proxy.net.dial import Dialed, Dialer
from proxy.net.ending import allow_half_close
from proxy.net.tls import ALPN_TUNNEL

__all__ = ["dial_streams"]

_CHUNK = 64 * 1024


class _DialedStream(asyncio.StreamReaderProtocol, Dialed):
    """A stream whose peer is judged before any byte is exchanged."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self.is_admitted(transport):
            self.made_on = transport
            allow_half_close(transport)
            super().connection_made(transport)


async def dial_streams(
    dialer: Dialer, cluster: Cluster, endpoint: Endpoint
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to one endpoint.

    Raises:
        DialError: as `Dialer.dial`.
    """
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(_CHUNK, loop)

    def made() -> _DialedStream:
        return _DialedStream(reader, loop=loop)

    protocol = await dialer.dial(cluster, endpoint, made, alpn=ALPN_TUNNEL)
    transport = cast("asyncio.WriteTransport", protocol.made_on)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
