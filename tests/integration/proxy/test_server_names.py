"""TLS pass-through by server name: real TLS clients and servers, one listener, nothing decrypted."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import tempfile
from pathlib import Path

import pytest

from meshpy.model.authz import Authorization
from meshpy.model.endpoint import Protocol
from meshpy.model.route import Destination, TcpRoute
from meshpy.model.snapshot import OutboundListener, Snapshot, Workload
from proxy import opaque
from tests.helpers.backends import raw_server, server_closed
from tests.helpers.pki import MeshPki
from tests.helpers.ports import free_port
from tests.helpers.sidecars import (
    LOOPBACK,
    WEB,
    LogLines,
    plain_cluster,
    running,
)


@contextlib.asynccontextmanager
async def tls_server(pki: MeshPki, name: str):
    """A TLS server that says its name, and whatever it read, reversed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        pki.save_identity(Path(folder), "shop", name)
        context.load_cert_chain(Path(folder) / "tls.crt", Path(folder) / "tls.key")

    async def serve(reader, writer):
        with contextlib.suppress(ConnectionError):
            writer.write(name.encode() + b"\n")
            writer.write((await reader.readline())[::-1])
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, LOOPBACK, 0, ssl=context)
    async with server_closed(server):
        yield server.sockets[0].getsockname()[1]


async def said(port: int, server_name: str | None) -> str:
    """Who answers a TLS client with this server name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    reader, writer = await asyncio.open_connection(
        LOOPBACK, port, ssl=context, server_hostname=server_name or ""
    )
    writer.write(b"abc\n")
    name = (await reader.readline()).decode().strip()
    assert await reader.readline() == b"\n"
    assert await reader.read() == b"cba"
    writer.close()
    return name


def snapshot_of(
    port: int, clusters: dict[str, int], routes: tuple[TcpRoute, ...], default: TcpRoute | None
) -> Snapshot:
    listener = OutboundListener(LOOPBACK, port, Protocol.TLS, tcp=default, opaque=routes)
    known = {name: plain_cluster(number, name=name) for name, number in clusters.items()}
    return Snapshot("v", 1, Workload(WEB, "mesh.test"), Authorization(), (), (listener,), known)


def to(cluster: str, *names: str, subnets: tuple[str, ...] = ()) -> TcpRoute:
    return TcpRoute(
        f"{cluster}.shop", (Destination(cluster, host=cluster),), "VirtualService shop/p", names, subnets
    )


async def test_the_server_name_tells_which_destination_is_meant(pki):
    port, log = free_port(), LogLines()
    async with tls_server(pki, "a") as a, tls_server(pki, "b") as b, tls_server(pki, "rest") as rest:
        routes = (to("a", "a.example", "*.a.example"), to("b", "b.example"))
        snapshot = snapshot_of(port, {"a": a, "b": b, "rest": rest}, routes, to("rest"))
        async with running(snapshot, pki, log=log.log):
            names = ("a.example", "x.a.example", "B.example", "c.example", None)
            found = [await said(port, name) for name in names]
            await asyncio.sleep(0.05)
            lines = log.lines()
    assert found == ["a", "a", "b", "rest", "rest"]
    assert [line["requested_server_name"] for line in lines][:3] == ["a.example", "x.a.example", "b.example"]


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x00", b""])
async def test_without_a_default_what_is_not_named_is_closed_and_logged(pki, data):
    port, log = free_port(), LogLines()
    async with tls_server(pki, "a") as a:
        snapshot = snapshot_of(port, {"a": a}, (to("a", "a.example"),), None)
        async with running(snapshot, pki, log=log.log):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            writer.write(data)
            if not data:
                writer.write_eof()
            async with asyncio.timeout(3):
                assert await reader.read() == b""
            writer.close()
            await asyncio.sleep(0.05)
            (line,) = log.lines()
    assert (line["response_flags"], line["connection_termination_details"]) == (
        "NR",
        "filter_chain_not_found",
    )


async def test_a_client_that_sends_no_hello_is_not_waited_for_longer_than_its_deadline(pki, monkeypatch):
    """A server-first protocol behind a listener by name: after the deadline the default route serves it."""
    monkeypatch.setattr(opaque, "HELLO_TIMEOUT_S", 0.2)

    async def greet(reader, writer):
        writer.write(b"220 ready\r\n")
        writer.write(await reader.readline())

    port = free_port()
    async with raw_server(greet) as app:
        snapshot = snapshot_of(port, {"a": app, "d": app}, (to("a", "a.example"),), to("d"))
        async with running(snapshot, pki):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            async with asyncio.timeout(5):
                assert await reader.readline() == b"220 ready\r\n"
                writer.write(b"HELO\r\n")
                assert await reader.readline() == b"HELO\r\n"
            writer.close()


async def test_a_hello_in_pieces_arrives_whole(pki):
    port = free_port()
    async with tls_server(pki, "a") as a:
        snapshot = snapshot_of(port, {"a": a}, (to("a", "a.example"),), None)
        async with running(snapshot, pki):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = context.wrap_bio(incoming, outgoing, server_hostname="a.example")
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            with pytest.raises(ssl.SSLWantReadError):
                tls.do_handshake()
            for octet in outgoing.read():
                writer.write(bytes([octet]))
                await writer.drain()
            async with asyncio.timeout(3):
                incoming.write(await reader.read(65536))
            tls.do_handshake()
            writer.close()


async def test_a_destination_address_decides_where_the_policy_asks_for_it(pki):
    async def greet(_reader, writer):
        writer.write(b"near")

    port = free_port()
    async with raw_server(greet) as app:
        routes = (to("a", subnets=("127.0.0.0/8",)),)
        async with running(snapshot_of(port, {"a": app, "d": free_port()}, routes, to("d")), pki):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            async with asyncio.timeout(3):
                assert await reader.readexactly(4) == b"near"
            writer.close()
