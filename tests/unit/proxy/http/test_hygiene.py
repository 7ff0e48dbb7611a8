"""Names that servers of CGI's kind take for one another."""

import pytest

from proxy.http.hygiene import trailers_beside, twins


@pytest.mark.parametrize("vouched", [b"x-user-id", b"x_user_id", b"x_user-id"])
def test_every_other_spelling_of_a_vouched_name_is_its_twin(vouched):
    spellings = {b"x-user-id", b"x_user_id", b"x-user_id", b"x_user-id"}
    assert twins([*spellings, b"x-user", b"xuserid"], {vouched}) == spellings - {vouched}


@pytest.mark.parametrize("dropped", [b"x-user-id", b"x_user_id"])
def test_no_spelling_of_what_is_left_out_of_the_head_stays_in_a_trailer(dropped):
    trailers = ((b"X-User-Id", b"a"), (b"x_user_id", b"b"), (b"X-User_ID", b"c"), (b"X-Sum", b"kept"))
    assert trailers_beside({dropped}, trailers) == ((b"X-Sum", b"kept"),)
