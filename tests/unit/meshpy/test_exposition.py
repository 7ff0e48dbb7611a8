"""One set of families in Prometheus' text and in OpenMetrics."""

import pytest

from meshpy.exposition import openmetrics, prometheus, wants_openmetrics
from meshpy.model.metrics import Distribution, Exemplar, Family, MetricKind, numbers

COUNTER = numbers("meshpy_x_total", MetricKind.COUNTER, "It\ncounts.", [((("who", 'a"\\\n'),), 3)])
EXAMPLE = Exemplar("a" * 32, "b" * 16, 2.5, 1_700_000_000.25)
HISTOGRAM = Family(
    "meshpy_took_milliseconds",
    MetricKind.HISTOGRAM,
    "",
    [Distribution((), (1, 2.5), (1, 2, 3), 12.3456, (None, EXAMPLE, None))],
)


def test_prometheus_text_sums_buckets_up_and_escapes_labels():
    assert prometheus([COUNTER, HISTOGRAM]).splitlines() == [
        "# HELP meshpy_x_total It\\ncounts.",
        "# TYPE meshpy_x_total counter",
        'meshpy_x_total{who="a\\"\\\\\\n"} 3',
        "# TYPE meshpy_took_milliseconds histogram",
        'meshpy_took_milliseconds_bucket{le="1"} 1',
        'meshpy_took_milliseconds_bucket{le="2.5"} 3',
        'meshpy_took_milliseconds_bucket{le="+Inf"} 6',
        "meshpy_took_milliseconds_sum 12.346",
        "meshpy_took_milliseconds_count 6",
    ]


def test_openmetrics_names_families_without_total_and_carries_examples():
    lines = openmetrics([COUNTER, HISTOGRAM]).splitlines()
    assert lines[1:3] == ["# TYPE meshpy_x counter", 'meshpy_x_total{who="a\\"\\\\\\n"} 3']
    ids = f'trace_id="{"a" * 32}",span_id="{"b" * 16}"'
    assert f'meshpy_took_milliseconds_bucket{{le="2.5"}} 3 # {{{ids}}} 2.5 1700000000.250' in lines
    assert 'meshpy_took_milliseconds_bucket{le="1.0"} 1' in lines
    assert lines[-1] == "# EOF"


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", False),
        ("*/*", False),
        ("text/plain;version=0.0.4", False),
        ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", True),
        ("text/plain;version=0.0.4;q=0.5, application/openmetrics-text; version=1.0.0; q=0.3", False),
        ("application/openmetrics-text;version=0.0.1", False),
        ("application/openmetrics-text;q=x", False),
    ],
)  # fmt: skip
def test_who_asks_says_which(accept, wanted):
    assert wants_openmetrics(accept) is wanted
