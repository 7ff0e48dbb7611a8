"""The access log: one JSON object per line, Istio's keys and Envoy's flags, written in batches.

Hot file: a line by %-formatting costs 0.6 µs, `json.dumps` 2.2 and `logging` 4.2 (PERFORMANCE.md). Lines are
written next to each other into one room that is used again and again: as objects of their own they pushed
everything else out of the processor's first cache. Text of strangers is escaped when it holds anything but
plain characters, and cut.
"""

from __future__ import annotations

import json
import os
import re
import select
import stat
import time
from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

from meshpy.model.metrics import Family, MetricKind, numbers
from proxy.http.native import Values, codec

__all__ = [
    "NO_LOG",
    "AccessLog",
    "Line",
    "Values",
    "compose_in_python",
    "quoted",
    "quoted_bytes",
    "time_text",
]

_compose: Final = codec.compose if codec is not None else None
_FLUSH_BYTES: Final = 16 * 1024
_ROOM_BYTES: Final = 32 * 1024
_KEEP_BYTES: Final = 4 * 1024 * 1024
_LAST_S: Final = 1.0
"""For so long the end waits for a reader who is behind."""
_MAX_VALUE_CHARS = 2048
_PLAIN = re.compile(r"[ !#-\[\]-~]*+")

_TCP = (
    '{"start_time":"%s","direction":"%s","protocol":"TCP","response_code":0,"response_flags":"%s",'
    '"connection_termination_details":%s,"bytes_received":%d,"bytes_sent":%d,"duration":%d,"upstream_host":"%s",'
    '"upstream_cluster":"%s","downstream_local_address":"%s","downstream_remote_address":"%s",'
    '"requested_server_name":"%s","upstream_transport_failure_reason":%s,"principal":"%s","policy":%s,"rule":%s,'
    '"stage":"%s"%s}\n'
)


_REMEMBER = 1024
_REMEMBER_CHARS = 160
_quoted: dict[str, str] = {"": '""'}
_seconds: dict[int, str] = {}
"""The last second: a strftime costs as much as a line."""


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


def compose_in_python(texts: tuple[str, ...], values: Values) -> bytes:
    """Join a line: each text, and the value after it."""
    parts: list[str] = []
    for text, value in zip(texts, values, strict=True):
        parts.append(text)
        if type(value) is str:
            parts.append(value)
        elif type(value) is float:
            parts.append(time_text(value))
        else:
            parts.append(quoted_bytes(value) if type(value) is bytes else _plain(value))
    return "".join(parts).encode("utf-8", "replace")


def time_text(seconds: float) -> str:
    """`2026-11-24T04:00:00.123Z` of seconds of the wall clock."""
    second = int(seconds)
    known = _seconds.get(second)
    if known is None:
        _seconds.clear()
        known = _seconds[second] = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
    return f"{known}.{int(seconds % 1 * 1000):03d}Z"


def _plain(value: object) -> str:
    return "null" if value is None else str(value)


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
    """Gathers lines and writes them to a descriptor; a full or closed one loses lines, never requests.

    Args:
        descriptor: where to write; -1 keeps no log.
    """

    __slots__ = (
        "_descriptor",
        "_end",
        "_late",
        "_late_bytes",
        "_room",
        "lost_lines",
        "wall",
    )

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._room = bytearray(_ROOM_BYTES if descriptor >= 0 else 0)
        self._end = 0
        self._late: deque[bytes] = deque()
        """What the reader had no room for, oldest first."""
        self._late_bytes = 0
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
            if _is_stream(1):  # whoever reads it may be slow: the loop must not wait
                os.set_blocking(1, False)
            return cls(1)
        return cls(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640))

    @property
    def is_on(self) -> bool:
        return self._descriptor >= 0

    def http(self, texts: tuple[str, ...], values: Values) -> None:
        """Log one exchange: each text, and the value after it."""
        end = _compose(self._room, self._end, texts, values) if _compose is not None else -1
        if end < 0:
            self.write(compose_in_python(texts, values))
            return
        self._end = end
        if end >= _FLUSH_BYTES:
            self.flush()

    def tcp(self, line: Line, *, started: float) -> None:
        """Log one opaque connection."""
        if self._descriptor < 0:
            return
        text = (
            _TCP
            % (
                time_text(started), line.direction, line.flags,
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
        end = self._end + len(line)
        if end > len(self._room):
            self.flush()
            end = len(line)
            if end > len(self._room):
                self._keep(line)
                return
        self._room[self._end : end] = line
        self._end = end
        if end >= _FLUSH_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what was gathered; called by a timer and at exit."""
        self.wall = time.time() - time.monotonic()
        while self._late:
            if not self._write_late():
                self._move()
                return
        if not self._end:
            return
        data = memoryview(self._room)[: self._end]
        try:
            written = os.write(self._descriptor, data)
        except BlockingIOError:
            written = 0
        except OSError:
            self._lose(bytes(data))
            written = self._end
        if written < self._end:
            self._keep(bytes(data[written:]))
        self._end = 0

    def _write_late(self) -> bool:
        """Write of what waits what the reader takes at once; whether that was the whole of the oldest."""
        data = self._late[0]
        try:
            written = os.write(self._descriptor, data)
        except BlockingIOError:
            return False
        except OSError:
            self._lose(data)
            written = len(data)
        self._late_bytes -= written
        if written < len(data):
            self._late[0] = data[written:]
            return False
        self._late.popleft()
        return True

    def _move(self) -> None:
        """Have lines wait that came after others that wait."""
        if self._end:
            self._keep(bytes(memoryview(self._room)[: self._end]))
            self._end = 0

    def _keep(self, data: bytes) -> None:
        """Hold it until the reader takes it; beyond the bound it is lost."""
        if self._late_bytes + len(data) > _KEEP_BYTES:
            self._lose(data)
        else:
            self._late.append(data)
            self._late_bytes += len(data)

    def _lose(self, data: bytes) -> None:
        self.lost_lines += data.count(b"\n")

    def families(self) -> Iterator[Family]:
        """What became of the lines."""
        text = "Lines of the log that its reader was too slow for, or gone."
        yield numbers("meshpy_access_log_lost_lines_total", MetricKind.COUNTER, text, [((), self.lost_lines)])

    def close(self) -> None:
        """Write the rest, with a little patience."""
        self.flush()
        end = time.monotonic() + _LAST_S
        while self._late and (left := end - time.monotonic()) > 0:
            select.select((), (self._descriptor,), (), left)
            self.flush()
        if self._descriptor > 2:
            os.close(self._descriptor)
            self._descriptor = -1


def _is_stream(descriptor: int) -> bool:
    """A pipe or socket: nobody's terminal, which would be changed for the shell too, and no file."""
    mode = os.fstat(descriptor).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


NO_LOG = AccessLog(-1)
