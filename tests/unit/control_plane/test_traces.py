"""Spans are read strictly, kept in bounded memory, and found again."""

import pytest

from control_plane.errors import BadRequest
from control_plane.traces.span import read_span
from control_plane.traces.store import Query, TraceStore
from meshpy.model.names import ServiceName
from meshpy.model.span import Kind, Span

WEB = ServiceName("shop", "web")
GOOD = {
    "trace": "ab" * 16,
    "span": "cd" * 8,
    "kind": "CLIENT",
    "name": "GET",
    "start_us": 1_000,
    "duration_us": 10,
    "attributes": {"http.response.status_code": 200, "url.path": "/"},
}


def span(
    number,
    trace=1,
    service="web.shop",
    kind=Kind.CLIENT,
    parent=0,
    start=0,
    took=10,
    error=False,
    **attributes,
):
    above = f"{parent:016x}" if parent else ""
    ids = (f"{trace:032x}", f"{number:016x}", above)
    return Span(*ids, service, kind, "GET", start, took, error, attributes)


def test_a_span_belongs_to_the_service_that_reports_it():
    read = read_span(GOOD, WEB)
    assert (read.service, read.kind, read.parent_id) == ("web.shop", Kind.CLIENT, "")


@pytest.mark.parametrize(
    "change",
    [
        {"trace": "0" * 32},
        {"trace": "AB" * 16},
        {"trace": "ab" * 15},
        {"span": "0" * 16},
        {"parent": "x"},
        {"kind": "INTERNAL"},
        {"name": ""},
        {"name": 1},
        {"start_us": -1},
        {"start_us": 1.5},
        {"duration_us": True},
        {"duration_us": 1 << 60},
        {"attributes": []},
        {"attributes": {"a": None}},
        {"attributes": {str(i): i for i in range(33)}},
    ],
)
def test_a_malformed_span_is_refused(change):
    with pytest.raises(BadRequest, match="spans"):
        read_span({**GOOD, **change}, WEB)


def test_texts_are_cut_and_control_characters_gone():
    read = read_span({**GOOD, "name": "a\nb" + "x" * 9999, "attributes": {"k\r": "v\x00" + "y" * 9999}}, WEB)
    assert read.name.startswith("a b")
    assert len(read.name) == 512
    assert list(read.attributes) == ["k "]
    assert len(str(read.attributes["k "])) == 512


def test_memory_is_bounded_and_the_quietest_trace_goes_first():
    store = TraceStore(max_bytes=100_000)
    for number in range(1, 1001):
        store.add(span(number, trace=number))
        if number > 1:
            store.add(span(5000 + number, trace=1))
    assert store.size_bytes <= 100_000
    assert store.get(f"{1:032x}") is not None
    assert store.get(f"{2:032x}") is None
    assert store.get(f"{1000:032x}") is not None


def test_a_span_that_comes_twice_counts_once():
    store = TraceStore()
    store.add(span(1))
    store.add(span(1))
    assert (len(store.get(f"{1:032x}").spans), store.dropped) == (1, 1)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (Query("web.shop"), [3, 2, 1]),
        (Query("web.shop", limit=2), [3, 2]),
        (Query("api.shop"), []),
        (Query("web.shop", operation="POST"), []),
        (Query("web.shop", min_us=30), [3]),
        (Query("web.shop", max_us=10), [1]),
        (Query("web.shop", since_us=200), [3, 2]),
        (Query("web.shop", until_us=200), [2, 1]),
        (Query("web.shop", tags={"http.response.status_code": "503"}), [2]),
        (Query("web.shop", tags={"error": "true"}), [2]),
        (Query("web.shop", tags={"error": "true", "span.kind": "server"}), []),
    ],
)
def test_traces_are_found_newest_first_by_what_one_span_has(query, found):
    store = TraceStore()
    store.add(span(1, trace=1, start=100, took=10))
    store.add(span(2, trace=2, start=200, took=20, error=True, **{"http.response.status_code": 503}))
    store.add(span(3, trace=3, start=300, took=30))
    assert [int(trace.trace_id, 16) for trace in store.find(query)] == found


def test_a_dependency_is_a_server_span_below_a_client_span_of_another_service():
    store = TraceStore()
    store.add(span(1, start=5))
    store.add(span(2, service="api.shop", kind=Kind.SERVER, parent=1, start=6))
    store.add(span(3, service="api.shop", parent=2, start=7))
    store.add(span(4, service="db.shop", kind=Kind.SERVER, parent=3, start=9))
    assert store.dependencies(0, 8) == {("web.shop", "api.shop"): 1}
    assert store.dependencies(0, 10) == {("web.shop", "api.shop"): 1, ("api.shop", "db.shop"): 1}
