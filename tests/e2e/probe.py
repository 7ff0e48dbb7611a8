"""What can be reached from a network namespace, tried as root with the host's own Python; prints JSON.

python -m tests.e2e.probe reach '{"name": ["tcp", "192.0.2.1", 80], "other": ["ping", "192.0.2.1", 0]}'
python -m tests.e2e.probe ports ADDRESS
python -m tests.e2e.probe neighbours NETWORK/PREFIX
python -m tests.e2e.probe speak '{"address": …, "server_name": …, "request": …, "enrol": {…}, "tls": "1.3"}'
"""

import ipaddress
import json
import socket
import ssl
import struct
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from certs.bundle import TrustBundle
from certs.csr import csr_to_pem, make_csr
from certs.identity import Identity
from certs.keys import generate_key, key_to_pem
from certs.spiffe import SpiffeId
from certs.tls import client_context

PATIENCE_S = 3.0
TRUST_DOMAIN = "cluster.local"
DNS_QUESTION = (
    b"\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07outside\x07example\x03com\x00\x00\x01\x00\x01"
)


def checksum(data: bytes) -> int:
    """RFC 1071."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF


def ask(kind: str, host: str, port: int) -> None:
    """Send one question and wait for a sign of life; raises OSError when there is none."""
    if kind == "tcp":
        socket.create_connection((host, port), PATIENCE_S).close()
    elif kind == "udp":
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(PATIENCE_S)
            sock.connect((host, port))
            sock.send(DNS_QUESTION if port == 53 else b"anyone?")
            sock.recv(512)
    else:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
            sock.settimeout(PATIENCE_S)
            sock.connect((host, 0))
            head = struct.pack("!BBHHH", 8, 0, 0, 7, 7)
            sock.send(struct.pack("!BBHHH", 8, 0, checksum(head), 7, 7))
            sock.recv(512)


def reach(target: list) -> str:
    """`answered`, `refused` (so something is there), `no route` or `silence`."""
    try:
        ask(*target)
    except ConnectionRefusedError:
        return "refused"
    except TimeoutError:
        return "silence"
    except OSError:
        return "no route"
    return "answered"


def reach_all(targets: dict[str, list]) -> dict[str, str]:
    """Try every target at once."""
    with ThreadPoolExecutor(32) as pool:
        return dict(zip(targets, pool.map(reach, targets.values()), strict=True))


def open_ports(host: str) -> list[int]:
    """Every TCP port that accepts, of all there are."""
    found = []
    for port in range(1, 65536):
        with socket.socket() as sock:
            sock.settimeout(PATIENCE_S)
            if sock.connect_ex((host, port)) == 0:
                found.append(port)
    return found


def neighbours(network: str) -> list[str]:
    """Whoever answers ARP on a network."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for address in ipaddress.ip_network(network).hosts():
            try:
                sock.sendto(b"anyone?", (str(address), 9))
            except OSError:
                continue
    time.sleep(PATIENCE_S)
    rows = [line.split() for line in Path("/proc/thread-self/net/arp").read_text().splitlines()[1:]]
    return sorted(row[0] for row in rows if int(row[2], 16) & 2)


def enrol(what: dict) -> Identity:
    """A certificate from the control plane, as a sidecar asks for one; raises HTTPError with its reason."""
    namespace, _, name = what["service"].partition("/")
    key = generate_key()
    csr = csr_to_pem(make_csr(key, SpiffeId.for_service(TRUST_DOMAIN, namespace, name)))
    body = {"csr": csr, **{word: what[word] for word in ("service", "task", "token")}}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(cadata=what["bundle"])
    request = urllib.request.Request(
        f"https://{what['control_plane']}:15012/v1/certificates",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=20, context=context) as answer:
        return Identity.from_pem(json.load(answer)["chain"].encode(), key_to_pem(key))


def context_of(what: dict) -> ssl.SSLContext:
    """The caller's side of TLS: with a certificate of the mesh, or with none; of one version, where asked."""
    if "enrol" in what:
        bundle = TrustBundle.from_pem(TRUST_DOMAIN, what["enrol"]["bundle"].encode())
        context = client_context(enrol(what["enrol"]), bundle, alpn=("http/1.1",))
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if what.get("tls") == "1.2":
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def speak(what: dict) -> dict:
    """One request to a sidecar's mesh port: what TLS came to, whom the server proved to be, what it said."""
    try:
        context = context_of(what)
    except urllib.error.HTTPError as error:
        return {"enrolment": error.code, "reason": json.load(error).get("detail")}
    with socket.create_connection((what["address"], 15443), 10) as plain:
        if what.get("tls") == "none":
            plain.sendall(what["request"].encode())
            return {"answer": plain.recv(65536).decode("latin-1")}
        try:
            with context.wrap_socket(plain, server_hostname=what["server_name"]) as tls:
                names = (tls.getpeercert() or {}).get("subjectAltName", ())
                tls.sendall(what["request"].encode())
                answer = tls.recv(65536).decode("latin-1")
                return {"version": tls.version(), "server": [uri for _, uri in names], "answer": answer}
        except (ssl.SSLError, ConnectionError) as error:
            return {"refused": str(error)}


if __name__ == "__main__":
    COMMANDS = {
        "reach": lambda text: reach_all(json.loads(text)),
        "ports": open_ports,
        "neighbours": neighbours,
        "speak": lambda text: speak(json.loads(text)),
    }
    print(json.dumps(COMMANDS[sys.argv[1]](sys.argv[2])))
