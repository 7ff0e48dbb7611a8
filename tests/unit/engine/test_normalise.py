"""One spelling of a path: Istio's DECODE_AND_MERGE_SLASHES, single decoding, refusal of what is ambiguous."""

from __future__ import annotations

import pytest

from meshpy.engine.normalise import NormalisedTarget, TargetRefusal, canonical_path, normalise_target

TABLE = {
    b"/": b"/",
    b"/app/": b"/app/",
    b"/app": b"/app",
    b"/app/../admin": b"/admin",
    b"/app//": b"/app/",
    b"/app/%2f": b"/app/",
    b"/app%2F/": b"/app/",
    b"/xyz%30..//abc": b"/xyz0../abc",
    b"/app/%2E./admin": b"/admin",
    b"/app\\admin": b"/app/admin",
    b"/app/\\/\\/\\admin": b"/app/admin",
    b"/%2Fapp%5cadmin%5Cabc": b"/app/admin/abc",
    b"/%5Capp%2f%5c%2F%2e%2e%2fadmin%5c\\abc": b"/app/admin/abc",
    b"/app//../admin": b"/app/admin",
    b"/app//../../admin": b"/admin",
    b"/../../admin": b"/admin",
    b"/app/..": b"/",
    b"/app/.": b"/app/",
    b"//admin": b"/admin",
    b"/./admin": b"/admin",
    b"/%c0%2e%c0%2e/admin": b"/%c0.%c0./admin",
    b"/%c0%2fadmin": b"/%c0/admin",
    b"/%252e%252e/admin": b"/%252e%252e/admin",
    b"/%252e%252e%252fadmin": b"/%252e%252e%252fadmin",
    b"/%c0%ae%c0%ae/admin": b"/%c0%ae%c0%ae/admin",
    b"/.../admin": b"/.../admin",
    b"/..;/admin": b"/..;/admin",
    b"/;/admin": b"/;/admin",
    b"/admin;a=b/xyz": b"/admin;a=b/xyz",
    b"/ADMIN": b"/ADMIN",
    b"/a?x=//../%2e%00\\": b"/a?x=//../%2e%00\\",
    b"/a/../b?c/../d": b"/b?c/../d",
    b'/<"`{|}^>': b"/%3C%22%60%7B%7C%7D%5E%3E",
}


@pytest.mark.parametrize("raw", TABLE)
def test_spelling(raw):
    assert normalise_target(raw).forward == TABLE[raw]


@pytest.mark.parametrize("octet", range(1, 256))
def test_only_unreserved_escapes_and_slashes_are_decoded(octet):
    """Istio's table of all single escapes; hex digits are forwarded as they came."""
    raw = b"/admin%%%02x" % octet
    char = bytes((octet,))
    expected = raw
    if char in b"/\\":
        expected = b"/admin/"
    elif char.isalnum() or char in b"-._~":
        expected = b"/admin" + char
    assert normalise_target(raw).forward == expected
    assert (
        normalise_target(raw.replace(b"%%%02x" % octet, b"%%%02X" % octet)).path == normalise_target(raw).path
    )


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"/admin%00", "target-nul"),
        (b"/admin#x", "target-fragment"),
        (b"/admin?x#y", "target-fragment"),
        (b"/a%", "target-escape"),
        (b"/a%2", "target-escape"),
        (b"/a%zz", "target-escape"),
        (b"/%%32%65", "target-escape"),
        (b"/%u002e", "target-escape"),
        (b"/a b", "target-character"),
        (b"/a\x00", "target-character"),
        (b"/\xc3\xa9", "target-character"),
        (b"", "target-form"),
        (b"admin", "target-form"),
        (b"\\admin", "target-form"),
        (b"?x", "target-form"),
    ],
)
def test_refused(raw, reason):
    outcome = normalise_target(raw)
    assert isinstance(outcome, TargetRefusal)
    assert outcome.reason == reason


def test_policy_sees_one_case_of_hex_digits():
    assert normalise_target(b"/caf%c3%a9") == NormalisedTarget("/caf%C3%A9", "", b"/caf%c3%a9")


def test_a_policy_path_is_brought_to_the_same_spelling():
    assert canonical_path("/caf%c3%a9") == canonical_path("/café") == "/caf%C3%A9"
    assert canonical_path("/%61dmin%2f*") == "/admin%2F*"
