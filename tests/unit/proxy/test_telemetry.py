"""The counters of a sidecar, as it reports them to the control plane."""

from bisect import bisect_left

from hypothesis import given
from hypothesis import strategies as st

from proxy.telemetry import BOUNDS_MS, EdgeKey, Telemetry, bucket_of

KEY = EdgeKey("outbound", "shop/web", "shop/api", "api.shop", "http", is_mtls=True)


def test_an_edge_is_reported_again_and_again_each_time_by_what_was_added():
    """The first report of an edge leaves nothing changed in what the next is counted from."""
    telemetry = Telemetry()
    edge = telemetry.edge(KEY)
    told = []
    for count in (1, 2, 3):
        edge.opened += count
        edge.buckets[0] += count
        [record] = telemetry.take_records()
        told.append((record["connections"], record["latency_ms"]["counts"][0]))
    assert told == [(1, 1), (2, 2), (3, 3)]
    assert telemetry.take_records() == []


@given(st.floats(0, 20_000) | st.sampled_from(BOUNDS_MS))
def test_a_duration_is_in_the_bucket_of_the_first_bound_that_is_no_less(duration_ms):
    assert bucket_of(duration_ms) == bisect_left(BOUNDS_MS, duration_ms)
