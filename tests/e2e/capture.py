"""Every packet of a network namespace, until standard input ends; then prints what was seen, as JSON.

    python -m tests.e2e.capture MARKER…

TCP streams are put together by sequence number and read as TLS records (RFC 8446 §5.1), those inside VXLAN
(RFC 7348, between nodes) as well. A marker is looked for in each packet as it went over the wire.
"""

import json
import select
import socket
import struct
import subprocess
import sys
from collections import defaultdict

ETH_P_ALL, ETH_P_IP, TCP, UDP, SYN = 3, 0x0800, 6, 17, 0x02
VXLAN_PORT = 4789
HANDSHAKE, APPLICATION_DATA, CHANGE_CIPHER_SPEC, ALERT = 22, 23, 20, 21
SUPPORTED_VERSIONS = 43
Flow = tuple[str, str, int, str, int]  # interface's address, source, its port, destination, its port


def own_addresses() -> dict[str, str]:
    """Interface → IPv4 address."""
    listed = json.loads(subprocess.run(["ip", "-j", "addr"], capture_output=True, check=True).stdout)
    return {
        link["ifname"]: address["local"]
        for link in listed
        for address in link["addr_info"]
        if address["family"] == "inet"
    }


def read_tcp(packet: bytes) -> tuple[tuple[str, int, str, int], int, bool, bytes] | None:
    """Addresses, sequence number, whether it is a SYN, and payload of a frame with TCP over IPv4."""
    if len(packet) < 54 or struct.unpack_from("!H", packet, 12)[0] != ETH_P_IP or packet[23] != TCP:
        return None
    length, at = struct.unpack_from("!H", packet, 16)[0], 14 + (packet[14] & 0x0F) * 4
    source, destination = socket.inet_ntoa(packet[26:30]), socket.inet_ntoa(packet[30:34])
    from_port, to_port, sequence = struct.unpack_from("!HHI", packet, at)
    payload = packet[at + (packet[at + 12] >> 4) * 4 : 14 + length if length else len(packet)]
    return (source, from_port, destination, to_port), sequence, bool(packet[at + 13] & SYN), payload


def unwrapped(packet: bytes) -> tuple[str, bytes]:
    """The Ethernet frame inside a VXLAN packet, and the number of its network; else the packet itself."""
    if len(packet) > 50 and packet[12:14] == b"\x08\x00" and packet[23] == UDP:
        at = 14 + (packet[14] & 0x0F) * 4
        if struct.unpack_from("!H", packet, at + 2)[0] == VXLAN_PORT:
            return f"vxlan {int.from_bytes(packet[at + 12 : at + 15])}", packet[at + 16 :]
    return "", packet


class Stream:
    """One direction of a connection."""

    def __init__(self) -> None:
        self.first: int | None = None
        self.segments: dict[int, bytes] = {}

    def add(self, sequence: int, is_syn: bool, payload: bytes) -> None:
        if is_syn:
            self.first = sequence + 1
        if payload and len(payload) > len(self.segments.get(sequence, b"")):
            self.segments[sequence] = payload

    def content(self) -> bytes:
        """What was sent, from the beginning or from the first segment seen, as far as nothing is missing."""
        start = self.first if self.first is not None else next(iter(self.segments), 0)
        data = b""
        for at, payload in sorted(((each - start) % 2**32, text) for each, text in self.segments.items()):
            if at > len(data):
                break
            data += payload[len(data) - at :]
        return data


def tls_records(data: bytes) -> tuple[list[int], bytes]:
    """The types of the records in `data`; what is no TLS record is handed back as it is."""
    types = []
    while len(data) >= 5:
        kind, version, length = struct.unpack_from("!BHH", data)
        if not CHANGE_CIPHER_SPEC <= kind <= APPLICATION_DATA or version >> 8 != 3 or length > 16640:
            return types, data
        types.append(kind)
        data = data[5 + length :]
    return types, b""


def negotiated(data: bytes) -> str:
    """The version that a ServerHello at the beginning of `data` chose; empty when there is none."""
    if len(data) < 44 or data[0] != HANDSHAKE or data[5] != 2:
        return ""
    end, at = 5 + struct.unpack_from("!H", data, 3)[0], 43
    at += 1 + data[at] + 3  # session id, cipher suite, compression
    at += 2
    while at < end:
        kind, length = struct.unpack_from("!HH", data, at)
        if kind == SUPPORTED_VERSIONS:
            return data[at + 4 : at + 4 + length].hex()
        at += 4 + length
    return "0303"


def main(markers: list[str]) -> None:
    """Record until standard input ends."""
    addresses, wanted = own_addresses(), [marker.encode() for marker in markers]
    streams: dict[Flow, Stream] = defaultdict(Stream)
    where: dict[str, set[str]] = {marker: set() for marker in markers}
    sources: dict[str, set[str]] = defaultdict(set)
    marked: dict[tuple, None] = {}
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as tap:
        tap.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024 * 1024)
        print("capturing", flush=True)
        while True:
            ready = select.select([tap, sys.stdin], [], [], 1.0)[0]
            if tap in ready:
                packet, (name, *_) = tap.recvfrom(262144)
                network, packet = unwrapped(packet)
                address = network or addresses.get(name, name)
                found = [marker for marker in wanted if marker in packet]
                for marker in found:
                    where[marker.decode()].add(address)
                if (read := read_tcp(packet)) is not None:
                    flow, sequence, is_syn, payload = read
                    if found:
                        marked[address, *flow] = None
                    sources[address].add(flow[0])
                    streams[address, *flow].add(sequence, is_syn, payload)
            elif sys.stdin in ready:
                break
    shown = []
    for (address, source, from_port, destination, to_port), stream in streams.items():
        data = stream.content()
        types, rest = tls_records(data)
        shown.append(
            {
                "interface": address,
                "from": [source, from_port],
                "to": [destination, to_port],
                "is_whole": stream.first is not None,
                "bytes": len(data),
                "types": sorted(set(types)),
                "records": len(types),
                "version": negotiated(data),
                "no_tls": rest[:60].decode("latin-1"),
            }
        )
    told = {
        "streams": shown,
        "markers": {marker: sorted(places) for marker, places in where.items()},
        "marked": list(marked),
        "sources": {address: sorted(found) for address, found in sources.items()},
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1:])
