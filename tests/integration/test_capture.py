"""`meshpy capture`: bytes of a real pair of sidecars in a file for tshark, with who was behind TLS."""

import asyncio
import json
import shutil
import subprocess

import pytest

from meshpy.pcapng import Packet, PcapngWriter
from proxy.control_stream import _packet
from proxy.net.recording import Recording, Way
from tests.helpers.backends import backend, ok
from tests.helpers.control_plane import ADMIN, API, VIEWER, plane
from tests.helpers.meshpy_command import meshpy
from tests.helpers.pki import mesh_pki
from tests.helpers.sidecars import Client
from tests.integration.proxy.test_pair import pair

TSHARK = shutil.which("tshark")
SECRETS = "Authorization: Bearer s3cret\r\nCookie: session=s3cret\r\n"
needs_tshark = pytest.mark.skipif(TSHARK is None, reason="tshark (Debian) is not installed")


async def _recorded(redact):
    """What api's sidecar exchanged with its app for one request of web, and one before the capture."""
    pki = mesh_pki()
    async with (
        backend(lambda _request: ok(b"fine", headers="Set-Cookie: a=s3cret\r\n")) as app,
        pair(pki, app.port) as (port, _, _, api),
        await Client.connect(port) as client,
    ):
        await client.get("/before")
        api.record(1 << 20, is_redacted=redact)
        assert (await client.get("/items?token=s3cret", headers=SECRETS)).status == 200
        found = api.recording.take()
        api.recording.end()
        await client.get("/after")
        assert api.recording.take() == []
        return found, app.port


async def test_the_bytes_are_the_app_s_with_the_identity_of_the_caller():
    found, port = await _recorded(redact=False)
    (asked, answered) = found
    assert asked[4].startswith(b"GET /items?token=s3cret HTTP/1.1\r\n")
    assert (asked[3], answered[2]) == (("127.0.0.1", port), ("127.0.0.1", port))
    assert answered[4].endswith(b"fine")
    assert asked[5] == "TLS peer spiffe://mesh.test/ns/shop/sa/web"
    assert asked[0] == answered[0]


async def test_secrets_are_covered_and_nothing_moves():
    plain, _ = await _recorded(redact=False)
    found, _ = await _recorded(redact=True)
    assert b"s3cret" not in b"".join(each[4] for each in found)
    assert [len(each[4]) for each in found] == [len(each[4]) for each in plain]


async def test_no_more_is_recorded_than_was_asked_for():
    pki = mesh_pki()
    async with (
        backend(lambda _request: ok(b"x" * 5000)) as app,
        pair(pki, app.port) as (port, _, _, api),
        await Client.connect(port) as client,
    ):
        api.record(2000, is_redacted=False)
        for _ in range(3):
            assert len((await client.get("/")).body) == 5000
        found = api.recording.take()
        assert sum(len(each[4]) for each in found) == 2000  # the answer is cut, what comes later is not there
        assert len(found) == 2
        assert api.recording.lost_bytes > 5000


PIECES = [
    b"GET /a?tok",
    b"en=s3cret HTTP/1.1\r\nAuthor",
    b"ization: Bearer s3",
    b"cret\r\nContent-Length: 2\r\n\r\nhi",
    b"GET /b?token=s3cret HTTP/1.1\r\n\r\nGET /c?s3cret HTTP/1.1\r\ncookie: s3",
    b"cret\r\n\r\n",
]


@pytest.mark.parametrize("pieces", [PIECES, [bytes([each]) for each in b"".join(PIECES[:4])]])
def test_a_secret_that_comes_in_pieces_is_covered_whole(pieces):
    recording = Recording()
    recording.begin(1 << 20, is_redacted=True)
    way = Way(1, ("127.0.0.1", 1), ("127.0.0.1", 2))
    for piece in pieces:
        recording.add(way, piece, "")
    found = recording.take()
    shown = b"".join(each[4] for each in found)
    assert b"s3" not in shown
    assert b"cret" not in shown
    assert shown.startswith(b"GET /a?xxxxxxxxxxxx HTTP/1.1\r\nAuthorization: xxxxxxxxxxxxx\r\nContent")
    assert len(shown) == sum(map(len, pieces))
    assert [each[6] for each in found] == [sum(map(len, pieces[:number])) for number in range(len(pieces))]


