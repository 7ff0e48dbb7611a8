"""One question for the command, the control plane and the sidecar."""

import pytest

from meshpy.model.tap import TapFilter

RECORD = {
    "direction": "in", "source": "shop/web", "destination": "shop/api", "method": "GET", "path": "/v1/items",
    "status": 503, "verdict": "ERROR", "duration_ms": 12.5,
}  # fmt: skip


@pytest.mark.parametrize(
    ("value", "holds"),
    [
        ({}, True),
        ({"source": "web"}, True),
        ({"source": "shop/web"}, True),
        ({"source": "eb"}, False),
        ({"source": "other/web"}, False),
        ({"source": "outside"}, False),
        ({"destination": "api", "method": "GET", "path": "/v1", "status": "5", "verdict": "ERROR"}, True),
        ({"path": "/v2"}, False),
        ({"status": "503"}, True),
        ({"status": "50"}, True),
        ({"status": "4"}, False),
        ({"min_ms": 12.5}, True),
        ({"min_ms": "13"}, False),
        ({"direction": "out"}, False),
    ],
)
def test_every_field_that_is_set_must_hold(value, holds):
    found = TapFilter.read(value)
    assert found.holds(RECORD) is holds
    assert TapFilter.read(found.to_json()) == found


def test_outside_is_a_caller_without_identity():
    assert TapFilter(source="outside").holds({**RECORD, "source": ""})


@pytest.mark.parametrize(
    "value",
    [
        {"form": "web"},
        {"direction": "up"},
        {"verdict": "denied"},
        {"status": "5xx"},
        {"status": "5031"},
        {"min_ms": "x"},
    ],
)
def test_a_question_that_cannot_be_is_refused(value):
    with pytest.raises(ValueError, match=next(iter(value))):
        TapFilter.read(value)
