"""The checker of histories finds what it is for: an instant at which no decision was in force."""

from tests.helpers.history import Seen, gaps, settled_after


def test_a_clean_change_has_one_instant_at_which_it_happened():
    seen = [Seen(0, 1, 1), Seen(1, 2, 1), Seen(1.5, 2.5, 2), Seen(3, 4, 2)]
    assert gaps(seen, 1, 2) == []
    assert settled_after(seen, 1, 2) == 0.5


def test_requests_that_overlap_the_change_may_be_judged_by_either():
    assert gaps([Seen(0, 5, 1), Seen(1, 2, 2), Seen(1, 6, 1)], 1, 2) == []


def test_who_is_judged_by_the_old_rule_after_the_new_one_was_in_force_is_found():
    late = Seen(2.5, 3, 1)
    assert gaps([Seen(0, 1, 1), Seen(1, 2, 2), late, Seen(4, 5, 2)], 1, 2) == [late]


def test_who_is_judged_by_neither_is_found():
    open_ = Seen(2, 3, 0)
    assert gaps([Seen(0, 1, 1), open_, Seen(4, 5, 2)], 1, 2) == [open_]


def test_a_change_that_never_came_into_force_has_no_time():
    assert settled_after([Seen(0, 1, 1), Seen(2, 3, 1)], 0, 2) is None
