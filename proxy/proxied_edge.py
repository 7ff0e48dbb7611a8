"""An edge port whose connections begin with a PROXY header: read it, then be what the port is.

Only where the stack declares it, and then always: a port that believed headers from some and did without
them from others would let everybody choose an address.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import cast

from proxy.http.proxy_protocol import HeaderReader, NoHeader, ProxyHeader
from proxy.net.listener import Accepted
from proxy.net.timers import Timer
from proxy.sides import Shared
from proxy.telemetry import Telemetry

__all__ = ["ProxiedEdge"]

_log = logging.getLogger("meshpy.proxy")

HEADER_TIMEOUT_S = 10.0


class ProxiedEdge(Accepted):
    """Args:
    become: makes the protocol that the connection has once its header is read.
    """

    def __init__(self, shared: Shared, telemetry: Telemetry, become: Callable[[], Accepted]) -> None:
        self._shared = shared
        self._telemetry = telemetry
        self._become = become
        self._reader = HeaderReader()
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._timer: Timer | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._timer = self._shared.wheel.after(HEADER_TIMEOUT_S, lambda: self._refuse("timeout"))

    def data_received(self, data: bytes) -> None:
        outcome = self._reader.feed(data)
        if isinstance(outcome, NoHeader):
            self._refuse(outcome.reason)
        elif outcome is not None:
            self._go_on(outcome)

    def _go_on(self, header: ProxyHeader) -> None:
        self._cancel()
        transport = self._transport
        if header.source:
            self._shared.claimed[transport] = header.source
        self.hand_over(transport, self._become(), header.rest)

    def _refuse(self, reason: str) -> None:
        self._cancel()
        self._telemetry.refused(f"proxy-protocol-{reason}")
        peer = self._shared.peer_of(self._transport)
        _log.warning("refused %s: no PROXY header (%s)", peer, reason)
        self._transport.abort()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the loop's signature
        self._cancel()
        if self.ticket is not None:
            self.ticket.release()
