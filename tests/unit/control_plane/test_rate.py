"""The rate limit: a burst, then a trickle, per address, in bounded memory."""

import pytest

from control_plane.errors import RateLimited
from control_plane.rate import RateLimit


def test_a_burst_then_a_trickle():
    limit = RateLimit(per_second=2, burst=3)
    for _ in range(3):
        limit.take("a", 0.0)
    with pytest.raises(RateLimited) as caught:
        limit.take("a", 0.0)
    assert caught.value.retry_after_s == pytest.approx(0.5)
    limit.take("b", 0.0)
    limit.take("a", 0.5)
    with pytest.raises(RateLimited):
        limit.take("a", 0.5)


def test_a_clock_that_goes_back_gives_nothing():
    limit = RateLimit(per_second=1, burst=1)
    limit.take("a", 100.0)
    with pytest.raises(RateLimited):
        limit.take("a", 1.0)


def test_addresses_are_forgotten_oldest_first():
    limit = RateLimit(per_second=0.001, burst=1, addresses=2)
    for address in "abc":
        limit.take(address, 0.0)
    limit.take("a", 0.0)
    with pytest.raises(RateLimited):
        limit.take("c", 0.0)
