"""The outside world of a test: a network namespace with RFC 5737 addresses and servers in it.

    containers ── docker_gwbridge ── [engine: 203.0.113.1] ── veth ── [outside: 203.0.113.10, 198.51.100.10]
    other nodes: [engine: 192.0.2.1] ── veth ── [wire: a bridge] ── veth ── [node-2: 192.0.2.2]

The engine's default route leads there, so that whatever leaves a container ends in `outside`, where it is
recorded; no packet leaves the machine. `python -m tests.e2e.world FILE` is the server: HTTP on 80 and TCP
echo on 9000 and UDP echo on 9000 of every address, and DNS on UDP 53, which knows NAMES. Every arrival is
one line of JSON in FILE.
"""

import asyncio
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

NODE = "192.0.2.1"  # the Swarm's node address (TEST-NET-1)
ENGINE, OUTSIDE = "203.0.113.1", "203.0.113.10"  # TEST-NET-3
FARTHER = "198.51.100.10"  # TEST-NET-2, reached by the default route alone
NAMES = {
    "api.stripe.com": OUTSIDE,
    "example.com": OUTSIDE,
    "outside.example.com": OUTSIDE,
    "farther.example.com": FARTHER,
}
START_S = 10


def ip(*arguments: str) -> None:
    """One `ip` command that must succeed."""
    subprocess.run(["ip", *arguments], check=True, timeout=30)


def plug(node: str, address: str, *inside: str) -> None:
    """Connect a node to the wire between nodes; `inside` is `-n NAMESPACE`, or nothing for this one."""
    ip("link", "add", node, "netns", "wire", "type", "veth", "peer", "name", f"{node}-wire")
    if inside:
        ip("link", "set", f"{node}-wire", "netns", inside[-1])
    ip(*inside, "link", "set", f"{node}-wire", "name", "swarm0")
    ip(*inside, "addr", "add", f"{address}/24", "dev", "swarm0")
    ip(*inside, "link", "set", "swarm0", "up")
    ip("-n", "wire", "link", "set", node, "master", "bridge0", "up")


def connect(state: Path) -> None:
    """Lay the wire, start the servers, wait until they listen."""
    ip("link", "set", "lo", "up")
    ip("netns", "add", "wire")
    ip("-n", "wire", "link", "add", "bridge0", "type", "bridge")
    ip("-n", "wire", "link", "set", "bridge0", "up")
    plug("node-1", NODE)
    ip("netns", "add", "outside")
    ip("link", "add", "outside0", "type", "veth", "peer", "name", "engine0", "netns", "outside")
    ip("addr", "add", f"{ENGINE}/24", "dev", "outside0")
    ip("link", "set", "outside0", "up")
    inside = ("-n", "outside")
    ip(*inside, "link", "set", "lo", "up")
    ip(*inside, "addr", "add", f"{FARTHER}/32", "dev", "lo")
    ip(*inside, "addr", "add", f"{OUTSIDE}/24", "dev", "engine0")
    ip(*inside, "link", "set", "engine0", "up")
    ip("route", "add", "default", "via", OUTSIDE)
    seen = state / "outside.jsonl"
    server = [sys.executable, "-m", "tests.e2e.world", str(seen)]
    subprocess.Popen(["ip", "netns", "exec", "outside", *server])
    deadline = time.monotonic() + START_S
    while not seen.exists():
        if time.monotonic() > deadline:
            raise RuntimeError("the outside world does not start")
        time.sleep(0.05)


class Record:
    """The journal of arrivals."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __call__(self, kind: str, peer: str, **what: str) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps({"kind": kind, "peer": peer, **what}) + "\n")


def http_handler(record: Record):
    """Answer one request per connection with what arrived, as JSON."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer, local = writer.get_extra_info("peername")[0], writer.get_extra_info("sockname")[0]
        try:
            head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).decode("latin-1")
        except (asyncio.IncompleteReadError, TimeoutError):
            record("http", peer, local=local, line="")
        else:
            record("http", peer, local=local, line=head.split("\r\n", 1)[0])
            body = json.dumps({"peer": peer, "local": local, "head": head.split("\r\n")}).encode()
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json\r\n")
            writer.write(b"Content-Length: %d\r\n\r\n%s" % (len(body), body))
            await writer.drain()
        writer.close()

    return handle


def echo_handler(record: Record):
    """Send back what comes."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        record("tcp", writer.get_extra_info("peername")[0], local=writer.get_extra_info("sockname")[0])
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()

    return handle


class UdpEcho(asyncio.DatagramProtocol):
    """Send a datagram back."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def connection_made(self, transport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr) -> None:
        self._record("udp", addr[0], data=data.decode("latin-1"))
        self._transport.sendto(data, addr)


class Dns(UdpEcho):
    """RFC 1035 for one question: A of a known name, no data for its other types, NXDOMAIN else."""

    def datagram_received(self, data: bytes, addr) -> None:
        labels, at = [], 12
        while data[at]:
            labels.append(data[at + 1 : at + 1 + data[at]].decode("latin-1"))
            at += 1 + data[at]
        name, question = ".".join(labels).lower(), data[12 : at + 5]
        self._record("dns", addr[0], name=name)
        address = NAMES.get(name)
        is_answered = address is not None and question[-4:-2] == b"\x00\x01"
        flags = b"\x81\x80" if address else b"\x81\x83"
        counts = b"\x00\x01" + (b"\x00\x01" if is_answered else b"\x00\x00") + bytes(4)
        reply = data[:2] + flags + counts + question
        if is_answered:
            reply += b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04" + socket.inet_aton(address)
        self._transport.sendto(reply, addr)


async def serve(path: Path) -> None:
    """Listen everywhere, then say so by creating the journal."""
    record = Record(path)
    loop = asyncio.get_running_loop()
    await asyncio.start_server(http_handler(record), "0.0.0.0", 80)
    await asyncio.start_server(echo_handler(record), "0.0.0.0", 9000)
    for address in (OUTSIDE, FARTHER):  # one socket each: a reply must come from the address that was asked
        await loop.create_datagram_endpoint(lambda: UdpEcho(record), local_addr=(address, 9000))
        await loop.create_datagram_endpoint(lambda: Dns(record), local_addr=(address, 53))
    path.touch()  # noqa: ASYNC240 (once, before anything is served)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1])))
