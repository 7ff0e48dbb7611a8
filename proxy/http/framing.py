"""What of a head decides where its message ends and whether its connection lives on (RFC 9112 §6.3, §9.3)."""

from __future__ import annotations

import re
from typing import Final

from proxy.http.events import Header
from proxy.http.fields import known_lines, read_field
from proxy.http.head import RequestHead, ResponseHead

__all__ = ["content_problem", "options_of", "take_fields"]

_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
"""At most 18 digits: always below 2^63, so no next hop can overflow on it."""
_OTHER_CODINGS: Final = frozenset(
    (b"gzip", b"x-gzip", b"deflate", b"compress", b"x-compress", b"br", b"zstd")
)


def take_fields(head: RequestHead | ResponseHead, lines: list[bytes]) -> bool:
    """Fill headers, fields and repeated from the lines after the first; False if one is bad."""
    headers: list[Header] = []
    fields: dict[bytes, bytes] = {}
    known = known_lines.get
    for line in lines[1:-2]:
        field = known(line) or read_field(line)
        if field is None:
            return False
        lower, value, pair = field
        headers.append(pair)
        fields[lower] = value
    head.headers = headers
    head.fields = fields
    head.repeated = _find_repeated(head) if len(fields) != len(headers) else None
    return lines[-1] == lines[-2] == b""


def _find_repeated(head: RequestHead | ResponseHead) -> dict[bytes, list[bytes]]:
    values: dict[bytes, list[bytes]] = {}
    for name, value in head.headers:
        values.setdefault(name.lower(), []).append(value)
    head.fields = {name: each[0] for name, each in values.items()}
    return {name: each for name, each in values.items() if len(each) > 1}


def content_problem(
    head: RequestHead | ResponseHead, length: bytes | None, coding: bytes | None
) -> tuple[str, str] | None:
    repeated = head.repeated or {}
    if coding is not None:
        if length is not None:
            return "length-and-coding", "Content-Length together with Transfer-Encoding (RFC 9112 §6.1)"
        if b"transfer-encoding" in repeated:
            return "transfer-encoding-repeated", "more than one Transfer-Encoding field"
        if head.minor == 0:
            return "transfer-encoding-version", "HTTP/1.0 has no Transfer-Encoding (RFC 9112 §6.1)"
        if coding.lower() == b"chunked":
            return None
        codings = {part.strip(b" \t").lower() for part in coding.split(b",")}
        if codings <= _OTHER_CODINGS | {b"chunked"}:
            return "transfer-encoding-unknown", "the only transfer coding is chunked"
        return "transfer-encoding", "Transfer-Encoding is not exactly chunked"
    if b"content-length" in repeated:
        return "content-length-repeated", "more than one Content-Length field (RFC 9110 §8.6)"
    if length is not None and _LENGTH.fullmatch(length) is None:
        return "content-length", "Content-Length is not a number of 1 to 18 digits"
    return None


def options_of(head: RequestHead | ResponseHead, name: bytes) -> list[bytes]:
    """The members of a list field, lower case (RFC 9110 §5.6.1)."""
    return [part.strip(b" \t").lower() for value in head.get_all(name) for part in value.split(b",")]