async def test_a_request_stands_before_the_answer_that_it_gets_at_once():
    class Answering(asyncio.Protocol):
        def connection_made(self, transport):
            self.transport = transport

        def data_received(self, data):
            self.transport.write(b"answer to " + data)

    recording = Recording()
    recording.begin(1 << 20, is_redacted=False)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: recording.wrapped(Answering()), "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"one")
        assert await reader.readexactly(13) == b"answer to one"
        writer.close()
    assert [each[4] for each in recording.take()] == [b"one", b"answer to one"]


@needs_tshark
def test_what_was_not_recorded_is_a_gap_for_wireshark(tmp_path):
    writer, ends = PcapngWriter(), (("127.0.0.1", 4000), ("127.0.0.1", 8080))
    packets = [Packet(1, 1.0, *ends, b"a" * 10, offset=0), Packet(1, 2.0, *ends, b"b" * 10, offset=500)]
    (tmp_path / "gap.pcapng").write_bytes(writer.header("t") + b"".join(map(writer.packet, packets)))
    command = [TSHARK, "-r", str(tmp_path / "gap.pcapng"), "-T", "fields", "-e", "tcp.seq",
               "-e", "tcp.analysis.lost_segment"]  # fmt: skip
    out = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()
    assert [line.split("\t") for line in out] == [["1", ""], ["501", "1"]]


async def _replay(sidecar, found):
    """Answer a capture with what was recorded, as `proxy.control_stream` does."""
    while True:
        frame = await sidecar.socket.receive_json()
        if frame["type"] == "capture" and frame["max_bytes"]:
            packets = [_packet(*each) for each in found]
            await sidecar.socket.send_json({"type": "captured", "id": frame["id"], "packets": packets})


@needs_tshark
async def test_tshark_follows_http_and_reads_the_identity(tmp_path):
    found, port = await _recorded(redact=False)
    file = tmp_path / "api.pcapng"
    async with plane(tmp_path) as mesh, mesh.stream(await mesh.enrol(API, task="a1"), task="a1") as sidecar:
        await sidecar.take()
        work = asyncio.ensure_future(_replay(sidecar, found))
        code, out, err = await meshpy(
            mesh, "capture", "shop/api", "-w", str(file), "--for", "1s", token=ADMIN
        )
        work.cancel()
        assert (code, out) == (0, ""), err
        assert "2 writes and reads" in err
        log = (tmp_path / "data" / "audit.jsonl").read_text()
        assert '"capture"' in log
        (tmp_path / "x").write_text("of yesterday")
        code, _, err = await meshpy(mesh, "capture", "shop/nobody", "-w", str(tmp_path / "x"), token=ADMIN)
        assert code != 0
        assert (tmp_path / "x").read_text() == "of yesterday"
        assert (await mesh.call("GET", "/v1/capture?service=shop/api", token=VIEWER))[0] == 403
    command = [TSHARK, "-r", str(file), "-d", f"tcp.port=={port},http", "-T", "json"]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=60, check=True
    )
    packets = [each["_source"]["layers"] for each in json.loads(done.stdout)]
    assert "malformed" not in done.stdout.lower()
    assert "GET /items?token=s3cret HTTP/1.1\\r\\n" in packets[0]["http"]
    assert any("200" in str(layer) for layer in packets[1]["http"])
    assert "spiffe://mesh.test/ns/shop/sa/web" in json.dumps(packets[0])


@needs_tshark
def test_ipv6_and_long_writes_are_whole(tmp_path):
    writer = PcapngWriter()
    data = b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\n" + b"y" * 70_000
    packet = Packet(1, 1_700_000_000.5, ("fd00::1", 4000), ("fd00::2", 8080), data, "näh")
    (tmp_path / "six.pcapng").write_bytes(writer.header("t") + writer.packet(packet))
    command = [TSHARK, "-r", str(tmp_path / "six.pcapng"), "-T", "fields", "-e", "ipv6.src", "-e", "tcp.len",
               "-e", "tcp.analysis.flags", "-e", "http.content_length", "-e", "frame.comment"]  # fmt: skip
    out = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.splitlines()
    rows = [line.split("\t") for line in out]
    assert sum(int(row[1]) for row in rows) == len(data)
    assert {row[0] for row in rows} == {"fd00::1"}
    assert rows[-1][3] == "70000"
    assert all(row[2] == "" for row in rows)
