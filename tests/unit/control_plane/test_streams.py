"""A stream's state: one version in flight, the newest wins, a rejected one is not sent again."""

from datetime import UTC, datetime

import pytest

from control_plane.snapshots import Printed, Shelf
from control_plane.streams import STALE_AFTER_S, Stream, SyncState
from meshpy.model.names import ServiceName
from meshpy.wire import apply_delta

API = ServiceName("shop", "api")


def _printed(version, revision=1, **clusters):
    data = {"version": version, "revision": revision, "clusters": dict(clusters), "outbound": []}
    return Printed(version, revision, data)


@pytest.fixture
def stream():
    return Stream(API, "10.0.1.7", datetime(2026, 11, 24, tzinfo=UTC))


def test_nothing_is_sent_before_the_hello(stream):
    assert not stream.must_send(_printed("a"))
    stream.hello("", None, 0.0)
    assert stream.must_send(_printed("a"))


def test_one_version_is_in_flight_and_the_newest_follows(stream):
    first, third = _printed("a"), _printed("c", 3)
    stream.hello("", None, 0.0)
    stream.sent(first, 0.0)
    assert not stream.must_send(third)
    stream.ack("a", 0.1)
    assert stream.must_send(third)
    assert (stream.held, stream.revision) == ("a", 1)


def test_an_answer_to_another_version_is_ignored(stream):
    stream.hello("", None, 0.0)
    stream.sent(_printed("a"), 0.0)
    stream.ack("b", 0.0)
    stream.nack("b", "no", 0.0)
    assert (stream.held, stream.rejected, stream.in_flight is None) == ("", "", False)


def test_a_rejected_version_waits_for_a_newer_one(stream):
    stream.hello("", None, 0.0)
    stream.sent(_printed("a"), 0.0)
    stream.nack("a", "bad\x1b[31m\nport" + "x" * 900, 0.0)
    assert not stream.must_send(_printed("a"))
    assert stream.must_send(_printed("b"))
    assert stream.state(_printed("a"), 0.0) is SyncState.REJECTED
    assert stream.reason.isprintable()
    assert len(stream.reason) <= 500


def test_a_hello_starts_over(stream):
    stream.hello("", None, 0.0)
    stream.sent(_printed("a"), 0.0)
    stream.hello("z", _printed("z", 7), 1.0)
    assert stream.must_send(_printed("a"))
    assert (stream.held, stream.revision) == ("z", 7)


def test_states(stream):
    newest = _printed("a")
    stream.hello("", None, 0.0)
    assert stream.state(None, 0.0) is SyncState.NO_SNAPSHOT
    assert stream.state(newest, 0.0) is SyncState.PENDING
    stream.sent(newest, 0.0)
    assert stream.state(newest, STALE_AFTER_S) is SyncState.PENDING
    assert stream.state(newest, STALE_AFTER_S + 0.1) is SyncState.STALE
    stream.ack("a", 6.0)
    assert stream.state(newest, 6.0) is SyncState.SYNCED
    stream.is_connected = False
    assert stream.state(newest, 6.0) is SyncState.DISCONNECTED


def test_the_shelf_tells_which_services_changed():
    shelf = Shelf()
    web = ServiceName("shop", "web")
    assert shelf.replace({API: _printed("a"), web: _printed("w")}) == {API, web}
    assert shelf.replace({API: _printed("b"), web: _printed("w")}) == {API}
    assert shelf.replace({API: _printed("b")}) == {web}
    assert shelf.newest(web) is None


def test_frames_bring_any_remembered_version_forward():
    import json

    shelf = Shelf()
    versions = [_printed(str(number), number, **{f"c{number}": {"x": number}}) for number in range(20)]
    for version in versions:
        shelf.replace({API: version})
    for held in versions:
        change = json.loads(shelf.frame(API, held.version, versions[-1]))["delta"]
        base = held.data if change["base"] else None
        assert apply_delta(base, change) == versions[-1].data
    assert json.loads(shelf.frame(API, "0", versions[-1]))["delta"]["base"] == ""
    assert json.loads(shelf.frame(API, "18", versions[-1]))["delta"]["base"] == "18"
