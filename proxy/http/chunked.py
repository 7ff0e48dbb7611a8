"""The chunked transfer coding, read to the letter (RFC 9112 §7.1): CRLF, 1 to 16 hex digits, no padding."""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

from proxy.http.events import Header
from proxy.http.fields import read_field
from proxy.http.hygiene import is_trailer_allowed
from proxy.http.limits import Limits

__all__ = ["LAST_CHUNK", "ChunkDecoder", "encode_chunk", "encode_last_chunk"]

LAST_CHUNK: Final = b"0\r\n\r\n"

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_QUOTED: Final = rb"\"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*+\""
_EXTENSION: Final = rb";[ \t]*+" + _TOKEN + rb"(?:[ \t]*+=[ \t]*+(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?+"
_SIZE_LINE: Final = re.compile(rb"([0-9A-Fa-f]{1,16})((?:" + _EXTENSION + rb")*+)")
"""Extensions by their grammar, so that no control hides in one; they end here and are not forwarded."""

_SIZE_LIMIT: Final = 1 << 63


class _Reading(Enum):
    SIZE = "size"
    DATA = "data"
    DATA_END = "data-end"
    TRAILERS = "trailers"
    DONE = "done"


class ChunkDecoder:
    """Takes the coding off one message, in pieces of any size.

    `problem` becomes (reason, detail) when the bytes are no chunked content; `is_done` after the trailers.
    """

    __slots__ = (
        "_held",
        "_limits",
        "_overhead",
        "_reading",
        "_remaining",
        "_trailer_bytes",
        "problem",
        "trailers",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._reading = _Reading.SIZE
        self._remaining = 0
        self._held = bytearray()
        self._overhead = 0
        self._trailer_bytes = 0
        self.trailers: list[Header] = []
        self.problem: tuple[str, str] | None = None

    @property
    def is_done(self) -> bool:
        return self._reading is _Reading.DONE

    def decode(self, data: bytes, position: int) -> tuple[list[memoryview], int]:
        """Read on from `position`; returns the content found and where reading stopped."""
        parts: list[memoryview] = []
        view = memoryview(data)
        end = len(data)
        while position < end and self.problem is None and self._reading is not _Reading.DONE:
            if self._reading is _Reading.DATA:
                taken = min(self._remaining, end - position)
                parts.append(view[position : position + taken])
                position += taken
                self._remaining -= taken
                if self._remaining == 0:
                    self._reading = _Reading.DATA_END
            elif self._reading is _Reading.DATA_END:
                position = self._read_data_end(data, position)
            else:
                position = self._read_line(data, position)
        return parts, position

    def _read_data_end(self, data: bytes, position: int) -> int:
        stop = min(position + 2 - len(self._held), len(data))
        self._held += data[position:stop]
        if not b"\r\n".startswith(self._held):
            self.problem = ("chunk-end", "a chunk's content is not followed by CRLF")
        elif len(self._held) == 2:
            self._held.clear()
            self._reading = _Reading.SIZE
        return stop

    def _read_line(self, data: bytes, position: int) -> int:
        limit = self._limits.chunk_line_bytes
        if self._reading is _Reading.TRAILERS:
            limit = self._limits.trailer_bytes - self._trailer_bytes
        found = data.find(b"\n", position)
        stop = len(data) if found < 0 else found + 1
        if len(self._held) + stop - position > limit:
            self.problem = ("chunk-line-too-long", f"a chunk or trailer line is longer than {limit} bytes")
            return stop
        self._held += data[position:stop]
        if found < 0:
            return stop
        line = bytes(self._held)
        self._held.clear()
        if not line.endswith(b"\r\n"):
            self.problem = ("bare-cr-or-lf", "a chunk or trailer line ends without CR (RFC 9112 §2.2)")
        elif self._reading is _Reading.SIZE:
            self._take_size(line[:-2])
        else:
            self._take_trailer(line)
        return stop

    def _take_size(self, line: bytes) -> None:
        match = _SIZE_LINE.fullmatch(line)
        if match is None:
            self.problem = ("chunk-size", "a chunk begins with 1 to 16 hex digits, then extensions or CRLF")
            return
        self._overhead += len(match[2])
        self._remaining = int(match[1], 16)
        if self._overhead > self._limits.chunk_overhead_bytes:
            self.problem = ("chunk-extensions-too-long", "too many bytes of chunk extensions in one message")
        elif self._remaining >= _SIZE_LIMIT:
            self.problem = ("chunk-size", "a chunk is smaller than 2^63 bytes")
        else:
            self._reading = _Reading.DATA if self._remaining else _Reading.TRAILERS

    def _take_trailer(self, line: bytes) -> None:
        self._trailer_bytes += len(line)
        if line == b"\r\n":
            self._reading = _Reading.DONE
            return
        field = read_field(line[:-2])
        if field is None:
            self.problem = ("trailer", "a trailer line is no field line (RFC 9110 §5)")
        elif len(self.trailers) >= self._limits.fields:
            self.problem = ("trailer", f"more than {self._limits.fields} trailer fields")
        elif is_trailer_allowed(field[2]):
            self.trailers.append(field[2])


def encode_chunk(data: bytes | memoryview) -> bytes:
    """One chunk; empty data gives nothing, for an empty chunk would end the content."""
    if not data:
        return b""
    return b"".join((b"%x\r\n" % len(data), data, b"\r\n"))


def encode_last_chunk(trailers: tuple[Header, ...]) -> bytes:
    """The last chunk with its trailer section."""
    if not trailers:
        return LAST_CHUNK
    return b"0\r\n%b\r\n" % b"".join(b"%b: %b\r\n" % header for header in trailers)
