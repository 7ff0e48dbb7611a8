"""PEM as everybody writes it (RFC 7468 §3, the strict form): blocks of one kind, nothing between them."""

from __future__ import annotations

import binascii
import re

__all__ = ["from_pem", "to_pem"]

_LINE_CHARS = 64
_BLOCK = re.compile(
    rb"-----BEGIN ([A-Z ]+)-----\n((?:[A-Za-z0-9+/]{64}\n)*[A-Za-z0-9+/]{1,64}={0,2}\n)-----END \1-----\s*"
)


def from_pem(pem: bytes, label: str) -> tuple[bytes, ...] | None:
    """The content of each block; None where the text is anything but blocks of that kind."""
    found, at = [], 0
    while at < len(pem):
        block = _BLOCK.match(pem, at)
        if block is None or block[1] != label.encode("ascii"):
            return None
        try:
            found.append(binascii.a2b_base64(block[2].replace(b"\n", b""), strict_mode=True))
        except binascii.Error:
            return None
        at = block.end()
    return tuple(found) or None


def to_pem(content: bytes, label: str) -> bytes:
    """One block."""
    text = binascii.b2a_base64(content, newline=False)
    lines = (text[at : at + _LINE_CHARS] for at in range(0, len(text), _LINE_CHARS))
    name = label.encode("ascii")
    return b"-----BEGIN %b-----\n%b\n-----END %b-----\n" % (name, b"\n".join(lines), name)
