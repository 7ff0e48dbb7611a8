"""What a client speaks, told by its first bytes; only on ports declared `auto`.

HTTP/1.1 is known by its whole first line, as Envoy does it: `GET key` is a command of Redis as well. What is
taken for HTTP here and is not quite is refused by the parser, never passed on as opaque bytes.
"""

from __future__ import annotations

import re
from enum import StrEnum

from proxy.http.target import METHODS

__all__ = ["Spoken", "spoken"]

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_STARTS = tuple(method + b" " for method in METHODS)
_VERSION = re.compile(rb" HTTP/[0-9](?:\.[0-9])?\r?\Z")
_LINE_BYTES = 8192
_TLS_HANDSHAKE = b"\x16\x03"


class Spoken(StrEnum):
    """Of these the first two are read; the others are passed on."""

    HTTP1 = "http/1.1"
    HTTP2 = "h2"
    TLS = "tls"
    OPAQUE = "opaque"


def spoken(first: bytes) -> Spoken | None:
    """What begins with these bytes; None when more are needed to tell.

    Args:
        first: all that has come, at least one byte.
    """
    if first.startswith(_TLS_HANDSHAKE):
        return Spoken.TLS
    if first.startswith(_PREFACE):
        return Spoken.HTTP2
    if _PREFACE.startswith(first) or _TLS_HANDSHAKE.startswith(first):
        return None
    if first.startswith(_STARTS):
        return _of_line(first)
    return None if any(start.startswith(first) for start in _STARTS) else Spoken.OPAQUE


def _of_line(first: bytes) -> Spoken | None:
    line, end, _ = first.partition(b"\n")
    if not end:
        return None if len(line) < _LINE_BYTES else Spoken.HTTP1
    return Spoken.HTTP1 if _VERSION.search(line) is not None else Spoken.OPAQUE
