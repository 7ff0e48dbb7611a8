"""The plaintext side of a sidecar, recorded while somebody captures: what it reads from the app and writes.

Off, it costs one look at a flag for each new connection. On, connections that are made from then on are
wrapped: their bytes are copied into a bounded buffer, what has no room is counted.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any, cast

__all__ = ["RecordedBytes", "Recording"]

MAX_WAITING = 4 * 1024 * 1024
_PIECE = 64 * 1024
_SECRETS = re.compile(
    rb"(?im)^((?:proxy-)?authorization|cookie|set-cookie|x-api-key|x-auth-token)(:[ \t]*)([^\r\n]*)"
)
_QUERY = re.compile(rb"^([A-Z]{1,20} [^ ?\r\n]{0,8000}\?)([^ \r\n]*)")

RecordedBytes = tuple[int, float, tuple[str, int], tuple[str, int], bytes, str]
"""Connection, moment, from, to, bytes, who is at the other end of the mesh."""


class Recording:
    """Args, once begun: left: bytes that may still be recorded. is_redacted: secrets of heads become `x`."""

    __slots__ = ("_connections", "_waiting", "_waiting_bytes", "is_on", "is_redacted", "left", "lost_bytes")

    def __init__(self) -> None:
        self.is_on = self.is_redacted = False
        self.left = self.lost_bytes = self._connections = self._waiting_bytes = 0
        self._waiting: list[RecordedBytes] = []

    def begin(self, max_bytes: int, *, is_redacted: bool) -> None:
        """Record new connections from now on."""
        self.end()
        self.is_on, self.is_redacted, self.left = max_bytes > 0, is_redacted, max_bytes

    def end(self) -> None:
        """Record no more; connections that are wrapped go on unrecorded."""
        self.is_on = False
        self.left = self._waiting_bytes = 0
        self._waiting = []

    def take(self) -> list[RecordedBytes]:
        """What was recorded since the last call."""
        found, self._waiting, self._waiting_bytes = self._waiting, [], 0
        return found

    def wrapped(self, inner: asyncio.Protocol) -> asyncio.Protocol:
        """A protocol whose bytes are recorded."""
        self._connections += 1
        return cast("asyncio.Protocol", _Recorded(inner, self, self._connections))

    def add(self, number: int, source: Any, destination: Any, data: bytes, comment: str) -> None:
        """Bytes went one way."""
        if not self.is_on or not data:
            return
        if len(data) > self.left or self._waiting_bytes + len(data) > MAX_WAITING:
            self.lost_bytes += len(data)
            return
        self.left -= len(data)
        self._waiting_bytes += len(data)
        shown = _redacted(data) if self.is_redacted else data
        ends = (str(source[0]), int(source[1])), (str(destination[0]), int(destination[1]))
        now = time.time()
        for start in range(0, len(shown), _PIECE):
            self._waiting.append((number, now, *ends, shown[start : start + _PIECE], comment))


def _redacted(data: bytes) -> bytes:
    """The same length, so that Content-Length and sequence numbers stay true."""
    data = _QUERY.sub(lambda found: found[1] + b"x" * len(found[2]), data, count=1)
    return _SECRETS.sub(lambda found: found[1] + found[2] + b"x" * len(found[3]), data)


class _Recorded:
    """Stands before a protocol; what it does not know goes through."""

    def __init__(self, inner: Any, recording: Recording, number: int) -> None:
        self.inner = inner
        self._recording, self._number = recording, number
        self._own: Any = ("0.0.0.0", 0)
        self._peer: Any = ("0.0.0.0", 0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def connection_made(self, transport: Any) -> None:
        self._own = transport.get_extra_info("sockname") or self._own
        self._peer = transport.get_extra_info("peername") or self._peer
        self.inner.connection_made(_RecordedTransport(transport, self))

    def data_received(self, data: bytes) -> None:
        # After the protocol, which may learn by these bytes who is meant.
        copy = bytes(data)
        self.inner.data_received(data)
        self._recording.add(self._number, self._peer, self._own, copy, _identity(self.inner))

    def sent(self, data: Any) -> None:
        self._recording.add(self._number, self._own, self._peer, bytes(data), _identity(self.inner))


class _RecordedTransport:
    """A transport whose writes are recorded."""

    def __init__(self, transport: Any, recorded: _Recorded) -> None:
        self._transport = transport
        self._recorded = recorded

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: Any) -> None:
        self._recorded.sent(data)
        self._transport.write(data)

    def writelines(self, parts: Any) -> None:
        joined = b"".join(parts)
        self._recorded.sent(joined)
        self._transport.write(joined)

    def set_protocol(self, protocol: Any) -> None:
        self._recorded.inner = protocol

    def get_protocol(self) -> Any:
        return self._recorded.inner


def _identity(protocol: Any) -> str:
    """Who is at the other end of the mesh, as far as the protocol knows now."""
    try:
        exchange = getattr(protocol, "client", None) or getattr(protocol, "exchange", None)
        down = getattr(exchange, "down", None)
        context = getattr(getattr(down, "connection", down), "context", None)
        peer = getattr(context, "peer", None)
        if peer is not None and peer.principal:
            return f"TLS peer spiffe://{peer.principal}"
        host = getattr(exchange, "host", None)
        workload = host.endpoint.workload if host is not None else None
        if workload is not None:
            return f"TLS peer {workload.spiffe_path}"
    except AttributeError:
        pass
    return ""
