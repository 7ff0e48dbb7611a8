"""The memory of a sidecar: what was added comes back as it was, the newest first, as long as it is kept."""

import sys
import threading

import pytest

from proxy.plan import Reply
from proxy.recent import KEPT_S, MAX_TEXT, Alike, Recent, seen_of
from proxy.telemetry import Edge, EdgeKey

EDGE = Edge(EdgeKey("inbound", "shop/web", "shop/api", "api.shop", "http", is_mtls=True))
ALIKE = Alike(EDGE, "GET", "api", 1, 200, "-", None, None)
TRACE = b"00-%032x-00f067aa0ba902b7-01"


def record(number=0, *, path="/", trace=b"", parent=b"", is_told=False, ended_at=1.5, odd=None):
    return (ALIKE, trace, parent, is_told, ended_at, 1.25, path, number, 2**40, odd)


ODD = (3, 1.375, Reply(403, policy="p"), None, None, "audit")


@pytest.mark.parametrize(
    "added",
    [
        record(7),
        record(trace=TRACE % 1, parent=b"00f067aa0ba902b7", is_told=True),
        record(path="/" + "x" * 83),
        record(path="/" + "x" * 84),
        record(path="/" + "x" * (MAX_TEXT - 1)),
        record(path="/caf\xe9"),
        record(path=""),
        record(path="/a\0b\0"),
        record(odd=ODD),
    ],
)
def test_what_was_added_comes_back_as_it_was(added):
    recent = Recent(4)
    for other in (record(path="/" + "y" * 200, trace=TRACE % 9, odd=ODD), record(path="/" + "z" * 80)) * 3:
        recent.add(*other)
    recent.add(*added)
    assert next(recent.newest()) == seen_of(added)


def test_the_newest_of_more_than_are_kept():
    recent = Recent(4)
    for number in range(11):
        recent.add(*record(number))
    assert len(recent) == 4
    assert [seen.bytes_sent for seen in recent.newest()] == [10, 9, 8, 7]


def test_none_is_kept():
    recent = Recent(0)
    recent.add(*record())
    recent.forget(100.0)
    assert (len(recent), list(recent.newest()), recent.of_traces({b"1" * 32})) == (0, [], [])


def test_the_old_are_forgotten_and_let_go():
    recent = Recent(4)
    for number in range(6):
        recent.add(*record(number, ended_at=float(number)))
    recent.forget(3.5 + KEPT_S)
    assert [seen.bytes_sent for seen in recent.newest()] == [5, 4]
    before = sys.getrefcount(ALIKE)
    recent.forget(100.0)
    assert (len(recent), sys.getrefcount(ALIKE)) == (0, before - 2)
    recent.add(*record(6, ended_at=100.0))
    assert [seen.bytes_sent for seen in recent.newest()] == [6]


def test_the_rest_of_a_trace_is_told_once():
    recent = Recent(8)
    for number in range(8):
        recent.add(*record(number, trace=TRACE % (number % 2), is_told=number == 3))
    wanted = {(TRACE % 1)[3:35]}
    assert [seen.bytes_sent for seen in recent.of_traces(wanted)] == [1, 5, 7]
    assert recent.of_traces(wanted) == []
    assert all(seen.is_told == (seen.bytes_sent % 2 == 1) for seen in recent.newest())


def test_a_thread_reads_whole_exchanges_while_others_are_added():
    recent, end = Recent(64), threading.Event()

    def add():
        number = 0
        while not end.is_set():
            number += 1
            odd = (number, 0.0, None, None, None, "")
            recent.add(*record(number, path=f"/{number}" if number % 2 else f"/{number}" + "x" * 90, odd=odd))

    writer = threading.Thread(target=add)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    writer.start()
    try:
        for _ in range(200):
            for seen in recent.newest():
                assert (seen.attempts, seen.path.rstrip("x")) == (seen.bytes_sent, f"/{seen.bytes_sent}")
    finally:
        end.set()
        writer.join()
        sys.setswitchinterval(interval)
