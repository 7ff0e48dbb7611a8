"""An edge port whose connections begin with a PROXY header: read it, then be what the port is.

Only where the stack declares it, and then always: a port that believed headers from some and did without
them from others would let everybody choose an address.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from proxy.http.proxy_protocol import HeaderReader, NoHeader, ProxyHeader
from proxy.net.listener import Accepted
from proxy.sides import Shared
from proxy.telemetry import Telemetry
from proxy.waiting import Waiting

__all__ = ["ProxiedEdge"]

_log = logging.getLogger("meshpy.proxy")

HEADER_TIMEOUT_S = 10.0


class ProxiedEdge(Waiting):
    """Args:
    become: makes the protocol that the connection has once its header is read.
    """

    def __init__(self, shared: Shared, telemetry: Telemetry, become: Callable[[], Accepted]) -> None:
        super().__init__()
        self._shared = shared
        self._telemetry = telemetry
        self._become = become
        self._reader = HeaderReader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.wait(transport, self._shared.wheel, HEADER_TIMEOUT_S, lambda: self._refuse("timeout"))

    def data_received(self, data: bytes) -> None:
        outcome = self._reader.feed(data)
        if isinstance(outcome, NoHeader):
            self._refuse(outcome.reason)
        elif outcome is not None:
            self._go_on(outcome)

    def _go_on(self, header: ProxyHeader) -> None:
        self.settle()
        transport = self._transport
        if header.source:
            self._shared.claimed[transport] = header.source
        self.hand_over(transport, self._become(), header.rest)

    def _refuse(self, reason: str) -> None:
        self.settle()
        self._telemetry.refused(f"proxy-protocol-{reason}")
        peer = self._shared.peer_of(self._transport)
        _log.warning("refused %s: no PROXY header (%s)", peer, reason)
        self._transport.abort()
