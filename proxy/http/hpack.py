"""HPACK (RFC 7541): header blocks to fields, with the table of their direction; `hpack_write` is the reverse.

Hot file: a field that the table knows costs one list look-up to read and one dictionary look-up to write.
Fields that differ from request to request (ids, lengths, dates) are never put into the table by the writer,
so that the table stays as it is and the fields of a connection become known once.

Values are judged where literals are read, once for all their later uses: `BadField` marks those that must not
be passed on, because the table must hold them all the same.
"""

from __future__ import annotations

import re
from collections import deque

from proxy.http.events import Header, Headers
from proxy.http.fields import BadField
from proxy.http.huffman import HuffmanError, unpack

__all__ = [
    "DEFAULT_TABLE_BYTES",
    "ENTRY_OVERHEAD",
    "STATIC",
    "BadField",
    "Decoder",
    "HpackError",
    "Oversized",
]

DEFAULT_TABLE_BYTES = 4096
ENTRY_OVERHEAD = 32
"""RFC 7541 §4.1: what an entry counts beside its name and value."""

_KNOWN_BLOCKS = 64
_KNOWN_BLOCK_BYTES = 256

_TOKEN = re.compile(rb":?[!#$%&'*+\-.^_`|~0-9a-z]+")
"""Names are lower case in HTTP/2 (RFC 9113 §8.2.1); a colon begins pseudo-header fields."""

_IN_VALUES = bytes(octet for octet in range(256) if (octet >= 0x20 and octet != 0x7F) or octet == 0x09)

_STATIC_TEXT = """:authority
:method GET
:method POST
:path /
:path /index.html
:scheme http
:scheme https
:status 200
:status 204
:status 206
:status 304
:status 400
:status 404
:status 500
accept-charset
accept-encoding gzip, deflate
accept-language
accept-ranges
accept
access-control-allow-origin
age
allow
authorization
cache-control
content-disposition
content-encoding
content-language
content-length
content-location
content-range
content-type
cookie
date
etag
expect
expires
from
host
if-match
if-modified-since
if-none-match
if-range
if-unmodified-since
last-modified
link
location
max-forwards
proxy-authenticate
proxy-authorization
range
referer
refresh
retry-after
server
set-cookie
strict-transport-security
transfer-encoding
user-agent
vary
via
www-authenticate"""


def _static() -> list[Header]:
    entries = []
    for line in _STATIC_TEXT.encode("ascii").split(b"\n"):
        name, _, value = line.partition(b" ")
        entries.append((name, value))
    return entries


STATIC = _static()
"""RFC 7541 appendix A; its first entry has index 1."""
_STATIC_SIZE = len(STATIC)


class HpackError(ValueError):
    """A block that cannot be read: the tables of both sides differ from here on, the connection must end."""


class Oversized(Exception):  # noqa: N818 - not an error of the block
    """The block was read to its end, but its fields are more or longer than allowed; they were not kept."""


def _integer(block: bytes, position: int, prefix: int) -> tuple[int, int]:
    """RFC 7541 §5.1; at most four further octets, no number that we can use is longer."""
    limit = (1 << prefix) - 1
    value = block[position] & limit
    position += 1
    if value < limit:
        return value, position
    for shift in (0, 7, 14, 21):
        octet = block[position]
        position += 1
        value += (octet & 0x7F) << shift
        if octet < 0x80:
            return value, position
    raise HpackError("a number too long")


