"""Join tokens: only what this control plane made, for the service it was made for, until revoked."""

import asyncio
import base64
import json
from datetime import UTC, datetime, timedelta

import pytest

from control_plane.errors import BadRequest, Forbidden, StartRefused, Unauthenticated
from control_plane.store.sqlite import SqliteStore
from control_plane.token_ledger import TokenLedger
from control_plane.tokens import JoinTokens, checked_service
from meshpy.model.names import CONTROL_PLANE, ServiceName

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
API = ServiceName("shop", "api")
KEY = b"k" * 32


@pytest.fixture
def tokens():
    return JoinTokens(KEY)


def test_a_token_tells_its_service_and_time(tokens):
    read = tokens.read(tokens.issue(API, NOW), NOW)
    assert (read.service, read.issued) == (API, NOW)


def test_every_single_character_counts(tokens):
    token = tokens.issue(API, NOW)
    for index, character in enumerate(token):
        changed = token[:index] + ("A" if character != "A" else "B") + token[index + 1 :]
        with pytest.raises(Unauthenticated):
            tokens.read(changed, NOW)


@pytest.mark.parametrize("cut", range(0, 90, 7))
def test_a_truncated_token_is_refused(tokens, cut):
    with pytest.raises(Unauthenticated):
        tokens.read(tokens.issue(API, NOW)[:cut], NOW)


@pytest.mark.parametrize(
    "token", [None, 7, "", "mj2.e30.AAAA", "mj1", "mj1..", "mj1.é.é", "x" * 5000, ["mj1"]]
)
def test_anything_else_is_refused(tokens, token):
    with pytest.raises(Unauthenticated):
        tokens.read(token, NOW)


def test_the_same_claim_under_another_version_or_key_is_refused(tokens):
    token = tokens.issue(API, NOW)
    other = JoinTokens(b"x" * 32)
    with pytest.raises(Unauthenticated, match="not made by this"):
        other.read(token, NOW)
    with pytest.raises(Unauthenticated, match="not made by this"):
        tokens.read("mj2" + token[3:], NOW)
    with pytest.raises(Unauthenticated, match="version"):
        tokens.read("mj9" + token[3:], NOW)


def test_a_claim_without_our_signature_is_refused(tokens):
    claim = base64.urlsafe_b64encode(json.dumps({"s": "shop/admin", "i": "1", "t": 1}).encode()).decode()
    mac = tokens.issue(API, NOW).rpartition(".")[2]
    with pytest.raises(Unauthenticated):
        tokens.read(f"mj1.{claim.rstrip('=')}.{mac}", NOW)


def test_a_token_ends_when_it_was_made_to(tokens):
    token = tokens.issue(API, NOW, ttl_s=60, is_once=True, address="192.0.2.7")
    read = tokens.read(token, NOW + timedelta(seconds=59))
    assert (read.is_once, read.address, read.expires) == (True, "192.0.2.7", NOW + timedelta(seconds=60))
    with pytest.raises(Unauthenticated, match="ended at"):
        tokens.read(token, NOW + timedelta(seconds=60))
    with pytest.raises(Unauthenticated, match="not made by this"):
        tokens.read("mj1" + token[3:], NOW)  # without its limits to a release that knows none


@pytest.fixture
async def ledgers(tmp_path):
    """Of two replicas that share a store."""
    store = SqliteStore(tmp_path / "tokens.sqlite")
    yield TokenLedger(store), TokenLedger(store)
    await store.close()


async def test_a_revoked_token_stays_revoked_at_every_replica(tokens, ledgers):
    here, there = ledgers
    token, other = (tokens.read(tokens.issue(API, NOW), NOW) for _ in range(2))
    await here.add(token, "me")
    await here.revoke(token.id, author="me", now=NOW)
    await there.start()
    for each in ledgers:
        with pytest.raises(Unauthenticated, match="revoked"):
            each.check(token)
        each.check(other)


async def test_of_fifty_uses_at_two_replicas_one_goes_on(tokens, ledgers):
    here, there = ledgers
    token = tokens.read(tokens.issue(API, NOW, is_once=True), NOW)
    await here.add(token, "me")

    async def use(turn):
        try:
            await (here if turn % 2 else there).spend(token, f"192.0.2.{turn}", NOW)
        except Unauthenticated as error:
            return str(error)
        return ""

    answers = [await each for each in [asyncio.ensure_future(use(turn)) for turn in range(50)]]
    assert answers.count("") == 1
    assert all("for one certificate" in answer for answer in answers if answer)
    (entry,) = there.entries()
    assert await here.has_joined(API, entry.used_by)
    await there.revoke(token.id, author="me", now=NOW)
    assert not await there.has_joined(API, entry.used_by)


async def test_a_token_that_is_not_on_record_is_not_for_one_certificate(tokens, ledgers):
    """A mesh whose ledger was lost refuses them: they may have been used."""
    token = tokens.read(tokens.issue(API, NOW, is_once=True), NOW)
    with pytest.raises(Unauthenticated, match="not on record"):
        await ledgers[0].spend(token, "192.0.2.1", NOW)


def test_no_token_makes_a_control_plane(tokens):
    with pytest.raises(Forbidden):
        tokens.issue(CONTROL_PLANE, NOW)


def test_a_short_key_is_refused():
    with pytest.raises(StartRefused, match="32"):
        JoinTokens(b"short")


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
