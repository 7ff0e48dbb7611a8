"""Edges: totals and a sliding window, in bounded memory, from reporters who speak for themselves."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.errors import BadRequest
from control_plane.telemetry import MAX_RECORDS, Side, Telemetry
from control_plane.traffic import WINDOW_S, Counts, edges, quantile_ms
from meshpy.model.names import ServiceName

API, WEB = ServiceName("shop", "api"), ServiceName("shop", "web")


def _record(direction="outbound", **changes):
    return {
        "direction": direction,
        "source": "shop/web",
        "destination": "shop/api",
        "protocol": "http",
        "mtls": True,
        "requests": 10,
        "success": 9,
        "responses": {"200": 9, "503": 1},
        "retries": 2,
        "recovered_by_retry": 1,
        "latency_ms": {"bounds": [1, 5, 10], "counts": [5, 5, 0, 0]},
        **changes,
    }


def _edge(telemetry, now_s):
    return edges(telemetry.traffic(now_s))[0]


def test_totals_stay_and_the_window_moves_on():
    telemetry = Telemetry()
    telemetry.record(WEB, [_record()], 100.0)
    telemetry.record(WEB, [_record()], 101.0)
    edge = _edge(telemetry, 101.5)
    assert (edge["requests"], edge["rps"], edge["retries"]) == (20, 2.0, 4)
    assert (edge["success_ratio"], edge["p50_ms"]) == (0.9, 1.0)
    edge = _edge(telemetry, 200.0)
    assert (edge["requests"], edge["rps"], edge["p50_ms"]) == (20, 0.0, None)


def test_both_ends_report_one_edge_and_a_denial_counts_once():
    telemetry = Telemetry()
    denied = {"AuthorizationPolicy shop/x": 4}
    telemetry.record(API, [_record("inbound", denied=denied)], 1.0)
    assert _edge(telemetry, 1.0)["requests"] == 10
    telemetry.record(WEB, [_record(denied=denied, requests=11)], 1.0)
    edge = _edge(telemetry, 1.0)
    assert (edge["requests"], edge["denied"]) == (11, denied)


def test_a_denied_request_is_no_failure():
    telemetry = Telemetry()
    telemetry.record(API, [_record("inbound", requests=10, success=6, denied={"p": 4})], 1.0)
    assert _edge(telemetry, 1.0)["success_ratio"] == 1.0


def test_mtls_is_weighed_by_requests_or_connections():
    telemetry = Telemetry()
    telemetry.record(WEB, [_record(requests=30), _record(requests=10, mtls=False)], 1.0)
    assert _edge(telemetry, 1.0)["mtls_ratio"] == 0.75
    tcp = Telemetry()
    tcp.record(WEB, [_record(protocol="tcp", requests=0, success=0, connections=4, latency_ms=None)], 1.0)
    assert _edge(tcp, 1.0)["mtls_ratio"] == 1.0


@pytest.mark.parametrize(
    "changes",
    [
        {"source": "shop/api"},
        {"direction": "sideways"},
        {"requests": -1},
        {"requests": 1.5},
        {"requests": True},
        {"source": None},
        {"protocol": "x" * 300},
        {"protocol": "a\nb"},
        {"responses": {str(i): 1 for i in range(65)}},
        {"responses": [1]},
        {"latency_ms": {"bounds": [5, 1], "counts": [1, 1]}},
        {"latency_ms": {"bounds": [1], "counts": [1, 1, 1]}},
        {"latency_ms": {"bounds": [float("nan")], "counts": [1]}},
        {"latency_ms": {"bounds": ["1"], "counts": [1]}},
        {"latency_ms": 7},
    ],
)
def test_a_bad_record_is_dropped_and_counted_and_the_others_stay(changes):
    telemetry = Telemetry()
    telemetry.record(WEB, [_record(**changes), _record()], 1.0)
    assert (telemetry.dropped, _edge(telemetry, 1.0)["requests"]) == (1, 10)


def test_what_a_full_sidecar_reports_without_names_is_its_own():
    telemetry = Telemetry()
    telemetry.record(WEB, [_record(source="", destination="")], 1.0)
    assert _edge(telemetry, 1.0)["source"] == "shop/web"


@pytest.mark.parametrize("records", [None, {}, "x", [_record()] * (MAX_RECORDS + 1)])
def test_what_is_no_list_of_records_is_refused(records):
    with pytest.raises(BadRequest):
        Telemetry().record(WEB, records, 1.0)


def test_edges_are_bounded_and_what_is_dropped_is_counted(monkeypatch):
    monkeypatch.setattr("control_plane.telemetry.MAX_EDGES", 3)
    telemetry = Telemetry()
    telemetry.record(WEB, [_record(destination=f"shop/{i}") for i in range(5)], 1.0)
    assert (len(edges(telemetry.traffic(1.0))), telemetry.dropped) == (3, 2)


@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [
        ([10, 0, 0, 0], 0.5, 0.5),
        ([5, 5, 0, 0], 0.99, 4.92),
        ([0, 0, 0, 4], 0.5, 10.0),
        ([1, 0, 1, 0], 0.5, 1.0),
        ([0, 0, 0, 0], 0.5, None),
    ],
)
def test_quantiles_are_linear_inside_a_bucket(counts, share, expected):
    assert quantile_ms({(1.0, 5.0, 10.0): counts}, share) == expected


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 9), st.sampled_from(["200", "503"]), st.integers(0, 3)),
        max_size=40,
    )
)
def test_the_window_is_the_sum_of_its_seconds(reports):
    """It is kept as seconds come and go, and not summed up by whoever asks."""
    side, now, told = Side(), 0, []
    for pause, count, status, bucket in reports:
        now += pause
        latency = {(1.0, 5.0, 10.0): [count if each == bucket else 0 for each in range(4)]}
        counts = Counts(Counter(requests=count), Counter({status: count}), Counter(p=count % 2), latency)
        side.add(counts, now)
        told.append((now, counts))
        wanted = Counts()
        for second, each in told:
            if second > now - WINDOW_S:
                wanted.add(each)
        window = side.window(now)
        assert +window.plain == +wanted.plain
        assert +window.responses == +wanted.responses
        assert +window.denied == +wanted.denied
        assert quantile_ms(window.latency, 0.99) == quantile_ms(wanted.latency, 0.99)