class Decoder:
    """Reads the blocks of one direction of a connection.

    Args:
        max_bytes, max_fields: of the fields of one block, counted as SETTINGS_MAX_HEADER_LIST_SIZE counts.

    `known` holds the blocks that are nothing but references, with their fields; it is another dictionary as
    soon as the table has changed, so what others derive from a block is valid as long as `known` is the same.
    """

    __slots__ = ("_entries", "_size", "_table_bytes", "known", "max_bytes", "max_fields")

    def __init__(self, max_bytes: int, max_fields: int) -> None:
        self.max_bytes = max_bytes
        self.max_fields = max_fields
        self._entries: deque[Header] = deque()
        self._size = 0
        self._table_bytes = DEFAULT_TABLE_BYTES
        self.known: dict[bytes, Headers] = {}

    def decode(self, block: bytes) -> Headers:
        """The fields of a block, in order. The list is shared between equal blocks: it must not be changed.

        Raises:
            HpackError: the block cannot be read.
            Oversized: it was read, and is too large.
        """
        known = self.known.get(block)
        if known is not None:
            return known
        try:
            return self._decode(block)
        except IndexError:
            raise HpackError("the block ends within a field") from None
        except HuffmanError as error:
            raise HpackError(str(error)) from None

    def is_known(self, block: bytes) -> bool:
        """Whether the block will mean the same until the table changes."""
        return block in self.known

    def _decode(self, block: bytes) -> Headers:
        fields: Headers = []
        size = position = 0
        end = len(block)
        max_bytes, max_fields = self.max_bytes, self.max_fields
        is_known = True
        is_oversized = False
        while position < end:
            octet = block[position]
            if octet >= 0x80:
                if octet < 0xFF:
                    index = octet & 0x7F
                    position += 1
                else:
                    index, position = _integer(block, position, 7)
                field = self._at(index)
            elif octet & 0xE0 == 0x20:
                if fields or is_oversized:
                    raise HpackError("a table size update within a block")
                position = self._resize(block, position)
                is_known = False
                continue
            else:
                is_known = False
                field, position = self._literal(block, position)
            size += len(field[0]) + len(field[1]) + ENTRY_OVERHEAD
            if size > max_bytes or len(fields) >= max_fields:
                # Read on without keeping: the table must follow, and 60 KiB of references may mean 200 MiB.
                is_oversized = True
                fields.clear()
                max_fields = 0
            else:
                fields.append(field)
        if is_oversized:
            raise Oversized
        if is_known and end <= _KNOWN_BLOCK_BYTES:
            if len(self.known) >= _KNOWN_BLOCKS:
                self.known = {}
            self.known[block] = fields
        return fields

    def _at(self, index: int) -> Header:
        if index <= _STATIC_SIZE:
            if index == 0:
                raise HpackError("index 0")
            return STATIC[index - 1]
        index -= _STATIC_SIZE + 1
        if index >= len(self._entries):
            raise HpackError("an index beyond the table")
        return self._entries[index]

    def _resize(self, block: bytes, position: int) -> int:
        size, position = _integer(block, position, 5)
        if size > DEFAULT_TABLE_BYTES:
            raise HpackError("a table larger than what was offered")
        self._table_bytes = size
        self._evict(size)
        return position

    def _evict(self, room: int) -> None:
        entries = self._entries
        if self.known:
            self.known = {}
        while self._size > room and entries:
            name, value = entries.pop()
            self._size -= len(name) + len(value) + ENTRY_OVERHEAD

    def _literal(self, block: bytes, position: int) -> tuple[Header, int]:
        octet = block[position]
        is_kept = octet >= 0x40
        prefix = 0x3F if is_kept else 0x0F
        index = octet & prefix
        if index == prefix:
            index, position = _integer(block, position, 6 if is_kept else 4)
        else:
            position += 1
        if index:
            name = self._at(index)[0]
        else:
            name, position = _text(block, position)
        value, position = _text(block, position)
        field: Header = (name, value)
        if value.translate(None, _IN_VALUES) or value != value.strip(b" \t") or not is_name(name):
            field = BadField(field)
        if is_kept:
            size = len(name) + len(value) + ENTRY_OVERHEAD
            self._evict(self._table_bytes - size)
            if size <= self._table_bytes:
                self._entries.appendleft(field)
                self._size += size
        return field, position


_names: dict[bytes, bool] = {}
"""Names already judged: at most 2,048 of 64 bytes."""


def is_name(name: bytes) -> bool:
    """Whether it is a lower-case token, or a pseudo-header's name."""
    known = _names.get(name)
    if known is None:
        known = _TOKEN.fullmatch(name) is not None
        if len(name) <= 64:
            if len(_names) >= 2048:
                _names.clear()
            _names[name] = known
    return known


def _text(block: bytes, position: int) -> tuple[bytes, int]:
    octet = block[position]
    length = octet & 0x7F
    if length == 0x7F:
        length, position = _integer(block, position, 7)
    else:
        position += 1
    end = position + length
    if end > len(block):
        raise HpackError("the block ends within a text")
    text = block[position:end]
    return (unpack(text) if octet & 0x80 else text), end
