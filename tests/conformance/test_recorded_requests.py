"""The tables of requests, sent through a sidecar: what the client is told, and what the app receives."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import uvloop

from proxy.http.events import End
from proxy.http.h1 import RequestParser
from proxy.http.limits import DEFAULT_LIMITS
from tests.conformance.test_http1_requests import ACCEPTED, REFUSED
from tests.helpers.backends import raw_server
from tests.helpers.pki import mesh_pki
from tests.helpers.ports import free_port
from tests.helpers.sidecars import (
    LOOPBACK,
    outbound_snapshot,
    plain_cluster,
    running,
)

ROOMY = replace(DEFAULT_LIMITS, head_bytes=1 << 20, fields=1000)
"""The mesh adds fields of its own to a head of the largest size."""


@contextlib.asynccontextmanager
async def recorded():
    """A sidecar before an application that notes every byte and answers every request; yields both."""
    received = bytearray()

    async def note(reader, writer):
        own, answered = bytearray(), 0
        while data := await reader.read(65536):
            received.extend(data)
            own.extend(data)
            whole = whole_requests(bytes(own))
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n" * (whole - answered))
            answered = whole

    async with raw_server(note) as app:
        port = free_port()
        snapshot = outbound_snapshot(port, {"c": plain_cluster(app)})
        async with running(snapshot, mesh_pki()):
            yield port, received


async def exchange(port: int, pieces: list[bytes]) -> bytes:
    """What comes back for these bytes and the end of them."""
    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    answer = b""
    with contextlib.suppress(ConnectionError):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.002 if len(pieces) > 1 else 0)
        if not pieces[-1].endswith(b"\r\n"):
            writer.write_eof()
        async with asyncio.timeout(5):
            answer = await reader.readline()
    writer.close()
    return answer


def whole_requests(raw: bytes) -> int:
    """How many requests a strict reader finds complete."""
    parser, count = RequestParser(ROOMY), 0
    events = parser.feed(raw)
    while events:
        count += sum(isinstance(event, End) for event in events)
        events = parser.next_message() if isinstance(events[-1], End) else []
    return count


async def _refused(cut: bool) -> list[str]:
    wrong = []
    async with recorded() as (port, received):
        for name, (raw, status) in REFUSED.items():
            if name.startswith("28 2.0 preface"):
                continue  # is served as HTTP/2: see test_h2_frames
            received.clear()
            pieces = [raw[: len(raw) // 2], raw[len(raw) // 2 :]] if cut else [raw]
            line = await exchange(port, pieces)
            sent = bytes(received)
            if line and not line.startswith(b"HTTP/1.1 %d " % status):
                wrong.append(f"{name}: told {line!r} for {status}")
            is_short = len(raw) < 4000 and not name.startswith("cut ")
            if whole_requests(sent) or (not cut and is_short and sent):
                wrong.append(f"{name}: the app received {sent[:200]!r}")
    return wrong


def test_of_what_is_refused_no_byte_reaches_the_application():
    assert uvloop.run(_refused(cut=False)) == []


def test_of_what_is_refused_late_no_whole_request_reaches_the_application():
    """Content that turns out malformed after its head was sent: the message is never ended."""
    assert uvloop.run(_refused(cut=True)) == []


async def _accepted() -> list[str]:
    wrong = []
    async with recorded() as (port, received):
        for name, (raw, messages) in ACCEPTED.items():
            received.clear()
            line = await exchange(port, [raw])
            if not line.startswith(b"HTTP/1.1 204"):
                wrong.append(f"{name}: told {line!r}")
            if whole_requests(bytes(received)) < 1 <= len(messages):
                wrong.append(f"{name}: the app received {received!r}")
    return wrong


def test_what_is_well_formed_arrives():
    assert uvloop.run(_accepted()) == []
