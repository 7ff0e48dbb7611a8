"""OTLP over gRPC: one unary call at a time on one HTTP/2 connection, by the h2 library.

Calls come one after the other, so whoever calls also reads: no task of its own, and nothing to keep in step.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import ssl
import struct
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions

from meshpy.export.transport import Again, Outcome, Refused, taken
from meshpy.otlp.settings import Destination, Signal
from meshpy.protobuf import BadMessageError
from meshpy.protobuf import read as read_fields

__all__ = ["GrpcTransport"]

_SERVICES = {Signal.TRACES: "trace.v1.TraceService", Signal.METRICS: "metrics.v1.MetricsService"}
_AGAIN = frozenset(("1", "4", "10", "11", "14", "15"))
"""CANCELLED, DEADLINE_EXCEEDED, ABORTED, OUT_OF_RANGE, UNAVAILABLE, DATA_LOSS (OTLP specification)."""
_EXHAUSTED = "8"
"""RESOURCE_EXHAUSTED: to be tried again only where the collector says when (RetryInfo)."""
_RETRY_INFO = b"type.googleapis.com/google.rpc.RetryInfo"
_MAX_ANSWER = 64 * 1024
_READ_BYTES = 64 * 1024


class _LostError(ConnectionError):
    """The connection ended before the answer did."""


@dataclass(slots=True)
class _Answer:
    """What came so far."""

    status: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    content: bytearray = field(default_factory=bytearray)
    is_complete: bool = False


class _Connection:
    """An HTTP/2 connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.is_over = False

    @property
    def is_open(self) -> bool:
        return not (self.is_over or self._reader.at_eof() or self._writer.is_closing())

    async def call(self, headers: list[tuple[str, str]], body: bytes) -> _Answer:
        """Send a request and read its answer.

        Raises:
            _LostError: the connection or the stream ended early.
        """
        stream, answer, position = self.h2.get_next_available_stream_id(), _Answer(), 0
        self.h2.send_headers(stream, headers)
        while not answer.is_complete:
            if position <= len(body) and stream in self.h2.streams:
                position = self._send(stream, body, position)
            await self._flush()
            data = await self._reader.read(_READ_BYTES)
            if not data:
                raise _LostError("the collector closed the connection")
            try:
                events = self.h2.receive_data(data)
            except h2.exceptions.ProtocolError as error:
                raise _LostError(f"the collector's HTTP/2 is not understood: {error}") from error
            for event in events:
                self._take(event, stream, answer)
        await self._flush()
        return answer

    def _send(self, stream: int, body: bytes, position: int) -> int:
        """Send what the windows allow; a position beyond the body says that the end was sent."""
        try:
            room = min(self.h2.local_flow_control_window(stream), len(body) - position)
            size = self.h2.max_outbound_frame_size
            for start in range(position, position + room, size):
                self.h2.send_data(stream, body[start : min(start + size, position + room)])
            position += room
            if position == len(body):
                self.h2.end_stream(stream)
                return position + 1
        except h2.exceptions.StreamClosedError:
            return len(body) + 1
        return position

    def _take(self, event: h2.events.Event, stream: int, answer: _Answer) -> None:
        if isinstance(event, h2.events.ConnectionTerminated):
            self.is_over = True
        if getattr(event, "stream_id", stream) != stream:
            return
        if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
            answer.fields.update((str(name), str(value)) for name, value in event.headers or ())
        elif isinstance(event, h2.events.DataReceived):
            answer.content += event.data or b""
            self.h2.acknowledge_received_data(event.flow_controlled_length or 0, stream)
            if len(answer.content) > _MAX_ANSWER:
                raise _LostError("the answer is too long")
        elif isinstance(event, h2.events.StreamEnded):
            answer.is_complete = True
        elif isinstance(event, h2.events.StreamReset):
            if event.error_code == h2.errors.ErrorCodes.NO_ERROR and answer.fields:
                answer.is_complete = True
                return
            raise _LostError(f"the collector reset the call ({event.error_code})")

    async def _flush(self) -> None:
        self._writer.write(self.h2.data_to_send())
        await self._writer.drain()

    def close(self) -> None:
        self._writer.close()


