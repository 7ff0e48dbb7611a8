"""Normalising twice changes nothing, and a backend that decodes once acts on what policy saw."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from hypothesis import given
from hypothesis import strategies as st

from meshpy.engine.normalise import NormalisedTarget, normalise_target

PIECES = [
    "/",
    "//",
    "\\",
    ".",
    "..",
    "%",
    "%2e",
    "%2E",
    "%2f",
    "%5c",
    "%25",
    "%252e",
    "%00",
    ";",
    "?",
    "#",
    "a",
    "Z",
    "%c0%af",
    "%3f",
    "%23",
    '"',
    "{",
    "32",
    "65",
    "2f",
]
targets = st.lists(st.sampled_from(PIECES), max_size=12).map(lambda parts: ("/" + "".join(parts)).encode())


@given(targets | st.binary(max_size=40))
def test_idempotent(raw):
    once = normalise_target(raw)
    if isinstance(once, NormalisedTarget):
        assert normalise_target(once.forward) == once
        assert normalise_target(once.path.encode()).path == once.path


@given(targets)
def test_decoding_once_finds_no_new_structure(raw):
    """Neither the forwarded path nor its decoding holds a dot segment, a double slash or a backslash."""
    once = normalise_target(raw)
    if isinstance(once, NormalisedTarget):
        forwarded = once.forward.partition(b"?")[0]
        for path in (forwarded, unquote_to_bytes(forwarded)):
            assert b"//" not in path
            assert b"\\" not in path
            assert not {b".", b".."} & set(path.split(b"/"))
        assert forwarded.decode().lower() == once.path.lower()
