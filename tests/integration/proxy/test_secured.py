"""TLS as the sidecar carries it: what the protocol above is told, and what the peer sees."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl

import pytest

from certs.tls import client_context, server_context
from proxy.net.secured import Secured
from tests.helpers.pki import mesh_pki


@pytest.fixture(scope="module")
def pki():
    return mesh_pki()


@pytest.fixture(scope="module")
def server_tls(pki):
    return server_context(pki.identity("shop", "api"), pki.bundle, alpn=("http/1.1",))


@pytest.fixture(scope="module")
def client_tls(pki):
    return client_context(pki.identity("shop", "web"), pki.bundle, alpn=("http/1.1",))


class Above(asyncio.Protocol):
    """Writes down what it is told.

    Args:
        goes_on: writes on after the peer's end.
    """

    goes_on = False

    def __init__(self):
        self.told = []
        self.why = None
        self.received = b""
        self.changed = asyncio.Event()
        self.lost = asyncio.Event()

    def connection_made(self, transport):
        self.transport = transport
        self.note("made")

    def data_received(self, data):
        self.received += data
        self.note("data")

    def eof_received(self):
        self.note("eof")
        return self.goes_on

    def pause_writing(self):
        self.note("pause")

    def resume_writing(self):
        self.note("resume")

    def connection_lost(self, exc):
        self.why = exc
        self.note("lost")
        self.lost.set()

    def note(self, what):
        if self.told[-1:] != [what]:
            self.told.append(what)
        self.changed.set()

    async def until(self, is_so):
        async with asyncio.timeout(10):
            while not is_so(self):
                self.changed.clear()
                await self.changed.wait()


@contextlib.asynccontextmanager
async def serving(context, failures=None, build=Above):
    """A port, and the protocols of who came through the handshake."""
    loop, met = asyncio.get_running_loop(), []
    arrived = asyncio.Event()

    def made():
        met.append(build())
        arrived.set()
        return met[-1]

    def accept():
        failed = failures.append if failures is not None else None
        return Secured(loop, context, made, on_failed=failed, is_server=True).as_protocol()

    server = await loop.create_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], met, arrived
    finally:
        server.close()


@contextlib.asynccontextmanager
async def dialled(port, context):
    """A client of the loop's own TLS: reader and writer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="api")
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def by_hand(port, context):
    """A client whose records are in the test's hand: after the handshake, where they go, and the way out."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="api")
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            writer.write(outgoing.read())
            incoming.write(await reader.read(65536))
        else:
            return tls, outgoing, writer


class Failures(list):
    """Why handshakes failed, and a word when the first did."""

    def __init__(self):
        super().__init__()
        self.begun = asyncio.Event()

    def append(self, error):
        super().append(error)
        self.begun.set()


async def met_by(met, arrived):
    async with asyncio.timeout(10):
        await arrived.wait()
    return met[0]


@pytest.mark.parametrize("size", [1, 16 * 1024, 16 * 1024 + 1, 3_000_001])
async def test_what_is_written_arrives_whole_in_both_directions(size, server_tls, client_tls):
    content = bytes(range(256)) * (size // 256 + 1)
    async with serving(server_tls) as (port, met, arrived), dialled(port, client_tls) as (reader, writer):
        writer.write(content[:size])
        above = await met_by(met, arrived)
        await above.until(lambda it: len(it.received) == size)
        assert above.received == content[:size]
        above.transport.write(memoryview(content)[:size])
        assert await reader.readexactly(size) == content[:size]


async def test_records_that_come_byte_by_byte_are_read_as_they_end(server_tls, client_tls):
    async with serving(server_tls) as (port, met, arrived):
        tls, outgoing, writer = await by_hand(port, client_tls)
        tls.write(b"first")
        tls.write(b"second" * 100)
        for byte in outgoing.read():
            writer.write(bytes((byte,)))
            await asyncio.sleep(0)
        above = await met_by(met, arrived)
        await above.until(lambda it: len(it.received) == 605)
        assert above.received == b"first" + b"second" * 100
        writer.close()
        await above.lost.wait()
        assert above.told[-1] == "lost"
        assert "eof" not in above.told, "an end without a goodbye is no end of the message"


async def test_a_goodbye_is_told_and_answered(server_tls, client_tls):
    async with serving(server_tls) as (port, met, arrived), dialled(port, client_tls) as (reader, writer):
        writer.write(b"hello")
        above = await met_by(met, arrived)
        await above.until(lambda it: it.received == b"hello")
        writer.close()
        async with asyncio.timeout(10):
            await above.lost.wait()
            assert await reader.read() == b""
        assert above.told == ["made", "data", "eof", "lost"]
        assert above.transport.is_closing()


async def test_who_closes_reads_on_until_the_peer_has_said_goodbye(server_tls, client_tls):
    """A connection closed over what was not read is reset, and takes the last answer with it."""
    async with serving(server_tls) as (port, met, arrived), dialled(port, client_tls) as (reader, writer):
        writer.write(b"x" * 200_000)
        above = await met_by(met, arrived)
        await above.until(lambda it: it.received)
        above.transport.write(b"no more, thank you")
        above.transport.close()
        above.transport.write(b"too late")
        writer.write(b"y" * 200_000)
        async with asyncio.timeout(10):
            assert await reader.read() == b"no more, thank you"
            await above.lost.wait()
        assert b"y" not in above.received


async def test_who_pauses_is_given_nothing_until_it_resumes(server_tls, client_tls):
    async with serving(server_tls) as (port, met, arrived), dialled(port, client_tls) as (_, writer):
        writer.write(b"a")
        above = await met_by(met, arrived)
        await above.until(lambda it: it.received == b"a")
        above.transport.pause_reading()
        writer.write(b"b" * 100_000)
        await asyncio.sleep(0.1)
        assert above.received == b"a"
        above.transport.resume_reading()
        await above.until(lambda it: len(it.received) == 100_001)


async def test_who_writes_faster_than_the_peer_reads_is_paused(server_tls, client_tls):
    async with serving(server_tls) as (port, met, arrived), dialled(port, client_tls) as (reader, writer):
        writer.write(b"a")
        above = await met_by(met, arrived)
        above.transport.set_write_buffer_limits(high=65536)
        size = 0
        while "pause" not in above.told and size < 1 << 28:
            above.transport.write(b"z" * 65536)
            size += 65536
        assert above.transport.get_write_buffer_size() > 65536
        assert await reader.readexactly(size) == b"z" * size
        await above.until(lambda it: it.told[-1] == "resume")


async def test_a_successor_reads_on(server_tls, client_tls):
    async with serving(server_tls) as (port, met, arrived), dialled(port, client_tls) as (_, writer):
        writer.write(b"one")
        above = await met_by(met, arrived)
        await above.until(lambda it: it.received == b"one")
        successor = Above()
        above.transport.set_protocol(successor)
        writer.write(b"two")
        await successor.until(lambda it: it.received == b"two")
        writer.close()
        await successor.until(lambda it: "lost" in it.told)
        assert "lost" not in above.told


async def test_who_is_not_believed_is_told_so_and_no_protocol_is_made(server_tls):
    stranger = mesh_pki()
    failures = []
    context = client_context(stranger.identity("shop", "web"), stranger.bundle, alpn=())
    context.verify_mode = ssl.CERT_NONE
    async with serving(server_tls, failures) as (port, met, _):
        with pytest.raises(ssl.SSLError, match=r"(?i)alert.unknown.ca"):
            async with asyncio.timeout(10), dialled(port, context) as (reader, _):
                await reader.read()
        assert met == []
        assert [type(each) for each in failures] == [ssl.SSLCertVerificationError]


@pytest.mark.parametrize("said", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"\0" * 70_000, b""])
async def test_what_is_no_handshake_is_refused_once(said, server_tls):
    failures = Failures()
    async with serving(server_tls, failures) as (port, met, _):
        with socket.create_connection(("127.0.0.1", port)) as plain:
            plain.sendall(said)
            plain.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(10):
                await failures.begun.wait()
        await asyncio.sleep(0.05)
        assert met == []
        assert len(failures) == 1


async def test_a_record_that_was_changed_ends_the_connection(server_tls, client_tls):
    async with serving(server_tls) as (port, met, arrived):
        tls, outgoing, writer = await by_hand(port, client_tls)
        tls.write(b"good")
        good = outgoing.read()
        tls.write(b"evil")
        bad = bytearray(outgoing.read())
        bad[-1] ^= 1
        writer.write(good + bad)
        above = await met_by(met, arrived)
        async with asyncio.timeout(10):
            await above.lost.wait()
        assert above.received == b"good"
        assert "eof" not in above.told
        writer.close()


async def test_a_handshake_that_takes_too_long_is_ended(server_tls):
    failures, accepted = [], asyncio.Queue()
    loop = asyncio.get_running_loop()

    def accept():
        secured = Secured(loop, server_tls, Above, on_failed=failures.append, is_server=True)
        accepted.put_nowait(secured)
        return secured.as_protocol()

    server = await loop.create_server(accept, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    async with asyncio.timeout(10):
        secured = await accepted.get()
        secured.expire()
        secured.expire()
        assert await reader.read() == b""
    assert list(map(str, failures)) == ["the TLS handshake takes too long"]
    writer.close()
    server.close()


async def test_both_ends_may_be_ours_and_either_may_abort(server_tls, client_tls):
    loop = asyncio.get_running_loop()
    async with serving(server_tls) as (port, met, arrived):
        mine, opened = Above(), asyncio.Event()
        ours = Secured(loop, client_tls, lambda: mine, on_open=opened.set, server_name="api")
        await loop.create_connection(ours.as_protocol, "127.0.0.1", port)
        async with asyncio.timeout(10):
            await opened.wait()
        assert mine.transport.get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
        assert mine.transport.get_extra_info("peername")[1] == port
        mine.transport.writelines([b"a", b"b"])
        above = await met_by(met, arrived)
        await above.until(lambda it: it.received == b"ab")
        above.transport.abort()
        async with asyncio.timeout(10):
            await mine.lost.wait()
            await above.lost.wait()
        assert "eof" not in mine.told


class Halves(Above):
    """Knows that a goodbye ends one direction only."""

    goes_on = True

    def connection_made(self, transport):
        transport.is_half_closable = True
        super().connection_made(transport)


@contextlib.asynccontextmanager
async def both_ours(server_tls, client_tls):
    """A client and a server that have agreed on half-closing."""
    async with serving(server_tls, build=Halves) as (port, met, arrived):
        mine, opened = Halves(), asyncio.Event()
        ours = Secured(
            asyncio.get_running_loop(), client_tls, lambda: mine, on_open=opened.set, server_name="api"
        )
        await asyncio.get_running_loop().create_connection(ours.as_protocol, "127.0.0.1", port)
        async with asyncio.timeout(10):
            await opened.wait()
        yield mine, await met_by(met, arrived)
        mine.transport.abort()


@pytest.mark.parametrize("is_late", [False, True])
async def test_a_direction_ends_by_itself_where_both_have_agreed(is_late, server_tls, client_tls):
    """Said at once, before the server's tickets have come, or later; the other direction goes on for as long
    as it likes."""
    async with both_ours(server_tls, client_tls) as (mine, above):
        mine.transport.write(b"question")
        if is_late:
            await above.until(lambda it: it.received)
        assert mine.transport.can_write_eof()
        mine.transport.write_eof()
        mine.transport.write(b"too late")
        await above.until(lambda it: it.told[-1] == "eof")
        assert above.received == b"question"
        sent = b""
        for size in (1, 100_000, 16 * 1024):
            sent += b"x" * size
            above.transport.write(b"x" * size)
            await mine.until(lambda it, sent=sent: it.received == sent)
        assert not above.transport.is_closing()
        above.transport.write(b"answer")
        above.transport.write_eof()
        async with asyncio.timeout(10):
            await mine.lost.wait()
            await above.lost.wait()
        assert mine.received == sent + b"answer"
        assert (mine.told[-2:], above.told[-1]) == (["eof", "lost"], "lost")
        assert (mine.why, above.why) == (None, None)


async def test_a_goodbye_waits_for_what_has_come_and_is_not_read(server_tls, client_tls):
    """OpenSSL breaks on content that it finds while it says goodbye."""
    async with both_ours(server_tls, client_tls) as (mine, above):
        above.transport.write(b"a")
        await mine.until(lambda it: it.received)
        mine.transport.pause_reading()
        above.transport.write(b"b" * 100_000)
        await asyncio.sleep(0.05)
        mine.transport.write(b"question")
        mine.transport.write_eof()
        await above.until(lambda it: it.received == b"question")
        mine.transport.resume_reading()
        await above.until(lambda it: it.told[-1] == "eof")
        above.transport.write(b"c")
        above.transport.close()
        async with asyncio.timeout(10):
            await mine.lost.wait()
        assert mine.received == b"a" + b"b" * 100_000 + b"c"
        assert mine.why is None


@pytest.mark.parametrize("is_said", [False, True])
async def test_an_end_without_a_goodbye_is_a_fault_where_both_have_agreed(is_said, server_tls, client_tls):
    async with both_ours(server_tls, client_tls) as (mine, above):
        above.transport.write(b"half of it")
        await mine.until(lambda it: it.received)
        if is_said:
            mine.transport.write_eof()
            await above.until(lambda it: it.told[-1] == "eof")
        above.transport.abort()
        async with asyncio.timeout(10):
            await mine.lost.wait()
        assert isinstance(mine.why, ConnectionResetError)
        assert "eof" not in mine.told


async def test_nothing_counts_that_follows_a_goodbye(server_tls, client_tls):
    async with serving(server_tls, build=Halves) as (port, met, arrived):
        tls, outgoing, writer = await by_hand(port, client_tls)
        tls.write(b"first")
        with pytest.raises(ssl.SSLWantReadError):
            tls.unwrap()
        writer.write(outgoing.read() + b"no record at all")
        above = await met_by(met, arrived)
        await above.until(lambda it: it.told[-1] == "eof")
        writer.write(b"\x17\x03\x03\x00\x02xx" * 1000)
        await asyncio.sleep(0.05)
        above.transport.write(b"answer")
        assert above.told == ["made", "data", "eof"]
        above.transport.close()
        async with asyncio.timeout(10):
            await above.lost.wait()
        assert above.received == b"first"
        writer.close()
