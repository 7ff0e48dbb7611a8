"""SPIFFE-ID §2: what is an ID, and that nothing else becomes one."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs.errors import SpiffeIdError
from certs.spiffe import MAX_ID_BYTES, SpiffeId

GOOD = "spiffe://mesh.test/ns/shop/sa/api"
BAD = (
    "",
    "spiffe:",
    "spiffe://",
    "spiffe:///ns/shop",
    "mesh.test/ns/shop/sa/api",
    "SPIFFE://mesh.test/ns/shop/sa/api",
    "https://mesh.test/ns/shop/sa/api",
    " spiffe://mesh.test/a",
    "spiffe://MESH.test/a",
    "spiffe://mesh.test:443/a",
    "spiffe://root@mesh.test/a",
    "spiffe://mesh%2etest/a",
    "spiffe://mësh.test/a",
    "spiffe://mesh.test\n/a",
    "spiffe://[::1]/a",
    "spiffe://mesh.test?a=b",
    "spiffe://mesh.test#a",
    "spiffe://mesh.test/",
    GOOD + "/",
    GOOD + "\n",
    GOOD + "\0",
    GOOD + "?a=b",
    GOOD + "#a",
    GOOD + " ",
    "spiffe://mesh.test//a",
    "spiffe://mesh.test/a//b",
    "spiffe://mesh.test/./a",
    "spiffe://mesh.test/a/..",
    "spiffe://mesh.test/%61",
    "spiffe://mesh.test/a:b",
    "spiffe://mesh.test/a\\b",
    "spiffe://mesh.test/ä",
    f"spiffe://{'a' * 256}/a",
    "spiffe://mesh.test/" + "a" * MAX_ID_BYTES,
)
CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789._-"
SEGMENTS = st.text(CHARACTERS + "XYZ", min_size=1, max_size=12).filter(lambda text: text not in {".", ".."})
IDS = st.builds(
    lambda domain, segments: SpiffeId(domain, "".join("/" + each for each in segments)),
    st.text(CHARACTERS, min_size=1, max_size=40),
    st.lists(SEGMENTS, max_size=6),
)


@pytest.mark.parametrize("text", BAD, ids=range(len(BAD)))
def test_anything_else_is_refused(text):
    with pytest.raises(SpiffeIdError):
        SpiffeId.parse(text)


@pytest.mark.parametrize("text", [GOOD, "spiffe://mesh.test", "spiffe://m/A.b_c-1/...", "spiffe://1.2.3.4/x"])
def test_good_ids_read_back(text):
    assert str(SpiffeId.parse(text)) == text


def test_the_longest_id_is_accepted():
    text = "spiffe://mesh.test/" + "a" * (MAX_ID_BYTES - 19)
    assert len(text) == MAX_ID_BYTES
    assert str(SpiffeId.parse(text)) == text


def test_namespace_and_service_come_from_istios_form_only():
    assert (SpiffeId.parse(GOOD).namespace, SpiffeId.parse(GOOD).service) == ("shop", "api")
    assert SpiffeId.parse(GOOD).principal == "mesh.test/ns/shop/sa/api"
    for other in ("/ns/shop", "/ns/shop/sa/api/x", "/sa/api/ns/shop", ""):
        assert SpiffeId("mesh.test", other).namespace is None


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b", "a\n", "%2e"])
def test_a_service_name_cannot_leave_its_segment(name):
    with pytest.raises(SpiffeIdError):
        SpiffeId.for_service("mesh.test", "shop", name)


@given(IDS)
def test_an_id_reads_back_as_itself(spiffe_id):
    assert SpiffeId.parse(str(spiffe_id)) == spiffe_id


@given(st.text() | st.text().map(lambda tail: "spiffe://" + tail) | st.text().map(lambda tail: GOOD + tail))
def test_garbage_raises_one_error_only(text):
    with contextlib.suppress(SpiffeIdError):
        assert str(SpiffeId.parse(text)) == text
