"""gRPC over HTTP/2: its deadline, its status, its messages, and errors in its own words.

A gRPC client looks at `grpc-status` alone: an answer of the mesh with a status of HTTP would reach the
application as "unknown". So errors become answers that consist of trailers alone, as Envoy maps them.
"""

from __future__ import annotations

import re
from typing import Final

from meshpy.model.grpc import http_status_of
from proxy.http.events import Header
from proxy.http.head import RequestHead

__all__ = [
    "DEADLINE_EXCEEDED",
    "FAILURES",
    "UNAVAILABLE",
    "Call",
    "Messages",
    "call_of",
    "status_of_http",
    "trailers_of",
]

CONTENT_TYPE: Final = b"application/grpc"
_TYPE_BYTES: Final = len(CONTENT_TYPE)
DEADLINE_EXCEEDED = 4
UNAVAILABLE = 14

FAILURES = frozenset((2, 4, 13, 14, 15))
"""The server's own failures: unknown, deadline-exceeded, internal, unavailable, data-loss."""

_TIMEOUT: Final = re.compile(rb"([0-9]{1,8})([HMSmun])")
_UNIT_S: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_STATUS: Final = re.compile(rb"[0-9]{1,9}")
_PREFIX_BYTES: Final = 5

_OF_HTTP: Final = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14}
"""grpc/doc/http-grpc-status-mapping.md, as Envoy has it."""

_PLAIN: Final = frozenset(range(0x20, 0x7F)) - {ord("%")}


class Messages:
    """Counts length-prefixed messages in content that comes in pieces of any size."""

    __slots__ = ("_head", "_left", "count")

    def __init__(self) -> None:
        self.count = 0
        self._left = 0
        self._head = b""

    def feed(self, data: bytes | memoryview) -> None:
        """The next content."""
        size = len(data)
        left = self._left
        if not left and not self._head and int.from_bytes(data[1:_PREFIX_BYTES]) + _PREFIX_BYTES == size:
            self.count += 1  # one whole message, as most calls bring it
            return
        if left >= size:
            self._left = left - size
            return
        position = left
        while position < size:
            head = self._head + bytes(data[position : position + _PREFIX_BYTES - len(self._head)])
            position += len(head) - len(self._head)
            if len(head) < _PREFIX_BYTES:
                self._head = head
                self._left = 0
                return
            self._head = b""
            self.count += 1
            position += int.from_bytes(head[1:])
        self._left = position - size


class Call:
    """A gRPC call, as an exchange keeps it.

    Args:
        timeout_s: the client's deadline, None when it set none.
        status: of the call, once it is known.
    """

    __slots__ = ("requests", "responses", "status", "timeout_s")

    def __init__(self, timeout_s: float | None) -> None:
        self.timeout_s = timeout_s
        self.status: int | None = None
        self.requests = Messages()
        self.responses = Messages()

    def take_status(self, value: bytes | None) -> None:
        """Read `grpc-status`; what is no number is unknown (2). None: it is not known yet."""
        if value is None:
            self.status = None
        else:
            self.status = int(value) if _STATUS.fullmatch(value) is not None else 2

    @property
    def http_status(self) -> int:
        """What its status is in terms of HTTP, for outlier detection."""
        return 200 if self.status is None else http_status_of(self.status)


def call_of(head: RequestHead) -> Call | None:
    """The call that a request is; None when it is no gRPC."""
    content_type = head.fields.get(b"content-type")
    if content_type is None or not content_type.startswith(CONTENT_TYPE):
        return None
    if content_type != CONTENT_TYPE and content_type[_TYPE_BYTES] not in b"+; ":
        return None  # gRPC-Web has a content type of its own
    timeout = head.fields.get(b"grpc-timeout")
    return Call(None if timeout is None else timeout_s(timeout))


def timeout_s(value: bytes | None) -> float | None:
    """`grpc-timeout` in seconds; None when there is none that can be read."""
    match = _TIMEOUT.fullmatch(value) if value is not None else None
    return None if match is None else int(match[1]) * _UNIT_S[match[2]]


def status_of_http(status: int) -> int:
    """The gRPC status of an error that the mesh would answer with this status of HTTP."""
    return 0 if status < 300 else _OF_HTTP.get(status, 2)


def trailers_of(status: int, message: bytes) -> tuple[Header, ...]:
    """`grpc-status` and `grpc-message`, percent-encoded where it must be."""
    text = message.strip()
    if not text:
        return ((b"grpc-status", b"%d" % status),)
    escaped = b"".join(bytes((octet,)) if octet in _PLAIN else b"%%%02X" % octet for octet in text)
    return ((b"grpc-status", b"%d" % status), (b"grpc-message", escaped))
