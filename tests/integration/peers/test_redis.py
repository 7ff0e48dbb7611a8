"""A real Redis over opaque TCP, through two sidecars with mTLS."""

from __future__ import annotations

import hashlib
import shutil
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest

from meshpy.model.endpoint import Protocol
from tests.helpers.peers import App, Call, api_snapshot, start_sidecar, web_snapshot
from tests.helpers.ports import free_port
from tests.helpers.sidecars import LOOPBACK

pytestmark = pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")


class Redis:
    """As much of RESP2 as these tests need."""

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection((LOOPBACK, port), timeout=20)
        self.file = self.sock.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.sock.close()

    @staticmethod
    def wire(*words: bytes) -> bytes:
        return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)

    def reply(self):
        line = self.file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind == b"$":
            return None if rest == b"-1" else self.file.read(int(rest) + 2)[:-2]
        return int(rest) if kind == b":" else rest

    def call(self, *words: bytes):
        self.sock.sendall(self.wire(*words))
        return self.reply()


@pytest.fixture(scope="module")
def redis(processes, pki):
    """The port where `web` finds Redis."""
    app, port, entry = free_port(), 6379, free_port()
    options = ["--bind", LOOPBACK, "--save", "", "--appendonly", "no", "--dir", processes.folder]
    processes.start(["redis-server", "--port", app, *options], app)
    api = start_sidecar(processes, pki, api_snapshot(App(port, app, Protocol.TCP)))
    start_sidecar(processes, pki, web_snapshot(Call(entry, port, api.mesh, Protocol.TCP)), entry)
    return entry


def test_ten_thousand_commands_in_one_pipeline_are_answered_in_order(redis):
    with Redis(redis) as client, ThreadPoolExecutor(1) as pool:
        commands = b"".join(client.wire(b"INCR", b"count") for _ in range(10_000))
        sent = pool.submit(client.sock.sendall, commands)
        assert [client.reply() for _ in range(10_000)] == list(range(1, 10_001))
        sent.result()


def test_ten_megabytes_come_back_as_they_went(redis):
    value = b"".join(hashlib.sha256(b"%d" % n).digest() for n in range(10 * 1024 * 1024 // 32))
    with Redis(redis) as client:
        assert client.call(b"SET", b"big", value) == b"OK"
        assert client.call(b"GET", b"big") == value


def test_fifty_connections_at_once_do_not_mix(redis):
    def work(number: int) -> bool:
        with Redis(redis) as client:
            own = b"key-%d" % number
            return all(
                client.call(b"SET", own, b"%d" % n) == b"OK" and client.call(b"GET", own) == b"%d" % n
                for n in range(20)
            )

    with ThreadPoolExecutor(50) as pool:
        assert list(pool.map(work, range(50))) == [True] * 50


def test_answers_arrive_after_the_client_has_closed_its_sending_side(redis):
    with Redis(redis) as client:
        client.sock.sendall(client.wire(b"SET", b"half", b"closed") + client.wire(b"GET", b"half"))
        client.sock.shutdown(socket.SHUT_WR)
        assert (client.reply(), client.reply()) == (b"OK", b"closed")
        assert client.file.read() == b""
