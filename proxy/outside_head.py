"""What an app asks its forward proxy for: the head of one request, read strictly (RFC 9112 §3.2)."""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["MAX_HEAD", "Asked", "HeadRefusedError", "read_asked"]

MAX_HEAD = 32 * 1024
_REQUEST = re.compile(rb"([A-Z]{1,20}) (\S{1,8192}) HTTP/1\.[01]")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00\r\n]*?)[ \t]*")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?\.?")
_ABSOLUTE = re.compile(r"http://([^/?#]+)([/?].*)?", re.IGNORECASE)
_HOP = frozenset(
    (b"connection", b"proxy-connection", b"keep-alive", b"proxy-authorization", b"host", b"upgrade")
)


class HeadRefusedError(ValueError):
    """It is no request that a forward proxy takes."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Args:
    forwarded: the head as the origin gets it; empty for CONNECT.
    """

    host: str
    port: int
    is_connect: bool
    forwarded: bytes = b""


def read_asked(head: bytes) -> Asked:
    """Read a head, its empty line included.

    Raises:
        HeadRefusedError: why it is refused.
    """
    first, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    match = _REQUEST.fullmatch(first)
    if match is None:
        raise HeadRefusedError("the request line is malformed")
    method, target = match[1], match[2].decode("latin-1")
    fields = [found for line in lines if (found := _FIELD.fullmatch(line))]
    if len(fields) != len(lines):
        raise HeadRefusedError("a header field is malformed")
    if method == b"CONNECT":
        host, port = _authority(target, 0)
        return Asked(host, port, True)
    absolute = _ABSOLUTE.fullmatch(target)
    if absolute is None:
        raise HeadRefusedError("the target is no http:// URL; for https use CONNECT")
    host, port = _authority(absolute[1], 80)
    path = absolute[2] or "/"
    path = path if path.startswith("/") else f"/{path}"
    named = [
        name for each in fields if each[1].lower() == b"connection" for name in each[2].lower().split(b",")
    ]
    dropped = _HOP | {name.strip() for name in named}
    kept = [each[1] + b": " + each[2] for each in fields if each[1].lower() not in dropped]
    own = [b"Host: " + absolute[1].encode("latin-1"), b"Connection: close"]
    return Asked(
        host,
        port,
        False,
        b"\r\n".join([method + b" " + path.encode("latin-1") + b" HTTP/1.1", *own, *kept, b"", b""]),
    )


def _authority(text: str, default: int) -> tuple[str, int]:
    host, colon, number = text.partition(":")
    if not _HOST.fullmatch(host):
        raise HeadRefusedError("the authority is no host name or IPv4 address")
    if not colon and default:
        return host.lower().rstrip("."), default
    if not number.isascii() or not number.isdecimal() or not 0 < int(number) < 65536:
        raise HeadRefusedError("the authority has no port")
    return host.lower().rstrip("."), int(number)
