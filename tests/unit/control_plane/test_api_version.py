"""Both sides speak the newest version of the Engine API that both have, from 1.40 on."""

import pytest

from control_plane.discovery.api_version import spoken
from control_plane.errors import DiscoveryError


@pytest.mark.parametrize(
    ("oldest", "newest", "chosen"),
    [
        ("1.12", "1.40", "1.40"),  # 19.03
        ("1.12", "1.41", "1.41"),  # 20.10
        ("1.24", "1.51", "1.51"),  # 28.5
        ("1.44", "1.52", "1.52"),  # 29.0
        ("1.44", "1.99", "1.54"),  # newer than this program
        (None, "1.41", "1.41"),
    ],
)
def test_the_newest_common_version_is_chosen(oldest, newest, chosen):
    told = {"ApiVersion": newest} | ({"MinAPIVersion": oldest} if oldest else {})
    assert spoken(told) == chosen


@pytest.mark.parametrize(("oldest", "newest"), [("1.12", "1.39"), ("1.55", "1.60"), ("1.70", "1.40")])
def test_without_a_common_version_both_ranges_are_told(oldest, newest):
    with pytest.raises(DiscoveryError, match=rf"{oldest} to {newest}, meshpy 1\.40 to 1\.54"):
        spoken({"ApiVersion": newest, "MinAPIVersion": oldest})


@pytest.mark.parametrize(
    "told", [[], None, {}, {"ApiVersion": 7}, {"ApiVersion": "1.41\n"}, {"ApiVersion": "x"}]
)
def test_an_answer_without_a_version_is_no_version(told):
    with pytest.raises(DiscoveryError):
        spoken(told)
