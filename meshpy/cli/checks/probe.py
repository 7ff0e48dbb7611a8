"""The program that `meshpy check` sends to every node, as text for `python3 -c`: standard library only.

`across`: one task per node on a plain and on an encrypted network. Each finds the others by name, connects to
all of them on both networks and through the virtual address, compares clocks, and prints one line of
JSON. `within`: a task on an app's network, which tries to reach what it must not.
It is sent from the operator's machine, so any image with a Python will do and versions need not agree.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import sys
import threading
import time
from typing import Any

PORT = 15999
CONNECT_S = 3.0
PROXIED = "virtual"


def serve() -> None:
    """Answer each connection with this node's name and clock."""
    listener = socket.create_server(("0.0.0.0", PORT), backlog=64)
    while True:
        connection, _ = listener.accept()
        with contextlib.suppress(OSError), connection:
            told = {"node": os.environ["NODE"], "time": time.time()}
            connection.sendall(json.dumps(told).encode())


def ask(address: str) -> dict[str, Any] | None:
    """Who answers at an address, and how far its clock is ahead, in seconds; None when nobody does."""
    begin = time.time()
    try:
        with socket.create_connection((address, PORT), timeout=CONNECT_S) as connection:
            data = b""
            while chunk := connection.recv(4096):
                data += chunk
    except OSError:
        return None
    told = json.loads(data)
    return {"node": told["node"], "ahead_s": told["time"] - (begin + time.time()) / 2}


def look_up(name: str) -> list[str]:
    """All addresses of a name."""
    try:
        return sorted({str(each[4][0]) for each in socket.getaddrinfo(name, PORT, socket.AF_INET)})
    except OSError:
        return []


def across(service: str, networks: list[str], peers: int, seconds: float) -> dict[str, Any]:
    """One task of `peers`, one per node; `networks` are a plain and an encrypted one."""
    threading.Thread(target=serve, daemon=True).start()
    deadline = time.monotonic() + seconds
    found: dict[str, list[str]] = {}
    while time.monotonic() < deadline:
        found = {network: look_up("tasks." + service + "." + network) for network in networks}
        if all(len(addresses) >= peers for addresses in found.values()):
            break
        time.sleep(0.5)
    told = {network: {a: ask(a) for a in addresses} for network, addresses in found.items()}
    virtual = {each for network in networks[:1] for each in look_up(service + "." + network)}
    answers = [ask(each) for each in sorted(virtual - set(found[networks[0]]))]
    virtual_works = None if not answers else all(answers)
    return {"node": os.environ["NODE"], "reached": told, PROXIED: virtual_works, "esp": esp()}


def esp() -> str:
    """Whether this kernel takes an ESP state as dockerd sets it: "" when it does, else why not.

    Source: linux/xfrm.h; libnetwork drivers/overlay/encryption.go uses rfc4106(gcm(aes)).
    """
    try:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 6)  # NETLINK_XFRM
    except OSError as error:
        return "no XFRM (" + str(error.strerror) + ")"
    here, there = socket.inet_aton("192.0.2.1"), socket.inet_aton("192.0.2.2")
    state = bytes(56)  # selector: everything
    state += there + bytes(12) + struct.pack("!I", 0x1234567) + bytes([50, 0, 0, 0])
    state += here + bytes(12) + struct.pack("=4Q", *[2**64 - 1] * 4) + bytes(32)
    state += bytes(32) + bytes(12) + struct.pack("=IIHBBB", 0, 0, socket.AF_INET, 0, 0, 0) + bytes(7)
    aead = b"rfc4106(gcm(aes))".ljust(64, b"\0") + struct.pack("=II", 160, 64) + bytes(20)
    attribute = struct.pack("=HH", 4 + len(aead), 18) + aead  # XFRMA_ALG_AEAD
    body = state + attribute
    head = struct.pack("=IHHII", 16 + len(body), 0x10, 0x5, 1, 0)  # XFRM_MSG_NEWSA, REQUEST | ACK
    with sock:
        try:
            sock.settimeout(CONNECT_S)
            sock.sendto(head + body, (0, 0))
            answer = sock.recv(65536)
        except OSError as error:
            return "? " + str(error)
    code = -struct.unpack("=i", answer[16:20])[0]
    if code == 0:
        return ""
    missing = code in (2, 38, 93)  # ENOENT: no cipher, ENOSYS, EPROTONOSUPPORT: no ESP
    return ("no ESP (" if missing else "? (") + os.strerror(code) + ")"


def reach(address: str, port: int) -> str:
    """How far a connection comes: "open", "refused" (the host is there), or "" (nothing comes back)."""
    try:
        with socket.create_connection((address, port), timeout=CONNECT_S):
            return "open"
    except ConnectionRefusedError:
        return "refused"
    except OSError:
        return ""


def within(targets: list[Any]) -> dict[str, Any]:
    """Try all targets `[label, address, port]` at once; and whether there is a way out at all."""
    found: dict[str, str] = {}

    def attempt(label: str, address: str, port: int) -> None:
        found[label] = reach(address, port)

    threads = [threading.Thread(target=attempt, args=each) for each in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with open("/proc/net/route") as routes:
        way_out = any(line.split()[1] == "00000000" for line in routes.read().splitlines()[1:])
    return {"reached": found, "way_out": way_out}


def main(mode: str, given: dict[str, Any]) -> None:
    """Run, print one line, and stay until the manager ends the task: others may still ask."""
    told = across(**given) if mode == "across" else within(**given)
    print(json.dumps(told), flush=True)
    time.sleep(given.get("seconds", 0) + 30)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
