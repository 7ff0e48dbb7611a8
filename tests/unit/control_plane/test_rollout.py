"""What is asked of a rollout, and when it must be taken back."""

import pytest

from control_plane.errors import BadRequest
from control_plane.rollout import Bounds, Figures, Plan, Share, breach, parse_plan


@pytest.mark.parametrize(
    ("share", "of_1", "of_3", "of_40"),
    [
        (Share(number=1), 1, 1, 1),
        (Share(number=5), 1, 3, 5),
        (Share(percent=25), 1, 1, 10),
        (Share(percent=100), 1, 3, 40),
    ],
)
def test_a_share_is_at_least_one_sidecar_and_at_most_all(share, of_1, of_3, of_40):
    assert [share.of(count) for count in (1, 3, 40)] == [of_1, of_3, of_40]


@pytest.mark.parametrize(
    ("without", "seen", "word"),
    [
        (Figures(100, 0, 0), Figures(100, 6, 0), "denied"),
        (Figures(100, 0, 0), Figures(100, 0, 6), "5xx"),
        (Figures(100, 0, 0), Figures(100, 5, 5), None),  # a bound that is met is not crossed
        (Figures(100, 90, 0), Figures(100, 94, 0), None),  # what was denied before is no news
        (Figures(100, 90, 0), Figures(100, 96, 0), "denied"),
        (Figures(10, 9, 0), Figures(100, 6, 0), "denied"),  # ten requests say nothing of the time before
        (Figures(0, 0, 0), Figures(19, 19, 19), None),  # nor do nineteen of the time since
        (Figures(0, 0, 0), Figures(20, 20, 0), "denied"),
    ],
)
def test_a_share_that_rises_over_its_bound_is_a_breach(without, seen, word):
    found = breach(Bounds(5, 5), without, seen)
    assert (found is None) if word is None else (found is not None and word in found)


def test_a_plan_is_read_with_its_defaults():
    assert parse_plan({"canary": "25%"}) == Plan(Share(percent=25))
    assert parse_plan({"watch_s": 5, "max_denied_pct": 0, "max_error_pct": 1.5}) == Plan(
        None, 5.0, Bounds(0, 1.5)
    )
    assert parse_plan({"canary": "2", "hold": True}) == Plan(Share(number=2), is_held=True)


@pytest.mark.parametrize(
    "value",
    [
        {"canery": "1"},
        *({"canary": each} for each in ("0", "0%", "101%", "-1", "1.5", "", "x", 1, 0.25, True)),
        *({"watch_s": each} for each in (0, -1, 1e9, "60", True)),
        {"max_denied_pct": 101},
        {"hold": "yes", "canary": "1"},
        {"hold": True},
    ],
)
def test_a_wrong_plan_is_refused(value):
    with pytest.raises(BadRequest, match="rollout"):
        parse_plan(value)
