"""The access log: one JSON object per line, Istio's keys and Envoy's flags, written in batches.

Hot file: a line by %-formatting costs 0.6 µs, `json.dumps` 2.2 and `logging` 4.2 (PERFORMANCE.md). Text of
strangers is escaped when it holds anything but plain characters, and cut.
"""

from __future__ import annotations

import json
import os
import re
import time
from typing import Final, NamedTuple

from proxy.http.native import codec

__all__ = ["NO_LOG", "AccessLog", "Line", "Pieces", "compose_in_python", "quoted", "quoted_bytes"]

_FLUSH_BYTES = 64 * 1024
_KEEP_BYTES = 4 * 1024 * 1024
_MAX_VALUE_CHARS = 2048
_PLAIN = re.compile(r"[ !#-\[\]-~]*+")

_TCP = (
    '{"start_time":"%s%s"direction":"%s","protocol":"TCP","response_code":0,"response_flags":"%s",'
    '"connection_termination_details":%s,"bytes_received":%d,"bytes_sent":%d,"duration":%d,"upstream_host":"%s",'
    '"upstream_cluster":"%s","downstream_local_address":"%s","downstream_remote_address":"%s",'
    '"requested_server_name":"%s","upstream_transport_failure_reason":%s,"principal":"%s","policy":%s,"rule":%s,'
    '"stage":"%s"%s}\n'
)


MILLISECONDS: Final = tuple(f'.{number:03d}Z",' for number in range(1000))

_REMEMBER = 1024
_REMEMBER_CHARS = 160
_quoted: dict[str, str] = {"": '""'}


def quoted(text: str) -> str:
    """A JSON string of a text that a stranger chose; short ones are remembered, since most come again."""
    known = _quoted.get(text)
    if known is not None:
        return known
    result = _quote(text)
    if len(text) <= _REMEMBER_CHARS:
        if len(_quoted) >= _REMEMBER:
            _quoted.clear()
        _quoted[text] = result
    return result


def _quote(text: str) -> str:
    if len(text) > _MAX_VALUE_CHARS:
        text = text[:_MAX_VALUE_CHARS] + "…"
    if _PLAIN.fullmatch(text) is not None:
        return f'"{text}"'
    return json.dumps(text)


def quoted_bytes(value: bytes | None) -> str:
    """A JSON string of a field's value, null when there is none."""
    return "null" if value is None else _quote(value.decode("latin-1"))


Pieces = tuple[str | bytes | int | None, ...]
"""A line: text as it is, bytes that a stranger chose as a JSON string, numbers, None as null."""


def compose_in_python(pieces: Pieces) -> bytes:
    """Join a line."""
    return "".join(
        [
            piece if type(piece) is str else quoted_bytes(piece) if type(piece) is bytes else _plain(piece)
            for piece in pieces
        ]
    ).encode("utf-8", "replace")


def _plain(piece: object) -> str:
    return "null" if piece is None else str(piece)


class Line(NamedTuple):
    """What the line of an opaque connection says."""

    direction: str
    flags: str
    details: str
    bytes_received: int
    bytes_sent: int
    duration_ms: int
    upstream_host: str
    upstream_cluster: str
    local_address: str
    remote_address: str
    server_name: str
    failure: str
    principal: str
    policy: str
    rule: str
    stage: str
    audit: str = ""


class AccessLog:
    """Buffers lines and writes them to a descriptor; a full or closed one loses lines, never requests.

    Args:
        descriptor: where to write; -1 keeps no log.
    """

    __slots__ = ("_buffer", "_bytes", "_descriptor", "_second", "_second_text", "lost_lines", "wall")

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._buffer: list[bytes] = []
        self._bytes = 0
        self._second = 0
        self._second_text = ""
        self.lost_lines = 0
        self.wall = time.time() - time.monotonic()
        """What the monotonic clock wants to the wall's; taken anew with every flush."""

    @classmethod
    def open(cls, target: str) -> AccessLog:
        """`-` is standard output, `off` is no log, anything else a file to append to.

        Raises:
            OSError: the file cannot be opened.
        """
        if target == "off":
            return NO_LOG
        if target == "-":
            return cls(1)
        return cls(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640))

    @property
    def is_on(self) -> bool:
        return self._descriptor >= 0

    def second_of(self, started: float) -> str:
        """`2026-11-24T04:00:00` of seconds of the wall clock."""
        second = int(started)
        if second != self._second:
            self._second = second
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return self._second_text

    def http(self, pieces: Pieces) -> None:
        """Log one exchange."""
        data = codec.compose(pieces) if codec is not None else None
        self.write(compose_in_python(pieces) if data is None else data)

    def tcp(self, line: Line, *, started: float) -> None:
        """Log one opaque connection."""
        milliseconds = MILLISECONDS[int(started % 1 * 1000)]
        text = (
            _TCP
            % (
                self.second_of(started), milliseconds, line.direction, line.flags,
                quoted(line.details), line.bytes_received,
                line.bytes_sent, line.duration_ms, line.upstream_host, line.upstream_cluster,
                line.local_address, line.remote_address, line.server_name, quoted(line.failure),
                line.principal, quoted(line.policy), quoted(line.rule), line.stage,
                f',"audited":{quoted(line.audit)}' if line.audit else "",
            )
        )  # fmt: skip
        self.write(text.encode("utf-8", "replace"))

    def write(self, line: bytes) -> None:
        """Add a whole line."""
        self._buffer.append(line)
        self._bytes += len(line)
        if self._bytes >= _FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what was gathered; called by a timer and at exit."""
        self.wall = time.time() - time.monotonic()
        if not self._buffer:
            return
        data = b"".join(self._buffer)
        try:
            written = os.write(self._descriptor, data)
        except BlockingIOError:
            written = 0
        except OSError:
            written = len(data)
            self.lost_lines += len(self._buffer)
        self._buffer.clear()
        self._bytes = 0
        rest = data[written:]
        if len(rest) > _KEEP_BYTES:
            self.lost_lines += rest.count(b"\n")
        elif rest:
            self._buffer.append(rest)
            self._bytes = len(rest)

    def close(self) -> None:
        """Write the rest."""
        self.flush()
        if self._descriptor > 2:
            os.close(self._descriptor)
            self._descriptor = -1


NO_LOG = AccessLog(-1)
