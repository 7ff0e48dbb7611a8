"""What is given up at which share of memory, and how its limit is written."""

from __future__ import annotations

import pytest

from proxy.decide.overload import Level, level_of
from proxy.decide.progress import Progress
from proxy.options import OptionsError, ProcessLimits, read_options

STATIC = ("--snapshot", "a.json", "--identity", "a")


@pytest.mark.parametrize(
    ("share", "before", "level"),
    [
        (0.5, Level.CALM, Level.CALM),
        (0.919, Level.CALM, Level.CALM),
        (0.92, Level.CALM, Level.SHRINK),
        (0.95, Level.CALM, Level.REFUSE),
        (0.98, Level.CALM, Level.SHED),
        (1.5, Level.CALM, Level.SHED),
        (0.97, Level.SHED, Level.SHED),
        (0.955, Level.SHED, Level.REFUSE),
        (0.94, Level.REFUSE, Level.REFUSE),
        (0.91, Level.SHRINK, Level.SHRINK),
        (0.89, Level.SHRINK, Level.CALM),
        (0.5, Level.SHED, Level.CALM),
    ],
)
def test_a_level_begins_at_its_share_and_ends_a_little_below(share, before, level):
    assert level_of(int(share * 1_000_000), 1_000_000, before) is level


def test_limits_are_sizes_and_numbers_of_the_environment():
    environment = {"MESHPY_MEMORY_LIMIT": "64m", "MESHPY_MAX_REQUEST_BYTES": "1GB"}
    environment |= {"MESHPY_MAX_CONNECTIONS": "100", "MESHPY_MAX_CONNECTIONS_PER_LISTENER": "10"}
    assert read_options(STATIC, environment).limits == ProcessLimits(64 << 20, 100, 10, 1 << 30)
    assert read_options(STATIC, {}).limits == ProcessLimits()


@pytest.mark.parametrize("text", ["64 m", "m", "-1", "6x", "64mm", ""])
def test_a_size_that_is_none_is_refused_by_name(text):
    with pytest.raises(OptionsError, match="MESHPY_MEMORY_LIMIT"):
        read_options(STATIC, {"MESHPY_MEMORY_LIMIT": text})


def test_what_stands_still_is_told_by_what_was_seen():
    progress = Progress()
    assert progress.still_s(1, 10.0) == 0.0
    assert progress.still_s(1, 15.0) == 5.0
    assert progress.still_s(2, 16.0) == 0.0
    assert progress.still_s(2, 18.0) == 2.0