class GrpcTransport:
    """Args:
    tls: None speaks without.
    """

    def __init__(self, destination: Destination, tls: ssl.SSLContext | None) -> None:
        self._to = destination
        self._tls = tls
        if tls is not None:
            tls.set_alpn_protocols(["h2"])
        parts = urlsplit(destination.url)
        self._host, self._port = parts.hostname or "", parts.port or 0
        service = f"opentelemetry.proto.collector.{_SERVICES[destination.signal]}"
        self._headers = [
            (":method", "POST"),
            (":scheme", parts.scheme),
            (":path", f"/{service}/Export"),
            (":authority", parts.netloc),
            ("te", "trailers"),
            ("content-type", "application/grpc+proto"),
            ("user-agent", "meshpy"),
            ("grpc-timeout", f"{int(destination.timeout_s * 1000)}m"),
            *([("grpc-encoding", "gzip")] if destination.is_compressed else []),
            *destination.headers,
        ]
        self._connection: _Connection | None = None

    async def send(self, body: bytes) -> Outcome:
        if self._to.is_compressed:
            body = gzip.compress(body, 6)
        message = struct.pack(">BI", self._to.is_compressed, len(body)) + body
        try:
            async with asyncio.timeout(self._to.timeout_s):
                connection = await self._opened()
                return _outcome(await connection.call(self._headers, message))
        except TimeoutError:
            await self.close()
            return Again(f"no answer within {self._to.timeout_s:g} s")
        except (OSError, h2.exceptions.H2Error) as error:
            await self.close()
            return Again(str(error) or type(error).__name__)

    async def _opened(self) -> _Connection:
        if self._connection is not None and self._connection.is_open:
            return self._connection
        await self.close()
        reader, writer = await asyncio.open_connection(self._host, self._port, ssl=self._tls)
        self._connection = _Connection(reader, writer)
        return self._connection

    async def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _outcome(answer: _Answer) -> Outcome:
    fields = answer.fields
    status = fields.get("grpc-status")
    if status is None:
        http = fields.get(":status", "")
        why = f"HTTP {http} without grpc-status"
        return Again(why) if http in ("429", "502", "503", "504") else Refused(why)
    if status != "0":
        why = f"gRPC status {status} {unquote(fields.get('grpc-message', ''))}".rstrip()
        pause_s = _retry_info_s(fields.get("grpc-status-details-bin", ""))
        is_again = status in _AGAIN or (status == _EXHAUSTED and pause_s is not None)
        return Again(why, pause_s) if is_again else Refused(why)
    if len(answer.content) < 5 or answer.content[0]:
        return Refused("the answer is no plain gRPC message")
    return taken(bytes(answer.content[5:]))


def _retry_info_s(details: str) -> float | None:
    """The pause of a google.rpc.RetryInfo among a google.rpc.Status' details; None where there is none."""
    try:
        status = base64.b64decode(details + "=" * (-len(details) % 4), validate=True)
        for detail in _messages(status, 3):
            fields = dict(read_fields(detail))
            if fields.get(1) == _RETRY_INFO and isinstance(found := fields.get(2), bytes):
                return sum(_seconds(delay) for delay in _messages(found, 1))
    except (ValueError, BadMessageError):
        pass
    return None


def _messages(data: bytes, number: int) -> list[bytes]:
    return [value for field, value in read_fields(data) if field == number and isinstance(value, bytes)]


def _seconds(duration: bytes) -> float:
    """A google.protobuf.Duration."""
    fields = dict(read_fields(duration))
    seconds, nanos = (value if isinstance(value := fields.get(number, 0), int) else 0 for number in (1, 2))
    return seconds + nanos / 1e9
