"""A log whose reader is behind: nothing waits for it, nothing is torn, what is lost is counted."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from proxy.access_log import NO_LOG, AccessLog

TEXTS = ('{"n":', ',"text":', "")
LINE = b'{"n":%d,"text":"%b"}\n'


@pytest.fixture
def ends():
    read_end, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    yield read_end, write_end
    os.close(read_end)


def read_all(read_end):
    found = b""
    while True:
        try:
            data = os.read(read_end, 1 << 20)
        except BlockingIOError:
            return found
        if not data:
            return found
        found += data


def put(log, number, text=b"x" * 500):
    log.http(TEXTS, (number, text, "}\n"))


def test_lines_come_whole_and_in_order_whatever_they_hold(ends):
    read_end, write_end = ends
    log = AccessLog(write_end)
    wanted, found = [], b""
    for number in range(300):
        text = b'"\x00\xff' * 20 if number % 7 == 0 else b"x" * (number * 8 % 1900)
        put(log, number, text)
        wanted.append((number, text.decode("latin-1")))
        found += read_all(read_end)
    log.close()
    lines = [json.loads(line) for line in (found + read_all(read_end)).splitlines()]
    assert [(line["n"], line["text"]) for line in lines] == wanted


def test_a_reader_who_is_behind_gets_everything_once_he_reads(ends):
    read_end, write_end = ends
    log = AccessLog(write_end)
    for number in range(2000):  # a megabyte, and the pipe holds 64 KiB
        put(log, number)
    found = b""
    for _ in range(100):
        found += read_all(read_end)
        log.flush()
    assert [json.loads(line)["n"] for line in found.splitlines()] == list(range(2000))
    assert log.lost_lines == 0
    log.close()


def test_what_is_lost_is_counted_and_no_line_is_torn(ends):
    read_end, write_end = ends
    log = AccessLog(write_end)
    for number in range(12_000):
        put(log, number)
    found = b""
    for _ in range(400):
        found += read_all(read_end)
        log.flush()
    numbers = [json.loads(line)["n"] for line in found.splitlines()]
    assert numbers == list(range(len(numbers)))
    assert len(numbers) + log.lost_lines == 12_000
    assert log.lost_lines > 0
    log.close()


def test_a_line_longer_than_the_room_is_written(ends):
    read_end, write_end = ends
    log = AccessLog(write_end)
    log.write(b"a" * 40_000 + b"\n")
    log.write(b"b\n")
    log.flush()
    assert read_all(read_end) == b"a" * 40_000 + b"\nb\n"
    log.close()


def test_a_reader_who_is_gone_costs_lines_alone():
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    log = AccessLog(write_end)
    os.close(read_end)
    put(log, 1)
    log.flush()
    assert log.lost_lines == 1
    log.close()


def test_no_log_keeps_nothing():
    NO_LOG.flush()
    assert (NO_LOG.is_on, NO_LOG.lost_lines) == (False, 0)


def test_standard_output_that_nobody_reads_holds_nobody_up():
    """A pipe of a container's engine may be full for long."""
    code = (
        "from proxy.access_log import AccessLog\n"
        "log = AccessLog.open('-')\n"
        "for n in range(400):\n"
        "    log.write(b'x' * 999 + b'\\n')\n"
        "import sys; sys.stderr.write('done'); sys.stderr.flush()\n"
        "log.close()"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stderr.read(4) == b"done"
    out, _ = child.communicate(timeout=20)
    assert out.count(b"\n") >= 60
    assert child.returncode == 0
