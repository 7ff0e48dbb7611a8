"""Malformed requests, each with a second one hidden behind it: what reaches a recorder and a real nginx."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil

import pytest

from tests.conformance.test_http1_requests import REFUSED
from tests.helpers.backends import raw_server
from tests.helpers.peers import App, Call, api_snapshot, start_nginx, start_sidecar, web_snapshot
from tests.helpers.ports import free_port
from tests.helpers.sidecars import LOOPBACK

HIDDEN = b"GET /smuggled HTTP/1.1\r\nHost: api\r\n\r\n"
TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
LINE = re.compile(rb"([A-Z-]+) (/[\x21-\x7e]*|\*) HTTP/1\.1")
FIELD = re.compile(
    rb"(" + TOKEN + rb"):[ \t]*((?:[\x21-\x7e\x80-\xff](?:[\x20-\x7e\x80-\xff\t]*[\x21-\x7e\x80-\xff])?)?)"
)
CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})\r\n")


class Malformed(Exception):  # noqa: N818 - a verdict, not a fault
    """Bytes that no strict reader takes for a request."""


def head_of(raw: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    first, *lines = raw.split(b"\r\n")
    line = LINE.fullmatch(first)
    if line is None:
        raise Malformed(first)
    fields: dict[bytes, bytes] = {}
    for text in lines:
        field = FIELD.fullmatch(text)
        if field is None:
            raise Malformed(text)
        name = field[1].lower()
        if name in fields and name in (b"host", b"content-length", b"transfer-encoding"):
            raise Malformed(text)
        fields[name] = field[2]
    if b"host" not in fields or (b"content-length" in fields and b"transfer-encoding" in fields):
        raise Malformed(raw)
    return line[2], fields


def judge(raw: bytes) -> tuple[list[bytes], bytes]:
    """Targets of the complete requests in `raw`, and what is left; raises Malformed (RFC 9112, strict)."""
    targets = []
    while (end := raw.find(b"\r\n\r\n")) >= 0:
        target, fields = head_of(raw[:end])
        at = end + 4
        if b"transfer-encoding" in fields:
            if fields[b"transfer-encoding"] != b"chunked":
                raise Malformed(fields[b"transfer-encoding"])
            size = 1
            while size:
                if raw.find(b"\r\n", at) < 0:
                    return targets, raw
                chunk = CHUNK.match(raw, at)
                if chunk is None:
                    raise Malformed(raw[at : at + 40])
                size = int(chunk[1], 16)
                at = chunk.end() + size
                if len(raw) < at + 2:
                    return targets, raw
                if raw[at : at + 2] != b"\r\n":
                    raise Malformed(raw[at : at + 40])
                at += 2
        elif b"content-length" in fields:
            if not re.fullmatch(rb"[0-9]{1,12}", fields[b"content-length"]):
                raise Malformed(fields[b"content-length"])
            at += int(fields[b"content-length"])
            if len(raw) < at:
                return targets, raw
        targets.append(target)
        raw = raw[at:]
    return targets, raw


def message(*fields: bytes, method: bytes = b"POST", target: bytes = b"/x", content: bytes = b"") -> bytes:
    head = b"%b %b HTTP/1.1\r\nHost: api\r\n" % (method, target)
    return head + b"".join(field + b"\r\n" for field in fields) + b"\r\n" + content


def cases() -> dict[str, bytes]:
    """Our own list by class, then the table of the codec; all of it must be refused."""
    te, end = b"Transfer-Encoding: chunked", b"0\r\n\r\n"
    own: dict[str, bytes] = {}
    for pad in (b" ", b"\t", b"\x00", b"\x0b", b"\r", b"\xa0"):
        own[f"name and {pad!r}"] = message(b"Transfer-Encoding" + pad + b": chunked", content=end)
        own[f"length and {pad!r}"] = message(b"Content-Length" + pad + b": 0")
    for octet in (*range(1, 9), 0x0B, 0x0C, *range(0x0E, 0x20), 0x7F):
        own[f"value with {octet:#x}"] = message(b"X: a" + bytes((octet,)) + b"b")
    for octet in b'"(),/:;<=>?@[\\]{} \x7f\x80\xff':
        if octet != ord(":"):
            own[f"name with {octet:#x}"] = message(b"X" + bytes((octet,)) + b"Y: a")
    for value in (b"chunkedx", b"chunked\x00", b"cow", b"identity", b"chunked;q=1", b'"chunked"',
                  b"chunked chunked",
                  b"identity, chunked", b"gzip", b"chunked, chunked", b"\xef\xbb\xbfchunked"):  # fmt: skip
        own[f"coding {value!r}"] = message(b"Transfer-Encoding: " + value, content=end)
    for value in (
        b"0,0",
        b"00 0",
        b"0x0",
        b"+0",
        b"-0",
        b"1e0",
        b"18446744073709551616",
        b"\xb2",
        b"0;",
        b"''",
    ):
        own[f"length {value!r}"] = message(b"Content-Length: " + value)
        own[f"length {value!r} and coding"] = message(b"Content-Length: " + value, te, content=end)
    for size in (
        b"0x0",
        b"-0",
        b"+0",
        b" 0",
        b"0 ",
        b"0\t",
        b"",
        b"g",
        b"0\x0b",
        b"0_0",
        b"1" * 17,
        b"\xd9\xa0",
    ):
        own[f"chunk size {size!r}"] = message(te, content=size + b"\r\n\r\n")
    for ending in (b"\n", b"\r", b"\n\r", b"\r\r\n"):
        own[f"line end {ending!r}"] = b"POST /x HTTP/1.1" + ending + b"Host: api\r\nContent-Length: 0\r\n\r\n"
        own[f"field end {ending!r}"] = (
            b"POST /x HTTP/1.1\r\nHost: api" + ending + b"Content-Length: 0\r\n\r\n"
        )
        own[f"chunk end {ending!r}"] = message(te, content=b"1" + ending + b"a\r\n0\r\n\r\n")
    for line in (b"GET /x HTTP/1.1 ", b"GET /x\x00 HTTP/1.1", b"GET /x y HTTP/1.1",
                 b"GET /x HTTP/1.1\x00", b" GET /x HTTP/1.1",
                 b"GET\x0b/x HTTP/1.1", b"GET /x HTTP/01.1", b"GET /x HTTP/1.1.1", b"GET /x HTTP/1,1",
                 b"G\x00T /x HTTP/1.1",
                 b"GET x HTTP/1.1", b"GET /x\x7f HTTP/1.1", b"GET /x HTTQ/1.1", b"/x HTTP/1.1",
                 b"GET HTTP/1.1"):  # fmt: skip
        own[f"line {line!r}"] = line + b"\r\nHost: api\r\n\r\n"
    for host in (b"a\x00", b"a b", b"a,b", b"a@b", b"a/../b", b"[::1", b"a:8x", b"a\xff"):
        own[f"host {host!r}"] = b"GET /x HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"
    own["second host, other case"] = message(b"hOsT: b", method=b"GET")
    own["folded coding"] = message(b"Transfer-Encoding:", b" chunked", content=end)
    own["folded length"] = message(b"Content-Length:", b" 0")
    own |= {
        f"table {name}": raw for name, (raw, _) in REFUSED.items() if len(raw) < 4000 and "cut in" not in name
    }
    return own


async def throw(port: int, raw: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    answer = b""
    with contextlib.suppress(ConnectionError):
        writer.write(raw + HIDDEN)
        writer.write_eof()
        async with asyncio.timeout(15):
            while data := await reader.read(65536):
                answer += data
    writer.close()
    return answer


async def throw_all(port: int) -> dict[str, bytes]:
    few = asyncio.Semaphore(16)

    async def one(name: str, raw: bytes) -> tuple[str, bytes]:
        async with few:
            return name, await throw(port, raw)

    return dict(await asyncio.gather(*(one(name, raw) for name, raw in cases().items())))


def statuses(answer: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"(?:^|\r\n\r\n)HTTP/1\.1 ([0-9]{3}) ", answer)]


@pytest.mark.parametrize("way", ["edge", "pair"])
async def test_nothing_malformed_reaches_the_application(processes, pki, way):
    seen: list[bytes] = []
    malformed: list[bytes] = []
    writers = []

    async def record(reader, writer):
        writers.append(writer)
        rest = b""
        while data := await reader.read(65536):
            try:
                targets, rest = judge(rest + data)
            except Malformed as error:
                malformed.append(error.args[0])
                return
            for target in targets:
                seen.append(target)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(target), target))

    async with raw_server(record) as recorder:
        port, entry = free_port(), free_port()
        api = start_sidecar(processes, pki, api_snapshot(App(port, recorder)), port)
        if way == "pair":
            start_sidecar(processes, pki, web_snapshot(Call(entry, port, api.mesh)), entry)
        else:
            entry = port
        answers = await throw_all(entry)
        for number in range(20):
            answer = await throw_probe(entry, number)
            assert answer.endswith(b"\r\n\r\n/probe-%d" % number), "answers went to the wrong request"
        for writer in writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        await asyncio.sleep(0)
    assert len(answers) >= 150
    assert malformed == []
    assert [target for target in seen if not target.startswith(b"/probe-")] == []
    answers.pop("table 28 2.0 preface")  # it is well formed, and answered in HTTP/2
    kept = {name: statuses(answer) for name, answer in answers.items()}
    assert {name: codes for name, codes in kept.items() if len(codes) != 1 or not 400 <= codes[0] < 600} == {}


async def throw_probe(port: int, number: int) -> bytes:
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    writer.write(b"GET /probe-%d HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n" % number)
    answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed (nginx-light)")
async def test_nginx_logs_no_request_that_was_not_meant(processes, pki, tmp_path):
    nginx, port = start_nginx(processes, tmp_path), free_port()
    start_sidecar(processes, pki, api_snapshot(App(port, nginx)), port)
    await throw_all(port)
    await throw_probe(port, 1)
    log = tmp_path / "access.log"
    async with asyncio.timeout(5):
        while not log.read_text():  # noqa: ASYNC110 - nginx writes its line after the answer
            await asyncio.sleep(0.02)
    requests = re.findall(r'"([^"]*)"', log.read_text().splitlines()[0])
    assert requests[0] == "GET /probe-1 HTTP/1.1"
    assert len(log.read_text().splitlines()) == 1


@pytest.mark.parametrize("raw", [b"GET / HTTP/1.1\nHost: a\r\n\r\n", message(b"X: a\x01"), message(b"X : a"),
                                 message(b"Content-Length: 0", b"Transfer-Encoding: chunked")])  # fmt: skip
def test_the_judge_condemns(raw):
    with pytest.raises(Malformed):
        judge(raw)


def test_the_judge_reads_what_is_well_formed():
    pair = message(b"Transfer-Encoding: chunked", content=b"3\r\nabc\r\n0\r\n\r\n") + HIDDEN
    assert judge(pair) == ([b"/x", b"/smuggled"], b"")
