"""A real NATS server, which speaks first, through two sidecars with mTLS; declared opaque, and sniffed."""

from __future__ import annotations

import json
import shutil
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from meshpy.model.endpoint import Protocol
from tests.helpers.peers import App, Call, api_snapshot, start_sidecar, web_snapshot
from tests.helpers.ports import free_port
from tests.helpers.sidecars import LOOPBACK

pytestmark = pytest.mark.skipif(shutil.which("nats-server") is None, reason="nats-server is not installed")


class Nats:
    """As much of its protocol as these tests need."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection((LOOPBACK, port), timeout=20)
        self.file = self.sock.makefile("rb")
        kind, _, info = self.file.readline().partition(b" ")
        assert kind == b"INFO"
        self.info = json.loads(info)
        self.send(b'CONNECT {"verbose":false}\r\nPING\r\n')
        assert self.file.readline() == b"PONG\r\n"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def message(self) -> bytes:
        words = self.file.readline().split()
        assert words[0] == b"MSG", words
        return self.file.read(int(words[-1]) + 2)[:-2]


@pytest.fixture(scope="module", params=[Protocol.TCP, Protocol.AUTO], ids=str)
def nats(request, processes, pki):
    """The port where `web` finds NATS."""
    app, port, entry = free_port(), 4222, free_port()
    processes.start(["nats-server", "-a", LOOPBACK, "-p", app], app)
    protocol = request.param
    api = start_sidecar(processes, pki, api_snapshot(App(port, app, protocol), ingress=False))
    start_sidecar(processes, pki, web_snapshot(Call(entry, port, api.mesh, protocol)), entry)
    return entry


def test_the_server_s_first_word_arrives(nats):
    with Nats(nats) as client:
        assert client.info["max_payload"] == 1024 * 1024


def test_ten_thousand_messages_arrive_in_order(nats):
    with Nats(nats) as reader, Nats(nats) as writer, ThreadPoolExecutor(1) as pool:
        reader.send(b"SUB orders 1\r\nPING\r\n")
        assert reader.file.readline() == b"PONG\r\n"
        text = b"".join(b"PUB orders %d\r\n%d\r\n" % (len(b"%d" % n), n) for n in range(10_000))
        sent = pool.submit(writer.send, text)
        assert [int(reader.message()) for _ in range(10_000)] == list(range(10_000))
        sent.result()


def test_a_message_of_a_mebibyte_arrives_whole(nats):
    payload = bytes(range(256)) * 4096
    with Nats(nats) as client:
        client.send(b"SUB big 1\r\nPUB big %d\r\n%b\r\n" % (len(payload), payload))
        assert client.message() == payload
