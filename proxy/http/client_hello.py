"""The server name of a TLS ClientHello, read without answering (RFC 8446 §4.1.2, RFC 6066 §3).

Strict and bounded: lengths must fit exactly, a second server name or an extension twice is refused, and at
most MAX_BYTES are gathered, over as many records as the client likes.
"""

from __future__ import annotations

import re
from typing import NamedTuple, TypeAlias

__all__ = ["MAX_BYTES", "ClientHello", "HelloReader", "NoHello"]

MAX_BYTES = 16 * 1024
"""Of a whole ClientHello; one with post-quantum key shares has some 2 KiB."""

_HANDSHAKE = 22
_CLIENT_HELLO = 1
_SERVER_NAME = 0
_HOST_NAME = 0
_MAX_RECORD_BYTES = 16 * 1024
_NAME = re.compile(rb"(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")


class ClientHello(NamedTuple):
    """`server_name`: lower case, empty when the client sent none."""

    server_name: str


class NoHello(NamedTuple):
    """The bytes begin no ClientHello that may be passed on by name."""

    reason: str


Outcome: TypeAlias = ClientHello | NoHello


class _BadError(Exception):
    """A length or a value that does not fit."""


class HelloReader:
    """Gathers records until the ClientHello is whole."""

    __slots__ = ("_message", "_raw")

    def __init__(self) -> None:
        self._raw = bytearray()
        self._message = bytearray()

    def feed(self, data: bytes) -> Outcome | None:
        """Take bytes; None: more are needed. Not to be called after an outcome."""
        self._raw += data
        try:
            while (record := self._next_record()) is not None:
                self._message += record
                if len(self._message) >= 4 and (whole := self._whole()) is not None:
                    return ClientHello(_server_name(whole))
        except _BadError as error:
            return NoHello(str(error))
        return None

    def _next_record(self) -> bytes | None:
        raw = self._raw
        if raw and raw[0] != _HANDSHAKE:
            raise _BadError("not-tls")
        if len(raw) >= 2 and raw[1] != 3:
            raise _BadError("not-tls")
        if len(raw) < 5:
            return None
        length = int.from_bytes(raw[3:5], "big")
        if not 0 < length <= _MAX_RECORD_BYTES:
            raise _BadError("record-length")
        if len(raw) < 5 + length:
            if len(self._message) + length > MAX_BYTES + 4:
                raise _BadError("too-long")
            return None
        record = bytes(raw[5 : 5 + length])
        del raw[: 5 + length]
        return record

    def _whole(self) -> bytes | None:
        message = self._message
        if message[0] != _CLIENT_HELLO:
            raise _BadError("no-client-hello")
        length = int.from_bytes(message[1:4], "big")
        if length > MAX_BYTES:
            raise _BadError("too-long")
        return bytes(message[4 : 4 + length]) if len(message) >= 4 + length else None


class _Bytes:
    """A cursor over bytes whose lengths must fit."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, count: int) -> bytes:
        found = self._data[self._at : self._at + count]
        if len(found) != count:
            raise _BadError("truncated")
        self._at += count
        return found

    def number(self, octets: int) -> int:
        return int.from_bytes(self.take(octets), "big")

    def vector(self, octets: int, low: int = 0) -> bytes:
        """A vector with a length of `octets` bytes before it."""
        length = self.number(octets)
        if length < low:
            raise _BadError("length")
        return self.take(length)

    def is_at_end(self) -> bool:
        return self._at == len(self._data)


def _server_name(hello: bytes) -> str:
    at = _Bytes(hello)
    at.take(34)  # legacy_version, random
    if len(at.vector(1)) > 32 or len(at.vector(2, 2)) % 2:
        raise _BadError("length")
    at.vector(1, 1)
    if at.is_at_end():
        return ""
    extensions = _Bytes(at.vector(2))
    if not at.is_at_end():
        raise _BadError("trailing-bytes")
    name = ""
    seen: set[int] = set()
    while not extensions.is_at_end():
        kind = extensions.number(2)
        content = extensions.vector(2)
        if kind in seen:
            raise _BadError("extension-twice")
        seen.add(kind)
        if kind == _SERVER_NAME:
            name = _host_name(content)
    return name


def _host_name(content: bytes) -> str:
    outer = _Bytes(content)
    names = _Bytes(outer.vector(2, 1))
    if not outer.is_at_end():
        raise _BadError("trailing-bytes")
    if names.number(1) != _HOST_NAME:
        raise _BadError("name-type")
    name = names.vector(2, 1)
    if not names.is_at_end():
        raise _BadError("name-twice")
    if len(name) > 253 or not _NAME.fullmatch(name):
        raise _BadError("name-form")
    return name.decode("ascii").lower().rstrip(".")
