"""The plaintext side of a sidecar, recorded while somebody captures: what it reads from the app and writes.

Off, it costs one look at a flag for each new connection. On, connections that are made from then on are
wrapped: their bytes are copied into a bounded buffer, what has no room is counted.
"""

from __future__ import annotations

import asyncio
import re
import time
from typing import Any, cast

__all__ = ["RecordedBytes", "Recording", "Way"]

MAX_WAITING = 4 * 1024 * 1024
_PIECE = 64 * 1024
_SECRETS = re.compile(
    rb"(?im)^((?:proxy-)?authorization|cookie|set-cookie|x-api-key|x-auth-token)(:[ \t]*)([^\r\n]*)"
)
_QUERY = re.compile(rb"(?m)^([A-Z]{1,20} [^ ?\r\n]{0,8000}\?)([^ \r\n]*)")
_START = re.compile(rb"[A-Z]{1,20} (?:/|\*|https?://)")
_MAX_LINE = 16 * 1024

RecordedBytes = tuple[int, float, tuple[str, int], tuple[str, int], bytes, str, int]
"""Connection, moment, from, to, bytes, who is at the other end of the mesh, how many bytes went before."""


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

    def add(self, way: Way, data: bytes, comment: str) -> int:
        """Bytes went one way; what has no room is cut off. Where in what waits they begin."""
        first = len(self._waiting)
        if not self.is_on or not data:
            way.line = b""
            return first
        shown = way.redacted(data) if self.is_redacted else data
        offset, way.offset = way.offset, way.offset + len(data)
        room = max(0, min(self.left, MAX_WAITING - self._waiting_bytes))
        self.lost_bytes += max(0, len(shown) - room)
        shown = shown[:room]
        self.left -= len(shown)
        self._waiting_bytes += len(shown)
        source, destination = _end(way.source), _end(way.destination)
        now = time.time()
        for start in range(0, len(shown), _PIECE):
            piece = shown[start : start + _PIECE]
            self._waiting.append((way.number, now, source, destination, piece, comment, offset + start))
        return first

    def explain(self, first: int, way: Way, comment: str) -> None:
        """Say who is behind bytes that were just added, from there on."""
        source = _end(way.source)
        for index in range(first, len(self._waiting)):
            number, at_s, begin, end, data, _, offset = self._waiting[index]
            if number == way.number and begin == source:
                self._waiting[index] = (number, at_s, begin, end, data, comment, offset)


class Way:
    """One direction of a connection.

    Invariants: `line` is what has come, covered, of a line whose end has not: secrets may come in pieces.
    """

    __slots__ = ("destination", "line", "number", "offset", "source")

    def __init__(self, number: int, source: Any, destination: Any) -> None:
        self.number, self.source, self.destination = number, source, destination
        self.offset = 0
        self.line = b""

    def redacted(self, data: bytes) -> bytes:
        """The same length, so that Content-Length and sequence numbers stay true."""
        if _START.match(data) is not None:  # content before it may have ended without an end of line
            self.line = b""
        whole = _covered(self.line + data)
        shown = whole[len(self.line) :]
        self.line = whole[whole.rfind(b"\n") + 1 :][:_MAX_LINE]
        return shown


def _covered(text: bytes) -> bytes:
    text = _QUERY.sub(lambda found: found[1] + b"x" * len(found[2]), text)
    return _SECRETS.sub(lambda found: found[1] + found[2] + b"x" * len(found[3]), text)


def _end(name: Any) -> tuple[str, int]:
    return str(name[0]), int(name[1])


class _Recorded:
    """Stands before a protocol; what it does not know goes through."""

    def __init__(self, inner: Any, recording: Recording, number: int) -> None:
        self.inner = inner
        self._recording = recording
        nobody = ("0.0.0.0", 0)
        self._read, self._written = Way(number, nobody, nobody), Way(number, nobody, nobody)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def connection_made(self, transport: Any) -> None:
        own, peer = (transport.get_extra_info(name) for name in ("sockname", "peername"))
        if own and peer:
            self._read.source = self._written.destination = peer
            self._read.destination = self._written.source = own
        self.inner.connection_made(_RecordedTransport(transport, self))

    def data_received(self, data: bytes) -> None:
        # Before the protocol, which may answer at once; who is meant it may learn by these bytes.
        first = self._recording.add(self._read, bytes(data), "")
        self.inner.data_received(data)
        self._recording.explain(first, self._read, _identity(self.inner))

    def sent(self, data: Any) -> None:
        self._recording.add(self._written, bytes(data), _identity(self.inner))


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
