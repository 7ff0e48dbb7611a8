"""DER in its one spelling: definite lengths, as short as they can be (X.690 §10.1), nothing left over."""

from __future__ import annotations

import re

__all__ = ["Der", "NotPlainError", "need"]

_INTEGER, _BITS, _OID = 0x02, 0x03, 0x06
_OID_BYTES = re.compile(rb"(?:(?:[\x81-\xff][\x80-\xff]{0,2})?[\x00-\x7f]){2,12}")


class NotPlainError(Exception):
    """These bytes are something else, or the same in another spelling."""


def need(is_plain: object) -> None:
    """Raises:
    NotPlainError: it is not so.
    """
    if not is_plain:
        raise NotPlainError


class Der:
    """A stretch of values, read from front to back; each method takes the next.

    Raises:
        NotPlainError: the next value is of another tag, is cut, or is spelled otherwise.
    """

    __slots__ = ("_at", "_data", "_end")

    def __init__(self, data: bytes, at: int = 0, end: int = -1) -> None:
        self._data, self._at, self._end = data, at, end if end >= 0 else len(data)

    def next_tag(self) -> int:
        """Of one byte; -1 at the end."""
        return self._data[self._at] if self._at < self._end else -1

    def inside(self, tag: int) -> Der:
        """What the next value is made of."""
        data, at = self._data, self._at
        need(self.next_tag() == tag and at + 2 <= self._end)
        length, at = data[at + 1], at + 2
        if length >= 0x80:
            more = length - 0x80
            need(1 <= more <= 2 and at + more <= self._end)
            length, at = int.from_bytes(data[at : at + more], "big"), at + more
            need(length >= (0x80 if more == 1 else 0x100))
        need(at + length <= self._end)
        self._at = at + length
        return Der(data, at, at + length)

    def only(self, tag: int) -> Der:
        """As `inside`, of the last value."""
        found = self.inside(tag)
        self.finish()
        return found

    def content(self, tag: int) -> bytes:
        """The bytes of the next value."""
        found = self.inside(tag)
        return found._data[found._at : found._end]

    def whole(self, tag: int) -> bytes:
        """The next value with its tag and length."""
        at = self._at
        self.inside(tag)
        return self._data[at : self._at]

    def positive(self) -> bytes:
        """A number above 0 (X.690 §8.3)."""
        content = self.content(_INTEGER)
        need(content and content[0] < 0x80 and content != b"\x00")
        need(len(content) == 1 or content[0] != 0 or content[1] >= 0x80)
        return content

    def bits(self) -> bytes:
        """A bit string of whole bytes (X.690 §8.6)."""
        content = self.content(_BITS)
        need(len(content) > 1 and content[0] == 0)
        return content[1:]

    def kind(self) -> bytes:
        """An object identifier (X.690 §8.19)."""
        content = self.content(_OID)
        need(_OID_BYTES.fullmatch(content))
        return content

    def finish(self) -> None:
        """Nothing follows."""
        need(self._at == self._end)
