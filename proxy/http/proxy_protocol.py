"""The PROXY protocol, versions 1 and 2: who a connection is for, told before its first byte.

Source: haproxy.org/download/2.8/doc/proxy-protocol.txt. Strict and bounded: a connection that should begin
with a header and does not is refused, whatever it says instead.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple, TypeAlias

__all__ = ["MAX_V2_BYTES", "HeaderReader", "NoHeader", "ProxyHeader", "header_v1", "header_v2"]

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_MAX_V1_BYTES = 107
"""Of a line with its CRLF (§2.1)."""
MAX_V2_BYTES = 4096
"""Of the part that follows the fixed 16 bytes; the addresses take 36, the rest are extensions."""
_V1 = re.compile(rb"PROXY (TCP4|TCP6) ([0-9a-fA-F.:]+) ([0-9a-fA-F.:]+) ([0-9]{1,5}) ([0-9]{1,5})")
_LOCAL, _PROXY = 0x20, 0x21
_LENGTHS = {0x11: 4, 0x21: 16}
"""TCP over IPv4 and IPv6: bytes of an address."""


class ProxyHeader(NamedTuple):
    """`source` is empty where the sender speaks for itself (LOCAL, UNKNOWN): the connection's own counts.

    Args:
        rest: what came behind the header.
    """

    source: str
    source_port: int
    rest: bytes


class NoHeader(NamedTuple):
    """The connection does not begin with a header that can be believed."""

    reason: str


Outcome: TypeAlias = ProxyHeader | NoHeader


class HeaderReader:
    """Gathers bytes until the header is whole."""

    __slots__ = ("_raw",)

    def __init__(self) -> None:
        self._raw = b""

    def feed(self, data: bytes) -> Outcome | None:
        """Take bytes; None: more are needed. Not to be called after an outcome."""
        raw = self._raw = self._raw + data
        if _SIGNATURE.startswith(raw[:12]):
            return _read_v2(raw) if len(raw) >= 16 else None
        if b"PROXY ".startswith(raw[:6]):
            return _read_v1(raw)
        return NoHeader("no-header")


def _read_v1(raw: bytes) -> Outcome | None:
    line, end, rest = raw.partition(b"\r\n")
    if len(line) + 2 > _MAX_V1_BYTES:
        return NoHeader("too-long")
    if not end:
        return None
    if line == b"PROXY UNKNOWN" or line.startswith(b"PROXY UNKNOWN "):
        return ProxyHeader("", 0, rest)
    found = _V1.fullmatch(line)
    if found is None:
        return NoHeader("malformed")
    family, source, destination, *ports = (part.decode("ascii") for part in found.groups())
    version = 4 if family == "TCP4" else 6
    try:
        addresses = [ipaddress.ip_address(text) for text in (source, destination)]
    except ValueError:
        return NoHeader("malformed")
    if any(each.version != version for each in addresses) or any(int(port) > 65535 for port in ports):
        return NoHeader("malformed")
    return ProxyHeader(str(addresses[0]), int(ports[0]), rest)


def _read_v2(raw: bytes) -> Outcome | None:
    command, family, length = raw[12], raw[13], int.from_bytes(raw[14:16], "big")
    if command not in (_LOCAL, _PROXY):
        return NoHeader("malformed")
    if length > MAX_V2_BYTES:
        return NoHeader("too-long")
    if len(raw) < 16 + length:
        return None
    body, rest = raw[16 : 16 + length], raw[16 + length :]
    if command == _LOCAL:
        return ProxyHeader("", 0, rest)
    octets = _LENGTHS.get(family)
    if octets is None:
        return NoHeader("family")
    if length < 2 * octets + 4 or not _are_extensions(body[2 * octets + 4 :]):
        return NoHeader("malformed")
    port = int.from_bytes(body[2 * octets : 2 * octets + 2], "big")
    return ProxyHeader(str(ipaddress.ip_address(body[:octets])), port, rest)


def _are_extensions(data: bytes) -> bool:
    """Type, length and value, to the last byte (§2.2.7)."""
    at = 0
    while at < len(data):
        if at + 3 > len(data):
            return False
        at += 3 + int.from_bytes(data[at + 1 : at + 3], "big")
    return at == len(data)


def header_v1(source: tuple[str, int], destination: tuple[str, int]) -> bytes:
    """The line for a connection between two addresses of one family; UNKNOWN where they are not."""
    try:
        versions = {ipaddress.ip_address(each[0]).version for each in (source, destination)}
    except ValueError:
        versions = set()
    if len(versions) != 1:
        return b"PROXY UNKNOWN\r\n"
    words = ("PROXY", f"TCP{versions.pop()}", source[0], destination[0], str(source[1]), str(destination[1]))
    return " ".join(words).encode("ascii") + b"\r\n"


def header_v2(source: tuple[str, int], destination: tuple[str, int]) -> bytes:
    """The binary form of the same; LOCAL where the addresses are not of one family."""
    try:
        packed = [ipaddress.ip_address(each[0]).packed for each in (source, destination)]
    except ValueError:
        packed = []
    if len({len(each) for each in packed}) != 1:
        return _SIGNATURE + bytes((_LOCAL, 0, 0, 0))
    body = b"".join(packed) + b"".join(each[1].to_bytes(2, "big") for each in (source, destination))
    family = 0x11 if len(packed[0]) == 4 else 0x21
    return _SIGNATURE + bytes((_PROXY, family)) + len(body).to_bytes(2, "big") + body
