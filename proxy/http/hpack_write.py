"""HPACK (RFC 7541), the writing half: fields to header blocks, with the dynamic table of their direction.

Hot file: a field that the table knows costs one dictionary look-up, and a block that leaves the table as it
was is kept. Texts are not packed (Huffman): on a local network the bytes cost less than the packing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final

from proxy.http.events import Header
from proxy.http.hpack import DEFAULT_TABLE_BYTES, ENTRY_OVERHEAD, STATIC

__all__ = ["Encoder"]

_READY_BLOCKS: Final = 256


def _number(value: int, prefix: int, flags: int) -> bytes:
    limit = (1 << prefix) - 1
    if value < limit:
        return bytes((flags | value,))
    out = bytearray((flags | limit,))
    value -= limit
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


_STATIC_SIZE: Final = len(STATIC)
_NAME_INDEX: Final = {name: index for index, (name, _) in reversed(list(enumerate(STATIC, 1)))}
_STATIC_PAIRS: Final = {pair: _number(index, 7, 0x80) for index, pair in enumerate(STATIC, 1)}

_SECRET: Final = frozenset((b"authorization", b"cookie", b"set-cookie", b"proxy-authorization"))
"""Never put into a table, here or further on (RFC 7541 §7.1.3)."""

_INDEXED: Final = frozenset(
    b":authority :path :method :status accept accept-encoding accept-language cache-control content-encoding "
    b"content-type grpc-accept-encoding grpc-encoding grpc-status server te user-agent vary x-forwarded-for "
    b"x-forwarded-proto x-envoy-upstream-service-time x-forwarded-client-cert".split()
)
"""Names whose values come again on a connection."""

_MAX_INDEXED_BYTES: Final = 512


class Encoder:
    """Writes the blocks of one direction of a connection.

    `_ready` holds blocks that left the table as it was, until the table changes.
    """

    __slots__ = ("_added", "_entries", "_pending", "_places", "_ready", "_size", "_table_bytes")

    def __init__(self) -> None:
        self._entries: deque[Header] = deque()
        self._places: dict[Header, int] = {}
        self._added = 0
        self._size = 0
        self._table_bytes = DEFAULT_TABLE_BYTES
        self._pending: int | None = None
        self._ready: dict[object, bytes] = {}

    def limit(self, table_bytes: int) -> None:
        """The peer keeps a table of this size; ours never grows beyond the default."""
        size = min(table_bytes, DEFAULT_TABLE_BYTES)
        if size != self._table_bytes:
            # Of several changes between two blocks the smallest must be told (RFC 7541 §4.2).
            self._pending = size if self._pending is None else min(self._pending, size)
            self._table_bytes = size
            self._evict(size)

    def encode_again(self, key: object, make: Callable[[], Iterable[Header]]) -> bytes:
        """The block of the fields that `make` gives, which are the same whenever the key is."""
        block = self._ready.get(key)
        if block is not None and self._pending is None:
            return block
        added = self._added
        is_told = self._pending is not None
        block = self.encode(make())
        if self._added == added and not is_told:
            if len(self._ready) >= _READY_BLOCKS:
                self._ready.clear()
            self._ready[key] = block
        return block

    def encode(self, fields: Iterable[Header]) -> bytes:
        """A block."""
        parts: list[bytes] = []
        if self._pending is not None:
            parts.append(_number(self._pending, 5, 0x20))
            if self._pending != self._table_bytes:
                parts.append(_number(self._table_bytes, 5, 0x20))
            self._pending = None
        places = self._places
        for field in fields:
            place = places.get(field)
            if place is not None:
                index = _STATIC_SIZE + self._added - place
                parts.append(_SHORT[index] if index < 127 else _number(index, 7, 0x80))
            else:
                parts.append(_STATIC_PAIRS.get(field) or self._literal(field))
        return b"".join(parts)

    def _literal(self, field: Header) -> bytes:
        name, value = field
        if name in _INDEXED and len(value) <= _MAX_INDEXED_BYTES:
            head = _named(name, 6, 0x40)
            self._add(field)
        elif name in _SECRET:
            head = _named(name, 4, 0x10)
        else:
            head = _PLAIN_NAMES.get(name) or _plain_name(name)
        length = len(value)
        return b"%b%b%b" % (head, _SHORT_LENGTHS[length] if length < 127 else _number(length, 7, 0), value)

    def _add(self, field: Header) -> None:
        size = len(field[0]) + len(field[1]) + ENTRY_OVERHEAD
        self._evict(self._table_bytes - size)
        if size <= self._table_bytes:
            self._entries.append(field)
            self._places[field] = self._added
            self._added += 1
            self._size += size

    def _evict(self, room: int) -> None:
        if self._ready:
            self._ready.clear()
        while self._size > room and self._entries:
            field = self._entries.popleft()
            self._size -= len(field[0]) + len(field[1]) + ENTRY_OVERHEAD
            del self._places[field]


_SHORT: Final = [bytes((0x80 | index,)) for index in range(127)]
_SHORT_LENGTHS: Final = [bytes((length,)) for length in range(127)]


def _named(name: bytes, prefix: int, flags: int) -> bytes:
    index = _NAME_INDEX.get(name)
    if index is not None:
        return _number(index, prefix, flags)
    return b"%b%b%b" % (bytes((flags,)), _number(len(name), 7, 0), name)


_PLAIN_NAMES: Final[dict[bytes, bytes]] = {}


def _plain_name(name: bytes) -> bytes:
    head = _named(name, 4, 0)
    if len(name) <= 64:
        if len(_PLAIN_NAMES) >= 1024:
            _PLAIN_NAMES.clear()
        _PLAIN_NAMES[name] = head
    return head
