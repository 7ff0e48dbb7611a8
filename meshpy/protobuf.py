"""Protobuf's wire format, as far as OTLP and Envoy's Check need it: fields by their numbers.

Source: protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

__all__ = [
    "BadMessageError",
    "double",
    "fixed64",
    "message",
    "packed_doubles",
    "packed_fixed64",
    "read",
    "text",
    "varint",
]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_VARINT_BYTES = 10


class BadMessageError(ValueError):
    """Bytes that are no message."""


def _number(value: int) -> bytes:
    value &= (1 << 64) - 1
    if value < 128:
        return bytes((value,))
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


def varint(field: int, value: int) -> bytes:
    """An integer, a truth value or an enumeration; negative ones as two's complement."""
    return _number(field << 3 | _VARINT) + _number(value)


def fixed64(field: int, value: int) -> bytes:
    return _number(field << 3 | _FIXED64) + struct.pack("<Q", value)


def double(field: int, value: float) -> bytes:
    return _number(field << 3 | _FIXED64) + struct.pack("<d", value)


def message(field: int, *parts: bytes) -> bytes:
    """Bytes, or a message of these parts."""
    content = b"".join(parts)
    return _number(field << 3 | _BYTES) + _number(len(content)) + content


def text(field: int, value: str) -> bytes:
    return message(field, value.encode("utf-8", "replace"))


def packed_fixed64(field: int, values: Iterable[int]) -> bytes:
    return message(field, *(struct.pack("<Q", value) for value in values))


def packed_doubles(field: int, values: Iterable[float]) -> bytes:
    return message(field, *(struct.pack("<d", value) for value in values))


def read(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message: integers of varints, bytes of everything else.

    Raises:
        BadMessageError: it breaks off, or is of groups.
    """
    position = 0
    while position < len(data):
        key, position = _read_number(data, position)
        field, form = key >> 3, key & 7
        if form == _VARINT:
            value, position = _read_number(data, position)
            yield field, value
            continue
        if form == _BYTES:
            size, position = _read_number(data, position)
        elif form in (_FIXED64, _FIXED32):
            size = 8 if form == _FIXED64 else 4
        else:
            raise BadMessageError(f"wire type {form}")
        if position + size > len(data):
            raise BadMessageError("it breaks off")
        yield field, data[position : position + size]
        position += size


def _read_number(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    for _ in range(_MAX_VARINT_BYTES):
        if position >= len(data):
            raise BadMessageError("it breaks off")
        byte = data[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, position
        shift += 7
    raise BadMessageError("a number of more than ten bytes")
