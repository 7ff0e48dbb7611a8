"""A capture file that Wireshark opens: pcapng with synthetic TCP segments around recorded bytes.

Who records plaintext in user space has bytes and ends, no packets: Ethernet, IPv4 or IPv6 and TCP headers are
made up so that streams can be followed; checksums are left 0, as with offload. Comments carry what a packet
cannot say. Source: IETF draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass, field

__all__ = ["Packet", "PcapngWriter"]

_SECTION, _INTERFACE, _PACKET = 0x0A0D0D0A, 1, 6
_COMMENT, _NAME, _TSRESOL, _APPLICATION = 1, 2, 9, 4
_ETHERNET, _SNAPLEN = 1, 0
_MAX_SEGMENT = 60_000
_ACK_PUSH = 0x18


@dataclass(frozen=True, slots=True)
class Packet:
    """Bytes that went one way of a connection.

    Args:
        stream: tells connections apart.
        at_s: seconds since the epoch.
        source, destination: (address, port).
        offset: of the first byte in what went this way; what was not recorded before it shows as a gap.
            None: it follows what came before.
    """

    stream: int
    at_s: float
    source: tuple[str, int]
    destination: tuple[str, int]
    data: bytes
    comment: str = ""
    offset: int | None = None


@dataclass(slots=True)
class PcapngWriter:
    """Turns packets into blocks; `header` comes first."""

    _sent: dict[tuple[int, tuple[str, int]], int] = field(default_factory=dict)

    def header(self, application: str) -> bytes:
        """The section and its one interface, times in microseconds."""
        section = struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + _options((_APPLICATION, application.encode()))
        interface = struct.pack("<HHI", _ETHERNET, 0, _SNAPLEN)
        interface += _options((_NAME, b"plaintext"), (_TSRESOL, b"\x06"))
        return _block(_SECTION, section) + _block(_INTERFACE, interface)

    def packet(self, packet: Packet) -> bytes:
        """One block for each segment."""
        data, found = packet.data, b""
        if packet.offset is not None:
            self._sent[packet.stream, packet.source] = (1 + packet.offset) & 0xFFFFFFFF
        for start in range(0, len(data), _MAX_SEGMENT):
            frame = self._frame(packet, data[start : start + _MAX_SEGMENT])
            micros = int(packet.at_s * 1_000_000)
            head = struct.pack("<IIIII", 0, micros >> 32, micros & 0xFFFFFFFF, len(frame), len(frame))
            comment = ((_COMMENT, packet.comment.encode()),) if packet.comment else ()
            found += _block(_PACKET, head + _padded(frame) + _options(*comment))
        return found

    def _frame(self, packet: Packet, data: bytes) -> bytes:
        mine, theirs = (packet.stream, packet.source), (packet.stream, packet.destination)
        sequence, acknowledged = self._sent.get(mine, 1), self._sent.get(theirs, 1)
        self._sent[mine] = (sequence + len(data)) & 0xFFFFFFFF
        ports = (packet.source[1], packet.destination[1])
        tcp = struct.pack(">HHIIBBHHH", *ports, sequence, acknowledged, 5 << 4, _ACK_PUSH, 0xFFFF, 0, 0)
        ends = [ipaddress.ip_address(each[0]) for each in (packet.source, packet.destination)]
        size = len(tcp) + len(data)
        if ends[0].version == 4:
            ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + size, 0, 0x4000, 64, 6, 0)
            kind = b"\x08\x00"
        else:
            ip = struct.pack(">IHBB", 6 << 28, size, 6, 64)
            kind = b"\x86\xdd"
        ip += ends[0].packed + ends[1].packed
        return bytes(12) + kind + ip + tcp + data


def _block(kind: int, body: bytes) -> bytes:
    size = len(body) + 12
    return struct.pack("<II", kind, size) + body + struct.pack("<I", size)


def _options(*items: tuple[int, bytes]) -> bytes:
    found = b"".join(struct.pack("<HH", code, len(value)) + _padded(value) for code, value in items)
    return found + struct.pack("<HH", 0, 0) if items else b""


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
