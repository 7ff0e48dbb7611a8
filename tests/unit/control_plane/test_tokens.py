"""Join tokens: only what this control plane made, for the service it was made for, until revoked."""

import base64
import json
from datetime import UTC, datetime

import pytest

from control_plane.append_log import AppendLog
from control_plane.errors import BadRequest, Forbidden, StartRefused, Unauthenticated
from control_plane.tokens import JoinTokens, checked_service
from meshpy.model.names import CONTROL_PLANE, ServiceName

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
API = ServiceName("shop", "api")
KEY = b"k" * 32


@pytest.fixture
def tokens(tmp_path):
    return JoinTokens(KEY, AppendLog(tmp_path / "revoked"))


def test_a_token_tells_its_service_and_time(tokens):
    read = tokens.read(tokens.issue(API, NOW))
    assert (read.service, read.issued) == (API, NOW)


def test_every_single_character_counts(tokens):
    token = tokens.issue(API, NOW)
    for index, character in enumerate(token):
        changed = token[:index] + ("A" if character != "A" else "B") + token[index + 1 :]
        with pytest.raises(Unauthenticated):
            tokens.read(changed)


@pytest.mark.parametrize("cut", range(0, 90, 7))
def test_a_truncated_token_is_refused(tokens, cut):
    with pytest.raises(Unauthenticated):
        tokens.read(tokens.issue(API, NOW)[:cut])


@pytest.mark.parametrize(
    "token", [None, 7, "", "mj2.e30.AAAA", "mj1", "mj1..", "mj1.é.é", "x" * 5000, ["mj1"]]
)
def test_anything_else_is_refused(tokens, token):
    with pytest.raises(Unauthenticated):
        tokens.read(token)


def test_the_same_claim_under_another_version_or_key_is_refused(tokens, tmp_path):
    token = tokens.issue(API, NOW)
    other = JoinTokens(b"x" * 32, AppendLog(tmp_path / "other"))
    with pytest.raises(Unauthenticated, match="not made by this"):
        other.read(token)
    with pytest.raises(Unauthenticated, match="version"):
        tokens.read("mj2" + token[3:])


def test_a_claim_without_our_signature_is_refused(tokens):
    claim = base64.urlsafe_b64encode(json.dumps({"s": "shop/admin", "i": "1", "t": 1}).encode()).decode()
    mac = tokens.issue(API, NOW).rpartition(".")[2]
    with pytest.raises(Unauthenticated):
        tokens.read(f"mj1.{claim.rstrip('=')}.{mac}")


def test_a_revoked_token_stays_revoked(tokens, tmp_path):
    token, other = tokens.issue(API, NOW), tokens.issue(API, NOW)
    tokens.revoke([tokens.read(token).id], NOW)
    for each in (tokens, JoinTokens(KEY, AppendLog(tmp_path / "revoked"))):
        with pytest.raises(Unauthenticated, match="revoked"):
            each.read(token)
        assert each.read(other).service == API


def test_no_token_makes_a_control_plane(tokens):
    with pytest.raises(Forbidden):
        tokens.issue(CONTROL_PLANE, NOW)


def test_a_short_key_is_refused(tmp_path):
    with pytest.raises(StartRefused, match="32"):
        JoinTokens(b"short", AppendLog(tmp_path / "revoked"))


@pytest.mark.parametrize(
    "text",
    [
        "../../etc/x",
        "a/b/c",
        "shop/%2e",
        "shop/" + "a" * 64,
        "shop/ä",
        "shop/a\x00",
        "shop/a\n",
        "shop",
        "/a",
        7,
        "a/-b",
    ],
)
def test_a_service_that_is_no_name_is_refused(text):
    with pytest.raises(BadRequest):
        checked_service(text)
